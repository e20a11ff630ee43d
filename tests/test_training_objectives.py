"""Laws of objectives: sums over symbols, exact gradients, draws that only seed and step decide; and of dropout."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from model_zoo import BYTE_MODELS, tiny
from smidgen.checkpoint import load_model, save_model
from smidgen.config import validate_config
from smidgen.data.batch import Batch
from smidgen.errors import ConfigError, TokenizerError
from smidgen.inference import Engine, SamplingParams
from smidgen.models import build_model
from smidgen.models.dropout import Dropout, set_dropout
from smidgen.models.heads import ExitConfig, FutureConfig, HeadsConfig, ThoughtConfig, thought_loss
from smidgen.recipe import Recipe, format_recipe
from smidgen.runtime import Runtime
from smidgen.tokenizers.bytes import ByteTokenizer
from smidgen.training import Outside, TrainConfig, fit
from smidgen.training.config import DropoutConfig, StepBudget
from smidgen.training.objectives import cross_entropy
from smidgen.training.objectives.build import build_objective, find_mismatch
from smidgen.training.objectives.cross_entropy import Softening, cross_entropy_sums
from smidgen.training.objectives.early_exit import EarlyExitConfig, depth_weights
from smidgen.training.objectives.fill_in_the_middle import FillInTheMiddleConfig, texts_of
from smidgen.training.objectives.masked import MaskedConfig
from smidgen.training.objectives.multi_token import MultiTokenConfig
from smidgen.training.objectives.next_latent import NextLatentConfig
from smidgen.training.objectives.next_token import NextTokenConfig, next_token
from smidgen.training.schedule import dropout_rate, resolve_dropout

CPU = Runtime(torch.device("cpu"), torch.float32)
TOKENIZER = ByteTokenizer()
EOT = TOKENIZER.eot_id
BYTES = {"patcher": BYTE_MODELS["bytes-fixed"].patcher}
CASES = {
    "next_token": (NextTokenConfig(), HeadsConfig()),
    "softened": (NextTokenConfig(label_smoothing=0.1, z_loss=1e-3), HeadsConfig()),
    "multi_token": (MultiTokenConfig(weights=(1.0, 0.5)), HeadsConfig(future=FutureConfig(n=2))),
    "masked": (MaskedConfig(share=0.5), HeadsConfig()),
    "fill_in_the_middle": (FillInTheMiddleConfig(rate=1.0), HeadsConfig()),
    "next_latent": (NextLatentConfig(), HeadsConfig(thought=ThoughtConfig(span=3))),
    "early_exit": (EarlyExitConfig(scale=1.0), HeadsConfig(exit=ExitConfig())),
}
PURE = ("next_token", "softened", "multi_token", "next_latent", "early_exit")
"""Objectives whose `nll` is that of the same rows read in the same way."""
BYTE_CASES = ("next_token", "softened", "multi_token", "fill_in_the_middle", "next_latent")


def model_for(heads, kind="token", **changes):
    if kind == "token":
        config = tiny(layers=(0, 1, 1, 0), **changes).model_copy(update={"vocab_size": 264, "heads": heads})
    else:
        config = BYTE_MODELS["bytes-fixed"].model_copy(update={"vocab_size": 264, "heads": heads})
    return build_model(config)


def documents(rows, length, seed=0):
    """Rows of short documents as the reader packs them: `eot text eot`, the last one cut off by the row's end."""
    draw = np.random.default_rng(seed)
    symbols, weights = np.empty((rows, length + 1), dtype=np.int64), np.ones((rows, length), dtype=np.float32)
    for row in range(rows):
        line: list[int] = []
        while len(line) < length + 1:
            if line:
                weights[row, len(line) - 1] = 0
            line += [EOT, *draw.integers(97, 123, size=draw.integers(5, 40)).tolist(), EOT]
        symbols[row] = line[: length + 1]
    return batch_of(symbols, weights)


def batch_of(symbols, weights):
    taught = int(((symbols[:, 1:] < 256) & (weights > 0)).sum())
    return Batch(*(torch.from_numpy(part.copy()) for part in (symbols[:, :-1], symbols[:, 1:], weights)), taught)


def built(name, model, seed=0):
    return build_objective(CASES[name][0], model, TOKENIZER, seed)[0]


def prepared(objective, batches):
    """What the objective makes of a step of these micro-batches."""
    return next(objective.over(lambda step: iter([batches]))(0))


def together(batches):
    """One batch of several: the rows an objective reads first stay first."""
    first = [len(b.extra.get("masked_ids", b.ids[:0])) for b in batches]

    def joined(name):
        parts = [getattr(b, name) for b in batches]
        return torch.cat(
            [p[:n] for p, n in zip(parts, first, strict=True)] + [p[n:] for p, n in zip(parts, first, strict=True)]
        )

    hidden = [b.extra["masked_ids"] for b in batches if "masked_ids" in b.extra]
    extra = {"masked_ids": torch.cat(hidden)} if hidden else {}
    return Batch(joined("ids"), joined("targets"), joined("weights"), sum(b.bytes_scored for b in batches), extra)


@pytest.mark.parametrize("name", CASES)
def test_every_cross_entropy_is_computed_by_what_is_given(name):
    """What is given may be compiled: an objective that went its own way would be slower than the others."""
    model, calls = model_for(CASES[name][1]), []

    def noted(*inputs):
        calls.append(name)
        return cross_entropy_sums(*inputs)

    objective = built(name, model)
    [micro] = prepared(objective, [documents(4, 48)])
    objective(model, micro, noted)
    assert len(calls) == {"multi_token": 3, "masked": 2, "early_exit": 4}.get(name, 1)


@pytest.mark.parametrize("name", CASES)
def test_micro_batches_add_up_to_one_batch_with_their_gradients(name):
    model = model_for(CASES[name][1])
    objective = built(name, model)
    micros = prepared(objective, [documents(3, 48, seed) for seed in range(3)])
    sums = []
    for batches in (micros, [together(micros)]):
        model.zero_grad()
        outs = [objective(model, batch) for batch in batches]
        torch.stack([out.loss for out in outs]).sum().backward()
        grads = {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}
        told = {key: sum(out.metrics[key] for out in outs) for key in outs[0].metrics}
        sums.append((torch.stack([out.loss.detach() for out in outs]).sum(), told, grads))
    assert {n for n, w in model.named_parameters() if w.requires_grad} == sums[0][2].keys()
    torch.testing.assert_close(sums[0], sums[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name", [n for n in CASES if n != "next_latent"]
)  # its target moves, cut off from the gradient
def test_gradients_are_those_of_the_loss(name):
    """Against differences along a random direction, in double precision."""
    model = model_for(CASES[name][1]).double()
    objective = built(name, model)
    [batch] = prepared(objective, [documents(2, 24)])
    batch = Batch(batch.ids, batch.targets, batch.weights.double(), extra=batch.extra)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    grads = torch.autograd.grad(objective(model, batch).loss, weights)
    generator = torch.Generator().manual_seed(3)
    ways = [torch.randn(weight.shape, generator=generator, dtype=torch.float64) for weight in weights]
    slope = sum((grad * way).sum() for grad, way in zip(grads, ways, strict=True))
    values = []
    with torch.no_grad():
        for step in (2e-4, -4e-4):
            for weight, way in zip(weights, ways, strict=True):
                weight += step * way
            values.append(objective(model, batch).loss)
    torch.testing.assert_close((values[0] - values[1]) / 4e-4, slope, rtol=2e-2, atol=1e-2)


@pytest.mark.parametrize("kind", ["token", "bytes"])
@pytest.mark.parametrize("name", PURE)
def test_nll_is_that_of_the_next_symbol_alone(name, kind):
    if kind == "bytes" and name not in BYTE_CASES:
        pytest.skip("not for byte models")
    model = model_for(CASES[name][1], kind)
    batch, out = documents(2, 48), None
    out = built(name, model)(model, batch)
    plain = next_token(model, batch)
    nll = out.loss if out.nll is None else out.nll
    torch.testing.assert_close(nll.detach(), (plain.loss if plain.nll is None else plain.nll).detach())
    assert out.nll is None or name == "next_token" or out.loss != out.nll


@pytest.mark.parametrize("kind", ["token", "bytes"])
@pytest.mark.parametrize("name", CASES)
def test_every_objective_trains_resumes_bit_for_bit_ships_and_generates(name, kind, tmp_path):
    objective_config, heads = CASES[name]
    if kind == "bytes" and name not in BYTE_CASES:
        with pytest.raises((ConfigError, ValueError)):
            model_for(heads, kind) and built(name, model_for(heads, kind))
        return
    dropout = DropoutConfig(rate=0.2, schedule="linear_down")
    config = TrainConfig(
        budget=StepBudget(steps=4), seq_len=48, batch_tokens=288, compile="off", precision="fp32",
        objective=objective_config, dropout=dropout,
    )  # fmt: skip

    def batches_from(step):
        while True:
            yield [documents(3, 48, 10 * step + micro) for micro in range(2)]
            step += 1

    def train(outside, start=None, seed=0):
        torch.manual_seed(seed)
        model = start or model_for(heads, kind)
        objective = built(name, model)
        return model, fit(model, objective.over(batches_from), objective, config, CPU, outside)

    records, saved, seen = [], {}, []
    straight, _ = train(Outside(log=records.append))

    def keep(step, tensors, meta):
        saved["state"] = (step, {name: tensor.clone() for name, tensor in tensors.items()}, dict(meta))

    train(Outside(save_state=keep, should_stop=lambda: len(seen) >= 2, on_record=[seen.append]))
    resumed, done = train(Outside(load_state=lambda: saved["state"]), seed=99)
    assert done.step == 4
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
    steps = [record for record in records if record["kind"] == "train"]
    assert all(math.isfinite(value) for record in steps for value in record.values() if isinstance(value, float))
    assert all(record["bits_per_byte"] < 12 for record in steps)
    save_model(tmp_path / "model", straight, TOKENIZER, torch.float32)
    shipped = load_model(tmp_path / "model", dtype=torch.float32).model
    assert not len(shipped.heads.future)
    params = SamplingParams(max_symbols=5, stop_ids=frozenset())
    answers = [Engine(m.eval()).generate([[EOT, 100]], params)[0].symbols for m in (straight, shipped)]
    assert answers[0] == answers[1]


def test_kept_heads_ship_and_are_left_alone_by_other_objectives(tmp_path):
    model = model_for(HeadsConfig(future=FutureConfig(n=2, keep=True)))
    save_model(tmp_path / "model", model, TOKENIZER, torch.float32)
    shipped = load_model(tmp_path / "model", dtype=torch.float32).model
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), shipped.parameters(), strict=True))
    objective, notes = build_objective(NextTokenConfig(), shipped, TOKENIZER)
    assert notes == ["model.heads.future stays as it is: train.objective next_token does not train it."]
    objective(shipped, documents(2, 48)).loss.backward()
    assert all(weight.grad is None for weight in shipped.heads.future.parameters())


def test_records_tell_metrics_as_means_per_symbol():
    model, records = model_for(CASES["multi_token"][1]), []
    config = TrainConfig(
        budget=StepBudget(steps=1), seq_len=48, batch_tokens=96, compile="off", objective=MultiTokenConfig()
    )
    batch = documents(2, 48)
    objective = build_objective(MultiTokenConfig(), model, TOKENIZER)[0]
    out = objective(model, batch)
    weight = batch.weights.sum()
    fit(model, lambda step: iter([[batch]]), objective, config, CPU, Outside(log=records.append))
    [record] = [record for record in records if record["kind"] == "train"]
    assert record["ahead_2"] == pytest.approx(float(out.metrics["ahead_2"] / weight))
    assert record["nll"] == pytest.approx(float(out.nll / weight))
    assert record["loss"] == pytest.approx(record["nll"] + record["ahead_2"] + record["ahead_3"])
    assert record["bits_per_byte"] == pytest.approx(float(out.nll) / batch.bytes_scored / math.log(2))


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("softening", [Softening(0.1, 0.0), Softening(0.0, 1e-2), Softening(0.2, 1e-2)])
def test_softened_cross_entropy_is_exact_in_chunks_too(softening, softcap, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    features, head = torch.randn(37, 8, generator=generator), torch.randn(50, 8, generator=generator)
    targets = torch.randint(0, 50, (37,), generator=generator)
    weights = torch.rand(37, generator=generator)
    inputs = [features.clone().requires_grad_(), head.clone().requires_grad_()]
    logits = inputs[0] @ inputs[1].T
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    bare = F.cross_entropy(logits, targets, reduction="none")
    smooth = F.cross_entropy(logits, targets, reduction="none", label_smoothing=softening.label_smoothing)
    expected = ((smooth + softening.z_loss * logits.logsumexp(-1).square()) * weights).sum()
    wanted = [expected, (bare * weights).sum(), *torch.autograd.grad(3 * expected, inputs)]
    for chunk_bytes in (1 << 30, 50 * 4 * 10):
        monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", chunk_bytes)
        sums = cross_entropy_sums(*inputs, targets, weights, softcap, softening)
        with torch.no_grad():
            again = cross_entropy_sums(features, head, targets, weights, softcap, softening)
        found = [*sums, *torch.autograd.grad(3 * sums.loss, inputs)]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(again.loss, wanted[0].detach())


def test_a_future_head_is_asked_only_within_a_text():
    model = model_for(HeadsConfig(future=FutureConfig(n=1)))
    symbols = np.array([[EOT, 97, 98, EOT, EOT, 99, 100, 101, EOT]])
    weights = np.array([[1, 1, 1, 0, 1, 1, 1, 1]], dtype=np.float32)
    objective = build_objective(MultiTokenConfig(), model, TOKENIZER)[0]
    batch = batch_of(symbols, weights)
    told = objective(model, batch).metrics["ahead_2"]
    features = model.heads.future[0](model.features(batch.ids))
    losses = F.cross_entropy(model.logits(features)[0, :-1], batch.targets[0, 1:], reduction="none")
    asked = torch.tensor([1, 1, 0, 0, 1, 1, 1])  # not from b to the second text's mark, nor across it
    torch.testing.assert_close(told, (losses * asked).sum().detach())


def test_masked_rows_are_read_both_ways_and_only_what_is_hidden_is_asked():
    model = model_for(HeadsConfig())
    objective = build_objective(MaskedConfig(share=0.5, mask_rate=0.3), model, TOKENIZER)[0]
    batch = documents(4, 48)
    [changed] = prepared(objective, [batch])
    hidden = changed.extra["masked_ids"]
    assert hidden.shape == (2, 48)
    mask = hidden == TOKENIZER.special_id("<|mask|>")
    assert torch.equal(hidden[~mask], batch.ids[:2][~mask])
    asked = changed.weights[:2] > 0
    assert torch.equal(asked[:, :-1], mask[:, 1:])
    assert not asked[:, -1].any()
    assert not mask[batch.ids[:2] == EOT].any()
    assert torch.equal(changed.weights[2:], batch.weights[2:])
    assert changed.bytes_scored == int(((batch.targets[2:] < 256) & (batch.weights[2:] > 0)).sum())
    moved = hidden.clone()
    moved[:, -1] = 98
    with torch.no_grad():
        assert not torch.equal(model.features(hidden, causal=False)[:, 0], model.features(moved, causal=False)[:, 0])
    shares = [len(prepared(objective, [documents(1, 48)] * 64)[i].extra["masked_ids"]) for i in range(64)]
    assert 16 < sum(shares) < 48


@given(seed=st.integers(0, 10_000), suffix_first=st.sampled_from([0.0, 1.0]))
def test_rearranged_texts_keep_boundaries_lengths_and_all_but_three_symbols(seed, suffix_first):
    config = FillInTheMiddleConfig(rate=1.0, suffix_first=suffix_first)
    objective = build_objective(config, model_for(HeadsConfig()), TOKENIZER, seed)[0]
    batch = documents(2, 64, seed)
    [changed] = prepared(objective, [batch])
    before, after = (torch.cat([b.ids, b.targets[:, -1:]], 1).numpy() for b in (batch, changed))
    assert np.array_equal(before == EOT, after == EOT)
    marks = [TOKENIZER.special_id(f"<|fim_{part}|>") for part in ("prefix", "suffix", "middle")]
    for row in range(2):
        for start, end in texts_of(before[row], EOT):
            old, new = before[row, start:end].tolist(), after[row, start:end].tolist()
            if end - start < 16:
                assert old == new
                continue
            assert [symbol for symbol in new if symbol in marks] == marks
            prefix_at, suffix_at, middle_at = (new.index(mark) for mark in marks)
            prefix, suffix = new[prefix_at + 1 : suffix_at], new[suffix_at + 1 : middle_at]
            assert prefix_at == 0
            if suffix_first:
                assert prefix == []
                assert new[middle_at + 1 :] + suffix == old[:-3]
            else:
                assert prefix + new[middle_at + 1 :] + suffix == old[:-3]
    asked = changed.weights[torch.isin(changed.targets, torch.tensor(marks))]
    assert not asked.any()
    assert changed.bytes_scored == int(((changed.targets < 256) & (changed.weights > 0)).sum())


@pytest.mark.parametrize("name", ["masked", "fill_in_the_middle"])
def test_what_is_drawn_follows_from_seed_step_rank_and_micro_batch_alone(name):
    model = model_for(HeadsConfig())

    def stream(step):
        while True:
            yield [documents(2, 48, 7)] * 2
            step += 1

    def drawn(seed, rank, step):
        changed = next(built(name, model, seed).over(stream, rank)(step))
        return torch.cat([*(b.extra.get("masked_ids", b.ids) for b in changed)]).tolist()

    later = built(name, model).over(stream)(3)
    next(later)
    again = torch.cat([*(b.extra.get("masked_ids", b.ids) for b in next(later))]).tolist()
    assert again == drawn(0, 0, 4)
    assert len({str(drawn(*key)) for key in ((0, 0, 4), (1, 0, 4), (0, 1, 4), (0, 0, 5))}) == 4


def test_a_thought_is_compared_with_what_follows_in_the_same_text():
    generator = torch.Generator().manual_seed(0)
    stream, predicted = torch.randn(1, 5, 8, generator=generator), torch.randn(1, 5, 8, generator=generator)
    weights = torch.tensor([[1.0, 0.0, 2.0, 1.0, 1.0]])
    unit = stream / stream.square().mean(-1, keepdim=True).sqrt()
    targets = {0: unit[0, 1], 2: unit[0, 3] + unit[0, 4], 3: unit[0, 4]}  # what follows 1 is another text, 4 is last
    expected = sum(
        weights[0, at] * (1 - F.cosine_similarity(predicted[0, at], target, dim=0)) for at, target in targets.items()
    )
    torch.testing.assert_close(thought_loss(stream, predicted, weights, span=2), expected)
    stream.requires_grad_()
    assert not thought_loss(stream, predicted, weights, 2).requires_grad


def test_exits_weigh_by_depth_and_none_is_left_out():
    assert depth_weights([1, 2, 3, 4], 1.0) == [1, 3, 6, 3 + 3]
    model = model_for(HeadsConfig(exit=ExitConfig(every=2)))
    objective = build_objective(EarlyExitConfig(weights=(1, 3)), model, TOKENIZER)[0]
    out = objective(model, documents(2, 48))
    torch.testing.assert_close(out.loss.detach(), 0.25 * out.metrics["exit_2"] + 0.75 * out.nll)


def test_what_a_model_cannot_do_is_refused_when_the_recipe_is_read():
    def recipe(**changes):
        return validate_config({"tokenizer": {"type": "bytes"}} | changes, Recipe, "r.toml")

    token = {"vocab_size": 264}
    for objective, head in (("multi_token", "future"), ("early_exit", "exit"), ("next_latent", "thought")):
        with pytest.raises(ConfigError, match=rf"{objective} trains model.heads.{head}, which this model lacks"):
            recipe(model=token, train={"objective": {"type": objective}})
        told = recipe(model=token | {"heads": {head: {}}}, train={"objective": {"type": objective}})
        assert f"[model.heads.{head}]" in format_recipe(told)
    with pytest.raises(ConfigError, match=r"heads.future is trained by train.objective multi_token, not by next_token"):
        recipe(model=token | {"heads": {"future": {}}})
    with pytest.raises(ConfigError, match="weights has 2 numbers for 3 future heads"):
        recipe(
            model=token | {"heads": {"future": {"n": 3}}},
            train={"objective": {"type": "multi_token", "weights": [1, 1]}},
        )
    with pytest.raises(ConfigError, match="every"):
        recipe(model=token | {"heads": {"exit": {"every": 8}}}, train={"objective": {"type": "early_exit"}})
    assert "[model.heads" not in format_recipe(recipe(model=token))
    bytes_config = BYTE_MODELS["bytes-fixed"]
    assert "cannot train a bytepatch model" in (find_mismatch(MaskedConfig(), bytes_config) or "")

    class NoMask(ByteTokenizer):
        def special_id(self, symbol):
            raise TokenizerError("it has none")

    with pytest.raises(ConfigError, match="masked needs a reserved symbol"):
        build_objective(MaskedConfig(), model_for(HeadsConfig()), NoMask())


def test_dropout_drops_at_its_rate_keeps_the_mean_and_costs_nothing_when_off():
    dropout, x = Dropout(), torch.ones(400, 100)
    state = torch.get_rng_state()
    assert dropout(x) is x
    set_dropout(dropout, 0.25)
    assert dropout.eval()(x) is x
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(0)
    dropped = dropout.train()(x)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.02)


def test_a_model_drops_only_while_training_and_only_when_asked():
    model = model_for(HeadsConfig()).train()
    ids = torch.arange(12)[None]
    with torch.no_grad():
        plain = model(ids)
        set_dropout(model, 0.5)
        assert not torch.equal(model(ids), model(ids))
        assert torch.equal(model.eval()(ids), plain)
        set_dropout(model.train(), 0.0)
        assert torch.equal(model(ids), plain)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.1, 0.1, 0.1, 0.1, 0.1]),
        ("early_cut", [0.1, 0.0, 0.0, 0.0, 0.0]),
        ("linear_up", [0.0, 0.025, 0.05, 0.075, 0.1]),
        ("linear_down", [0.1, 0.075, 0.05, 0.025, 0.0]),
        ("triangular", [0.0, 0.05, 0.1, 0.05, 0.0]),
    ],
)
def test_dropout_follows_its_schedule(schedule, rates):
    config = DropoutConfig(rate=0.1, schedule=schedule)
    assert [dropout_rate(share, config) for share in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx(rates)
    half = config.model_copy(update={"until": 0.5})
    assert dropout_rate(0.75, half) == pytest.approx(rates[-1])


def test_dropout_is_chosen_by_how_often_the_data_is_read():
    for readings, rate in ((None, 0.0), (0.0, 0.0), (4.9, 0.0), (10, 0.1), (20, 0.2), (1000, 0.3)):
        assert resolve_dropout(DropoutConfig(), readings)[0].rate == rate
    told = resolve_dropout(DropoutConfig(), 20.0)[1]
    assert told == "dropout 0.2: the data is read about 20.0 times; it pays above 5"
    assert resolve_dropout(DropoutConfig(rate=0.3), 1.0) == (DropoutConfig(rate=0.3), None)
    assert dropout_rate(0.5, DropoutConfig()) == 0.0


def test_a_compiled_model_is_compiled_once_however_the_rate_moves():
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    dropout, x = Dropout().train(), torch.ones(8, 8)
    set_dropout(dropout, 0.1)
    compiled = torch.compile(dropout, backend=count, dynamic=False)
    for rate in (0.1, 0.2, 0.05, 0.3):
        set_dropout(dropout, rate)
        kept = compiled(x).unique().tolist()
        assert kept[-1] == pytest.approx(1 / (1 - rate))
    assert len(graphs) == 1
