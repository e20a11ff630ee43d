"""Laws of fine-tuning: what is taught, what a step holds, and what is saved of a model most of which is frozen."""

import json
import math

import pytest
import torch
from torch import nn

from model_zoo import EVERY_MODEL, MODELS, VOCAB, randomized, tiny
from smidgen.data.batch import Batch
from smidgen.data.supervised import ExampleStream, StepLayout, encode_examples, read_talks
from smidgen.errors import CheckpointError, ConfigError, DataError, TrainingError
from smidgen.models import build_model
from smidgen.runtime import Runtime
from smidgen.tokenizers.bytes import ByteTokenizer
from smidgen.tokenizers.chat import Message
from smidgen.training import Outside, fit
from smidgen.training.config import AdamWConfig, StepBudget, TrainConfig
from smidgen.training.fine_tuning import LEARNING_RATES, fine_tuning_config
from smidgen.training.objectives import cross_entropy
from smidgen.training.objectives.next_token import NextTokenConfig, next_token
from smidgen.training.objectives.policy import PolicyConfig
from smidgen.training.objectives.preference import PreferenceConfig
from smidgen.training.optim import build_optimizer
from smidgen.training.precision import cast_frozen
from smidgen.training.state import RunState
from smidgen.training.watch import LossWatch

CPU = Runtime(torch.device("cpu"), torch.float32)
BYTES = ByteTokenizer()
SHAPE = tiny().model_copy(update={"vocab_size": BYTES.vocab_size, "max_seq_len": 128})


def talk(n):
    return (Message("user", f"{n} + 1 ="), Message("assistant", str(n + 1) + "!" * (n % 7)))


TALKS = [talk(n) for n in range(30)]


def stream(talks=TALKS, examples=8, seed=0, **layout):
    encoded = encode_examples(BYTES, talks, 100)
    return ExampleStream(encoded.batch, encoded.lengths, StepLayout(examples, **layout), seed)


def taught(batch):
    rows = zip(batch.targets, batch.weights, strict=True)
    return [BYTES.decode(targets[weights > 0].tolist()) for targets, weights in rows]


def test_only_answers_are_taught_and_nothing_of_an_example_is_in_another_row():
    batch = encode_examples(BYTES, TALKS[:3], 100).batch([0, 2, 1])
    assert [answer.strip() for answer in taught(batch)] == ["1", "3!!", "2!"]
    starts = (batch.ids == BYTES.eot_id) & (batch.targets != BYTES.eot_id)
    assert starts.sum(1).tolist() == [1, 1, 1]
    assert batch.bytes_scored == sum(map(len, taught(batch)))


def test_what_is_not_taught_costs_no_logits_and_changes_nothing(monkeypatch):
    model = randomized(SHAPE)
    batch = encode_examples(BYTES, TALKS[:4], 100).batch(range(4))
    plain = Batch(batch.ids, batch.targets, batch.weights)
    seen = []

    def sums(features, *others):
        seen.append(len(features))
        return cross_entropy.cross_entropy_sums(features, *others)

    one, other = next_token(model, batch, sums).loss, next_token(model, plain, sums).loss
    torch.testing.assert_close(one, other)
    assert seen == [int((batch.weights > 0).sum()), batch.ids.numel()]


@pytest.mark.parametrize("name", ["gqa", "untied", "depth-lora"])
def test_packed_examples_teach_what_they_teach_in_rows_of_their_own(name):
    shape = EVERY_MODEL[name].model_copy(update={"vocab_size": BYTES.vocab_size})
    encoded, chosen = encode_examples(BYTES, TALKS, 100), [5, 0, 17, 3]
    found = []
    for batch in (encoded.batch(chosen), encoded.packed(chosen)):
        model = randomized(shape)
        out = next_token(model, batch)
        out.loss.backward()
        found.append((out.loss.detach(), [weight.grad for weight in model.parameters()], batch.bytes_scored))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)
    assert batch.ids.shape == (1, -(-sum(len(encoded.examples[n].ids) - 1 for n in chosen) // 8) * 8)


def test_a_packed_step_has_the_same_examples_in_fewer_symbols():
    encoded = encode_examples(BYTES, TALKS, 100)
    layout = StepLayout(10, micro_symbols=150)
    packed = ExampleStream(encoded.packed, encoded.lengths, layout, packed=True)
    for number in range(3):
        micros, apart = packed.step(number), stream(examples=10, micro_symbols=150).step(number)
        answers = [BYTES.decode(micro.targets[micro.weights > 0].tolist()) for micro in micros]
        assert sorted("".join(answers)) == sorted("".join(answer for micro in apart for answer in taught(micro)))
        assert len(micros) <= len(apart)
        assert all(micro.ids.numel() <= 152 for micro in micros)


def test_a_step_reads_each_example_once_an_epoch_sorted_within_memory():
    steps = stream(examples=10, micro_symbols=150)
    micros = [micro for number in range(3) for micro in steps.step(number)]
    assert sorted(answer for micro in micros for answer in taught(micro)) == sorted(
        taught(encode_examples(BYTES, TALKS, 100).batch(range(30)))
    )
    assert all(micro.ids.numel() <= 150 or len(micro.ids) == 1 for micro in micros)
    widths = [micro.ids.shape[1] for micro in steps.step(1)]
    assert widths == sorted(widths, reverse=True)
    assert steps.fill(0) > 0.9
    assert steps.epochs_at(3) == 1


def test_steps_need_no_state_and_ranks_share_them():
    alone, again = stream(examples=6), stream(examples=6)
    assert taught(next(alone.batches_from(7))[0]) == taught(again.step(7)[0])
    ranks = [stream(examples=6, rank=rank, world=2) for rank in (0, 1)]
    together = sorted(answer for rank in ranks for micro in rank.step(4) for answer in taught(micro))
    assert together == sorted(answer for micro in alone.step(4) for answer in taught(micro))
    with pytest.raises(ConfigError, match="idle"):
        stream(examples=1, rank=0, world=2)


def test_examples_that_cannot_be_taught_are_refused_or_told():
    with pytest.raises(DataError, match="example 2: a conversation of user teaches nothing"):
        encode_examples(BYTES, [TALKS[0], TALKS[0][:1]], 100)
    with pytest.raises(DataError, match="no examples"):
        encode_examples(BYTES, [], 100)
    with pytest.raises(DataError, match="all 30 examples are longer than 10"):
        encode_examples(BYTES, TALKS, 10)
    long = (Message("user", "tell"), Message("assistant", "so " * 50))
    encoded = encode_examples(BYTES, [*TALKS, long], 100)
    assert len(encoded.examples) == 30
    assert "31 examples, the longest of 1" in encoded.note
    assert "1 of more than 100 are left out" in encoded.note


def test_talks_are_read_from_the_usual_columns(tmp_path):
    rows = [
        {"messages": [{"role": m.role, "content": m.content} for m in TALKS[3]]},
        {"prompt": TALKS[3][0].content, "completion": TALKS[3][1].content},
        {"question": TALKS[3][0].content, "answer": TALKS[3][1].content, "level": 2},
    ]
    path = tmp_path / "talks.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert read_talks(path) == [TALKS[3]] * 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"text": "x"}', r"talks.jsonl:1: has no conversation.*it has text"),
        ('{"messages": "x"}', "messages must be a list"),
        ('{"messages": [{"role": "user"}]}', "messages must be a list"),
        ('{"question": "x", "answer": 3}', "answer is int, not text"),
        ("", "holds no records"),
    ],
)
def test_a_record_without_a_talk_is_refused_with_its_place(text, reason, tmp_path):
    path = tmp_path / "talks.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=reason):
        read_talks(path)


def test_a_file_that_holds_no_records_is_refused(tmp_path):
    with pytest.raises(DataError, match="no file of records"):
        read_talks(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="no file of records"):
        read_talks(tmp_path)


def test_fine_tuning_learns_answers_and_tells_their_bits():
    model, records = build_model(SHAPE), []
    config = fine_tuning_config("full", NextTokenConfig(), StepBudget(steps=60), 1e-2)
    steps = stream(examples=16)
    fit(model, steps.batches_from, next_token, config, CPU, Outside(on_record=[records.append]))
    assert records[-1]["loss"] < 0.5 * records[0]["loss"]
    first, [batch] = records[0], steps.step(0)
    bits = first["loss"] * float(batch.weights.sum()) / batch.bytes_scored / math.log(2)
    assert first["bits_per_byte"] == pytest.approx(bits)


def test_a_step_without_anything_taught_stops_before_it_moves_a_weight():
    model = build_model(MODELS["gqa"])
    before = model.model.norm.weight.detach().clone()
    ids = torch.zeros(2, 8, dtype=torch.long)
    empty = iter([[Batch(ids, ids, torch.zeros(2, 8))]])
    config = TrainConfig(budget=StepBudget(steps=2), compile="off", precision="fp32")
    with pytest.raises(TrainingError, match="nothing is supervised in step 1"):
        fit(model, lambda step: empty, next_token, config, CPU)
    assert torch.equal(model.model.norm.weight, before)


def rows_for(step, rows=2, length=16):
    ids = torch.randint(0, VOCAB, (rows, length + 1), generator=torch.Generator().manual_seed(step))
    return Batch(ids[:, :-1], ids[:, 1:], torch.ones(rows, length))


def endless(step):
    while True:
        yield [rows_for(step)]
        step += 1


class Shifted(nn.Module):
    """The smallest adapter there is: a number added to what a frozen norm says."""

    def __init__(self, norm):
        super().__init__()
        self.base = norm
        self.v = nn.Parameter(torch.zeros(2, 1))

    def forward(self, x):
        return self.base(x) * (1 + self.v.sum())


def adapted(seed=0, base_dtype=None):
    model = build_model(MODELS["gqa"], seed).requires_grad_(False)
    model.model.norm = Shifted(model.model.norm)
    if base_dtype is not None:  # as a base that was stored in it
        for weight in model.parameters():
            weight.data = weight.data.to(base_dtype).float()
    return model


def test_of_a_frozen_base_a_state_holds_a_hash_alone_and_resumes_bit_for_bit():
    config = fine_tuning_config("tinylora", NextTokenConfig(), StepBudget(steps=9))
    straight = adapted()
    fit(straight, endless, next_token, config, CPU)
    saved, seen = [], []

    def keep(step, tensors, meta):
        saved.append((step, {name: tensor.clone() for name, tensor in tensors.items()}, dict(meta)))

    stop_at_4 = Outside(save_state=keep, should_stop=lambda: len(seen) >= 4, on_record=[seen.append])
    assert fit(adapted(), endless, next_token, config, CPU, stop_at_4).ended == "interrupted"
    state = saved[-1]
    assert [name for name in state[1] if name.startswith("model.")] == ["model.model.norm.v"]
    assert sum(tensor.numel() for name, tensor in state[1].items() if not name.startswith("random")) == 2 * 3 + 1
    resumed = adapted()
    fit(resumed, endless, next_token, config, CPU, Outside(load_state=lambda: state))
    assert torch.equal(resumed.model.norm.v, straight.model.norm.v)
    assert straight.model.norm.v.any()
    for other in (adapted(seed=1), build_model(MODELS["gqa"])):
        with pytest.raises(
            CheckpointError, match=f"of another model: frozen weights {state[2]['frozen']} there, .* here"
        ):
            fit(other, endless, next_token, config, CPU, Outside(load_state=lambda: state))


def test_where_all_weights_train_no_hash_is_made():
    assert "frozen" not in RunState(build_model(MODELS["gqa"]), TrainConfig(), torch.float32).meta()


def test_frozen_weights_get_no_gradient_and_a_frozen_head_none_in_chunks(monkeypatch):
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", 4 * VOCAB * 5)
    gradients = []
    for chunked in (True, False):
        if not chunked:
            monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", 1 << 30)
        model = adapted()
        next_token(model, rows_for(0)).loss.backward()
        assert [name for name, weight in model.named_parameters() if weight.grad is not None] == ["model.norm.v"]
        gradients.append(model.model.norm.v.grad)
    torch.testing.assert_close(*gradients)


def test_casting_what_is_frozen_changes_no_number():
    half = torch.bfloat16
    losses, hashes = [], []
    for is_cast in (False, True):
        model = adapted(base_dtype=half)
        assert cast_frozen(model, half) > 10 if is_cast else True
        model.compute_dtype = half
        hashes.append(RunState(model, TrainConfig(), half).meta()["frozen"])
        out = next_token(model, rows_for(0))
        out.loss.backward()
        losses.append((out.loss.detach(), model.model.norm.v.grad))
    assert torch.equal(losses[0][0], losses[1][0])
    assert torch.equal(losses[0][1], losses[1][1])
    assert model.model.layers[0].mlp.up_proj.weight.dtype == half
    assert model.model.norm.base.weight.dtype == model.model.norm.v.dtype == torch.float32
    assert hashes[0] == hashes[1]
    assert cast_frozen(adapted(), half) == 0, "of weights that say more than bf16 can, something would be lost"


def test_a_few_numbers_move_by_their_rate_and_decay_not():
    model = adapted()
    optimizer = build_optimizer(model, AdamWConfig(learning_rate=0.01, weight_decay=0.0), torch.float32)
    model.model.norm.v.data.fill_(1.0)
    model.model.norm.v.grad = torch.tensor([[1e-3], [-1e-5]])
    optimizer.step(1.0)
    assert model.model.norm.v.flatten().tolist() == pytest.approx([0.99, 1.01], abs=1e-4)


@pytest.mark.parametrize("adapter", LEARNING_RATES)
def test_every_adapter_has_a_rate_for_every_way_of_fine_tuning(adapter):
    rates = [
        fine_tuning_config(adapter, objective, StepBudget()).optimizer.learning_rate
        for objective in (NextTokenConfig(), PreferenceConfig(), PolicyConfig())
    ]
    assert rates[0] > rates[1] > 0 < rates[2] <= rates[0]
    with pytest.raises(ConfigError, match="no learning rate is known for adapter soft_prompt"):
        fine_tuning_config("soft_prompt", NextTokenConfig(), StepBudget())


def test_a_watch_that_is_off_sees_no_spike_but_stops_at_what_is_no_number():
    watch = LossWatch("off")
    watch.see((step, 1000.0 * step - 500) for step in range(50))
    assert watch.is_calm
    assert not watch.spiked
    with pytest.raises(TrainingError, match="became inf"):
        watch.see([(50, math.inf)])
