"""Laws of rollouts: the same seed and weights give the same answers, and batches hold what was answered."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch

from model_zoo import randomized, tiny
from smidgen.adapting.lesson import as_it_was
from smidgen.config import validate_config
from smidgen.errors import ConfigError, DataError
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.models.llama import LlamaConfig
from smidgen.runtime import Runtime
from smidgen.surgery.adapter import attach
from smidgen.surgery.config import read_adapter
from smidgen.tasks.base import Example, Grade
from smidgen.tokenizers.bytes import ByteTokenizer
from smidgen.tokenizers.chat import Message
from smidgen.training import Outside, TrainConfig, fit
from smidgen.training.advantages import AdvantageConfig
from smidgen.training.config import AdamWConfig, MuonConfig, ScheduleConfig, StepBudget
from smidgen.training.objectives.policy import Policy, PolicyConfig, log_probs_of
from smidgen.training.optim import build_optimizer
from smidgen.training.policy_batches import policy_batches
from smidgen.training.rollouts import (
    OnPolicy,
    RolloutConfig,
    earn,
    measure_gap,
    open_engine,
    rewards_of,
    rollout,
    score_vectors,
)

CPU = Runtime(torch.device("cpu"), torch.float32)
TOKENIZER = ByteTokenizer()
WARM = SamplingParams(temperature=1.0, max_symbols=12)
SHAPE = tiny().model_dump() | {"vocab_size": TOKENIZER.vocab_size, "max_seq_len": 128}


class Letters:
    """How much of an answer are capital letters: something a tiny model can learn in seconds."""

    name = "letters"

    def __init__(self, *reward):
        self._reward = reward

    def examples(self):
        return itertools.islice(self.training_examples(1), 4)

    def training_examples(self, seed):
        for number in itertools.count():
            yield Example(f"letters/{seed}/{number}", "say " + "so " * (number % 3) + str(number), "A")

    def prompt(self, example):
        return [Message("user", example.question)]

    def grade(self, example, answer):
        return Grade(0.0, 0.0, True)

    def reward(self, example, answer):
        if self._reward:
            return self._reward[0]
        return sum(letter.isupper() for letter in answer) / (1 + len(answer))


def make(adapter="tinylora:3"):
    model = randomized(validate_config(SHAPE, LlamaConfig, "shape"))
    return model, attach(model, read_adapter(adapter))


def engine_over(model, rows=8):
    return Engine(prepare_for_decoding(model), TOKENIZER, max_rows=rows)


def some_examples(n=3):
    return list(itertools.islice(Letters().training_examples(0), n))


def told(groups):
    return [[(answer.symbols, answer.log_probs, answer.text, answer.reward) for answer in group] for group in groups]


def test_groups_follow_from_seed_and_weights_alone():
    model, _ = make()
    examples = some_examples()
    groups = rollout(engine_over(model), Letters(), examples, 4, WARM, seed=5)
    assert [[answer.example for answer in group] for group in groups] == [[example] * 4 for example in examples]
    assert len({tuple(answer.symbols) for group in groups for answer in group}) == 12
    few = rollout(engine_over(model, rows=2), Letters(), examples, 4, WARM, seed=5)
    assert [[answer.symbols for answer in group] for group in few] == [[a.symbols for a in g] for g in groups]
    again = engine_over(model)
    rollout(again, Letters(), examples, 4, WARM, seed=6)
    again.forget()
    assert told(rollout(again, Letters(), examples, 4, WARM, seed=5)) == told(groups)
    for group in groups:
        for answer in group:
            assert answer.reward == Letters().reward(answer.example, answer.text)
            assert answer.is_cut == (len(answer.symbols) == 12 and answer.symbols[-1] not in TOKENIZER.stop_ids)


def test_a_group_shares_its_prefill():
    model, _ = make()
    engine = engine_over(model, rows=16)
    [group] = rollout(engine, Letters(), some_examples(1), 8, WARM, seed=0)
    assert engine.prefilled_symbols == len(group[0].prompt) + 7


@pytest.mark.parametrize("kernels", ["prepared", "training"])
@pytest.mark.parametrize("adapter", ["tinylora:3", "lora:r=2", "full"])
def test_log_probs_of_answers_are_those_of_training(adapter, kernels):
    model, trained = make(adapter)
    config = RolloutConfig(prompts=2, answers=3, sampling=WARM, cut_earns=True, kernels=kernels)
    engine = open_engine(model, TOKENIZER, config, CPU)
    with torch.no_grad():
        for weight in trained.weights.values():
            weight.add_(0.1)
    steps = OnPolicy(engine, model.train(), Letters(), config, AdvantageConfig(), 0, CPU)
    batch = next(steps(0))[0]
    assert model.training
    said = log_probs_of(model.eval(), batch)
    torch.testing.assert_close(said, batch.extra["rollout_log_probs"], atol=1e-4, rtol=1e-4)
    groups = rollout(engine, Letters(), some_examples(), 2, WARM, seed=0)
    gap = measure_gap(model, groups)
    assert 0 <= gap.mean <= gap.largest < 1e-4


def test_batches_hold_what_was_answered():
    model, _ = make()
    groups = rollout(engine_over(model), Letters(), some_examples(4), 3, WARM, seed=1)
    advantages = torch.arange(12.0).view(4, 3)
    batches = policy_batches(groups, advantages, micro_symbols=150)
    assert all(batch.ids.numel() <= 150 and batch.ids.shape[1] % 8 == 0 for batch in batches)
    assert [batch.ids.shape[1] for batch in batches] == sorted((b.ids.shape[1] for b in batches), reverse=True)
    found = {}
    for batch in batches:
        for row in range(len(batch.ids)):
            taught = batch.weights[row] > 0
            first, last = int(taught.nonzero()[0]), int(taught.nonzero()[-1])
            whole = [*batch.ids[row, : last + 1].tolist(), int(batch.targets[row, last])]
            assert whole[1:] == batch.targets[row, : last + 1].tolist()
            assert taught[first : last + 1].all()
            assert not batch.extra["rollout_log_probs"][row][~taught].any()
            key = (tuple(whole[: first + 1]), tuple(batch.targets[row][taught].tolist()))
            found[key] = float(batch.extra["advantages"][row]), batch.extra["rollout_log_probs"][row][taught]
    for answer, advantage in zip(itertools.chain(*groups), advantages.flatten().tolist(), strict=True):
        given, log_probs = found[tuple(answer.prompt), tuple(answer.symbols)]
        assert given == advantage
        torch.testing.assert_close(log_probs, torch.tensor(answer.log_probs))
    assert [len(b.ids) for b in policy_batches(groups, advantages, micro_symbols=1)] == [1] * 12


def test_vectors_answer_the_same_prompts_with_the_same_draws():
    model, adapter = make()
    examples, engine = some_examples(), engine_over(model)
    vectors = torch.cat([torch.zeros(1, 3), torch.randn(2, 3, generator=torch.Generator().manual_seed(0))])
    groups = rollout(engine, Letters(), examples, 2, WARM, 7, vectors)
    assert [[a.vector for a in group] for group in groups] == [[v, v] for v in range(3) for _ in examples]
    for number, vector in enumerate(vectors):
        with torch.no_grad():
            adapter.vector.v.copy_(vector.view_as(adapter.vector.v))
        alone = rollout(engine_over(model), Letters(), examples, 2, WARM, 7)
        assert [[a.symbols for a in g] for g in groups[3 * number :][:3]] == [[a.symbols for a in g] for g in alone]
    scores = score_vectors(engine, Letters(), examples, vectors, WARM, 7, n=2)
    assert scores == pytest.approx([float(rewards_of(groups[3 * v :][:3]).mean()) for v in range(3)])


class Broken:
    """A reward of somebody's own."""

    def __float__(self):
        return 1.0


@pytest.mark.parametrize(
    "value", [0.5, np.float32(0.5), np.float16(0.5), torch.tensor(0.5), torch.tensor([0.5]), np.arange(2).mean()]
)
def test_a_reward_may_be_any_library_s_number(value):
    assert earn(Letters(value), some_examples()[0], "x") == 0.5
    assert (
        earn(Letters(np.bool_(True)), some_examples()[0], "x")
        == earn(Letters(np.int64(1)), some_examples()[0], "")
        == 1
    )


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, None, "1", Broken(), np.float32("nan"), np.str_("1"), np.ones(2)]
)
def test_a_reward_that_is_no_number_is_named(value):
    with pytest.raises(DataError, match=r"letters: the reward of example letters/0/1 is .*not a finite number"):
        earn(Letters(value), some_examples()[1], "x")


def test_a_reward_that_raises_is_named():
    with pytest.raises(DataError, match="example letters/0/0 raised RuntimeError: a Tensor with 2 elements"):
        earn(Letters(torch.ones(2)), some_examples()[0], "x")
    task = Letters()
    task.reward = lambda example, answer: [][1]
    with pytest.raises(DataError, match=r"example letters/0/0 raised IndexError: list index out of range"):
        rollout(engine_over(make()[0]), task, some_examples(), 2, WARM, 0)
    assert earn(Letters(True), some_examples()[0], "") == 1.0


def test_rollouts_that_cannot_be_meant_get_one_clear_line():
    model, _ = make()
    with pytest.raises(ConfigError, match="4 answers at temperature 0"):
        rollout(engine_over(model), Letters(), some_examples(), 4, SamplingParams(), 0)
    long = Example("letters/long", "x" * 200, "A")
    engine = engine_over(model)
    with pytest.raises(DataError, match=r"example letters/long has .* no room to answer in a context of 128"):
        rollout(engine, Letters(), [*some_examples(), long], 2, WARM, 0)
    with pytest.raises(DataError, match="NaN"):
        rollout(engine, Letters(), some_examples(), 2, WARM, 0, torch.tensor([[0.0] * 3, [math.nan] * 3]))
    assert not engine.waiting
    assert not engine.running


def test_dynamic_sampling_keeps_groups_that_teach():
    model, _ = make()
    seen = []

    class Sometimes(Letters):
        def reward(self, example, answer):
            return float(len(answer) % 2) if int(example.id.split("/")[-1]) % 3 == 0 else 0.0

    def batches(draws):
        config = RolloutConfig(prompts=2, answers=4, sampling=WARM, cut_earns=True, draws=draws)
        engine = open_engine(model, TOKENIZER, config, CPU)
        steps = OnPolicy(engine, model, Sometimes(), config, AdvantageConfig(), 0, CPU, seen.append)
        return next(steps(0))

    assert any(not bool(row) for batch in batches(1) for row in batch.extra["advantages"])
    gains = torch.cat([batch.extra["advantages"] for batch in batches(5)])
    assert gains.view(-1, 4).abs().sum() > 0
    assert (seen[1].n_answers, seen[1].n_learned) == (16, 8)
    assert seen[1].informative == 0.5
    assert {"kind", "mean_reward", "cut", "sample"} <= seen[1].as_record().keys()


def train_config(steps):
    optimizer = AdamWConfig(learning_rate=0.05, weight_decay=0.0)
    schedule = ScheduleConfig(warmup=0.0)
    return TrainConfig(
        budget=StepBudget(steps=steps), seq_len=64, batch_tokens=64, compile="off", precision="fp32",
        optimizer=optimizer, schedule=schedule,
    )  # fmt: skip


def learn(adapter, steps, outside=None, kernels="prepared"):
    model, trained = make(adapter)
    config = RolloutConfig(prompts=4, answers=8, sampling=WARM, cut_earns=True, kernels=kernels)
    engine, seen = open_engine(model, TOKENIZER, config, CPU), []
    batches = OnPolicy(engine, model, Letters(), config, AdvantageConfig(), 3, CPU, seen.append)
    fit(model, batches, Policy(PolicyConfig()), train_config(steps), CPU, outside)
    return [weight.detach().clone() for weight in trained.weights.values()], seen


@pytest.mark.parametrize("config", [AdamWConfig(), MuonConfig()], ids=["adamw", "muon"])
def test_a_step_shows_in_the_versions_of_weights(config):
    """By them engines and adapters know that what they made of weights is out of date; fused AdamW tells nobody."""
    model = randomized(tiny())
    optimizer = build_optimizer(model, config, torch.float32)
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    before = [weight._version for weight in model.parameters()]
    optimizer.step(1.0)
    assert all(weight._version > old for weight, old in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("adapter", ["lora:r=2", "full"])
def test_rewards_rise(adapter):
    _, seen = learn(adapter, 12)
    assert [s.step for s in seen] == list(range(1, 13))
    assert sum(s.mean_reward for s in seen[-3:]) > 1.2 * sum(s.mean_reward for s in seen[:3])


def test_the_first_use_of_an_answer_is_never_clipped_and_later_ones_are_compared_with_it():
    model, adapter = make("lora:r=2")
    config = RolloutConfig(prompts=2, answers=4, sampling=WARM, cut_earns=True, updates=3)
    engine, seen, records = open_engine(model, TOKENIZER, config, CPU), [], []
    begun = {name: tensor.clone() for name, tensor in adapter.state().items()}
    batches = OnPolicy(
        engine, model, Letters(), config, AdvantageConfig(), 3, CPU, seen.append,
        reference=functools.partial(as_it_was, adapter, begun),
    )  # fmt: skip
    fit(model, batches, Policy(PolicyConfig(kl=0.1)), train_config(6), CPU, Outside(on_record=[records.append]))
    assert [s.step for s in seen] == [1, 4]
    trained = [record for record in records if record["kind"] == "train"]
    assert [record["ratio"] == 1 for record in trained] == [True, False, False] * 2
    assert [record["kl"] > 1e-6 for record in trained] == [False] + [True] * 5


def test_prompts_that_leave_no_room_are_left_out_and_told_of():
    class Long(Letters):
        def training_examples(self, seed):
            for number in itertools.count():
                yield Example(f"letters/{number}", "so " * (60 * (number % 2 or every)) + str(number), "A")

    model, _ = make()
    config = RolloutConfig(prompts=2, answers=2, sampling=WARM, cut_earns=True)
    for every in (0, 1):
        engine, told = open_engine(model, TOKENIZER, config, CPU), []
        steps = OnPolicy(engine, model, Long(), config, AdvantageConfig(), 0, CPU, say=told.append)
        if every:
            with pytest.raises(DataError, match=r"leaves no room to answer .* nor had the 999 before it"):
                next(steps(0))
        else:
            assert sum(batch.n_sequences for batch in next(steps(1))) == 4
            assert ["Prompts like it are left out" in line for line in told] == [True]


@pytest.mark.parametrize("kernels", ["prepared", "training"])
def test_resumed_equals_uninterrupted_bit_for_bit(kernels):
    straight, _ = learn("tinylora:28", 5, kernels=kernels)
    saved = {}

    def keep(step, tensors, meta):
        saved[step] = (step, {name: tensor.clone() for name, tensor in tensors.items()}, dict(meta))

    learn("tinylora:28", 5, Outside(save_state=keep, checkpoint_steps=2), kernels)
    resumed, seen = learn("tinylora:28", 5, Outside(load_state=lambda: saved[2]), kernels)
    assert [s.step for s in seen] == [3, 4, 5]
    assert all(torch.equal(one, other) for one, other in zip(straight, resumed, strict=True))
