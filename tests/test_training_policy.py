"""Laws of policy gradients: exact chunked log-probabilities, each variant by its formula, and a reward that rises."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from model_zoo import EVERY_MODEL, MODELS, VOCAB, randomized, some_ids
from smidgen.config import validate_config
from smidgen.data.batch import Batch
from smidgen.errors import ConfigError, TrainingError
from smidgen.models import build_model
from smidgen.recipe import Recipe
from smidgen.runtime import Runtime
from smidgen.tokenizers.bytes import ByteTokenizer
from smidgen.training import Outside, fit
from smidgen.training.advantages import AdvantageConfig, group_advantages, informative_groups, role_advantages
from smidgen.training.config import StepBudget
from smidgen.training.fine_tuning import fine_tuning_config
from smidgen.training.objectives import log_probs as module
from smidgen.training.objectives.build import build_objective
from smidgen.training.objectives.log_probs import supervised_log_probs, target_log_probs
from smidgen.training.objectives.policy import Policy, PolicyConfig, WeighAnswers, divergence
from smidgen.training.rl_preflight import describe, look_before_learning, require_signal

CPU = Runtime(torch.device("cpu"), torch.float32)
N, D, V = 37, 8, 50


def inputs(seed=0):
    draw = torch.Generator().manual_seed(seed)
    features, head = torch.randn(N, D, generator=draw), torch.randn(V, D, generator=draw)
    return features, head, torch.randint(0, V, (N,), generator=draw), torch.randn(N, generator=draw)


def naive(features, head, targets, softcap):
    logits = features @ head.T
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    everything = logits.log_softmax(-1)
    return everything.gather(-1, targets[:, None])[:, 0], -(everything.exp() * everything).sum(-1)


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("frozen", [False, True], ids=["learning head", "frozen head"])
@pytest.mark.parametrize("rows", [1000, 10, 1], ids=["one chunk", "four chunks", "a chunk each"])
def test_chunked_log_probs_equal_the_naive_ones_with_gradients(softcap, frozen, rows, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * V * rows)
    results = []
    features, head, targets, slopes = inputs()
    for compute in (naive, target_log_probs):
        given_features, given_head = features.clone().requires_grad_(), head.clone().requires_grad_(not frozen)
        log_probs, entropies = compute(given_features, given_head, targets, softcap)
        (log_probs * slopes).sum().backward()
        results.append((log_probs.detach(), entropies.detach(), given_features.grad, given_head.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)
    assert (results[1][3] is None) == frozen
    with torch.no_grad():
        torch.testing.assert_close(target_log_probs(features, head, targets, softcap)[0], results[0][0])


def test_of_no_symbols_there_are_no_log_probs_and_gradients_are_zero():
    features, head, _, _ = inputs()
    for frozen in (False, True):
        given, own = features[:0].requires_grad_(), head.clone().requires_grad_(not frozen)
        told = target_log_probs(given, own, torch.zeros(0, dtype=torch.long))
        told.log_probs.sum().backward()
        assert told.log_probs.shape == told.entropies.shape == (0,)
        assert own.grad is None if frozen else not own.grad.any()


class Largest(TorchDispatchMode):
    """Watches how large tensors get."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


@pytest.mark.parametrize("frozen", [False, True], ids=["learning head", "frozen head"])
def test_all_logits_never_exist_together(frozen, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * V * 4)
    features, head, targets, _ = inputs()
    features.requires_grad_()
    head.requires_grad_(not frozen)
    with Largest() as seen:
        target_log_probs(features, head, targets).log_probs.sum().backward()
    assert seen.numel <= max(4 * V, N * D, V * D)
    assert seen.numel < N * V


@pytest.mark.parametrize("name", ["gqa", "untied", "factored", "smallest", "bytes-space", "bytes-learned"])
def test_supervised_log_probs_are_those_of_the_model(name):
    model = randomized(EVERY_MODEL[name])
    ids = some_ids(model.config, rows=3, length=17)
    weights = (torch.rand(3, 16, generator=torch.Generator().manual_seed(4)) < 0.4).float()
    batch = Batch(ids[:, :-1], ids[:, 1:], weights)
    said, _ = supervised_log_probs(model, batch)
    everything = model(batch.ids).log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]
    torch.testing.assert_close(said.log_probs, everything[weights > 0], rtol=1e-4, atol=1e-4)
    expected = (everything * (weights > 0)).sum(1)
    torch.testing.assert_close(said.sum_rows(said.log_probs, 3), expected, rtol=1e-4, atol=1e-4)


def answers(rows=4, length=12, seed=0, vocab=VOCAB):
    """Rows of a prompt and an answer of its own length, with everything a policy may ask for."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vocab, (rows, length + 1), generator=draw)
    weights = torch.zeros(rows, length)
    for row in range(rows):
        weights[row, 3 : 5 + 2 * row] = 1
    earlier = {
        f"{name}_log_probs": -4.5 + 0.5 * torch.randn(rows, length, generator=draw)
        for name in ("rollout", "old", "reference")
    }
    advantages = torch.randn(rows, generator=draw)
    return Batch(ids[:, :-1], ids[:, 1:], weights, extra={"advantages": advantages, **earlier})


def without(batch, *names):
    return replace(batch, extra={name: value for name, value in batch.extra.items() if name not in names})


def log_probs_of(model, batch):
    return model(batch.ids).log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]


def expected_loss(config, model, batch):
    """Each variant as its paper writes it, answer by answer; the mean that the loop would minimise."""
    now, total, symbols = log_probs_of(model, batch), 0.0, 0
    for row in range(len(batch.ids)):
        mask = batch.weights[row] > 0
        symbols += int(mask.sum())
        new, gain = now[row][mask], batch.extra["advantages"][row]
        old = batch.extra["old_log_probs"][row][mask]
        trust = torch.ones_like(new)
        if config.importance == "truncated":
            answered = batch.extra["rollout_log_probs"][row][mask]
            trust = (old - answered).exp().clamp(max=config.importance_cap)
        log_ratio = new - old
        ratio = (log_ratio.mean().expand_as(new) if config.level == "sequence" else log_ratio).exp()
        kept = torch.minimum(ratio * gain, ratio.clamp(1 - config.clip_low, 1 + config.clip_high) * gain)
        apart = batch.extra["reference_log_probs"][row][mask] - new
        terms = -kept * trust + config.kl * (apart.exp() - apart - 1)
        divisor = {"symbols": 1, "answers": len(new), "constant": config.answer_symbols}[config.normalize]
        total = total + terms.sum() / divisor
    return total / (symbols if config.normalize == "symbols" else len(batch.ids))


VARIANTS = {
    "grpo": PolicyConfig(normalize="answers", kl=0.04),
    "dapo": PolicyConfig(clip_high=0.28),
    "dr-grpo": PolicyConfig(normalize="constant", answer_symbols=20),
    "gspo": PolicyConfig(level="sequence", normalize="answers", clip_low=0.03, clip_high=0.04),
    "truncated": PolicyConfig(importance="truncated", importance_cap=1.5),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_is_its_formula_with_its_gradient(name):
    config, model = VARIANTS[name], randomized(MODELS["gqa"])
    weighted = WeighAnswers(config.normalize)(answers(), None)
    out = Policy(config)(model, weighted)
    loss = out.loss / weighted.weights.sum()
    expected = expected_loss(config, model, answers())
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    grads, wanted = (torch.autograd.grad(value, list(model.parameters())) for value in (loss, expected))
    torch.testing.assert_close(grads, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_micro_batches_of_answers_add_up_to_one_batch(name):
    config, model = VARIANTS[name], randomized(MODELS["gqa"])
    weigh = WeighAnswers(config.normalize)
    whole = weigh(answers(rows=4), None)
    parts = [
        Batch(
            *(getattr(whole, key)[rows] for key in ("ids", "targets", "weights")),
            extra={key: value[rows] for key, value in whole.extra.items()},
        )
        for rows in (slice(0, 1), slice(1, 4))
    ]
    outs = [Policy(config)(model, part) for part in parts]
    torch.testing.assert_close(sum(out.loss for out in outs), Policy(config)(model, whole).loss)


def test_on_policy_the_gradient_is_that_of_reinforce_and_the_ratio_is_one():
    model = randomized(MODELS["gqa"])
    batch = answers()
    fresh = without(batch, "old_log_probs", "rollout_log_probs", "reference_log_probs")
    for config in (PolicyConfig(), PolicyConfig(importance="truncated"), PolicyConfig(level="sequence")):
        out = Policy(config)(model, fresh)
        grads = torch.autograd.grad(out.loss, list(model.parameters()))
        plain = -(log_probs_of(model, batch) * batch.weights * batch.extra["advantages"][:, None]).sum()
        if config.level == "token":
            torch.testing.assert_close(
                grads, torch.autograd.grad(plain, list(model.parameters())), rtol=1e-4, atol=1e-5
            )
        n = float(batch.weights.sum())
        assert float(out.metrics["ratio"]) == pytest.approx(n)
        assert float(out.metrics["clipped"]) == float(out.metrics["mismatch"]) == 0
        assert 0 < float(out.metrics["entropy"]) / n < math.log(VOCAB)


def test_what_is_clipped_gives_no_gradient():
    model = randomized(MODELS["gqa"])
    batch = answers()
    with torch.no_grad():
        now = log_probs_of(model, batch)
    gains = torch.tensor([1.0, 1.0, -1.0, -1.0])
    batch = replace(batch, extra={"advantages": gains, "old_log_probs": now - gains[:, None]})
    out = Policy(PolicyConfig())(model, batch)
    grads = torch.autograd.grad(out.loss, list(model.parameters()))
    assert all(not grad.any() for grad in grads)
    assert float(out.metrics["clipped"]) == float(batch.weights.sum())


def test_ratios_far_off_do_not_overflow():
    model = randomized(MODELS["gqa"])
    batch = answers()
    batch = replace(batch, extra=batch.extra | {"old_log_probs": torch.full((4, 12), -500.0)})
    for config in VARIANTS.values():
        assert Policy(config)(model, batch).loss.isfinite()


def test_what_an_answer_lacks_is_named():
    model = randomized(MODELS["gqa"])
    with pytest.raises(TrainingError, match="policy needs advantages"):
        Policy(PolicyConfig())(model, without(answers(), "advantages"))
    with pytest.raises(TrainingError, match="needs reference_log_probs"):
        Policy(PolicyConfig(kl=0.1))(model, without(answers(), "reference_log_probs"))
    batch = answers()
    batch.extra["advantages"][1] = float("nan")
    with pytest.raises(TrainingError, match="1 of 4 advantages are not finite"):
        WeighAnswers("symbols")(batch, None)


@pytest.mark.parametrize("kind", ["policy", "preference"])
def test_text_alone_trains_no_policy(kind):
    with pytest.raises(ConfigError, match=rf"objective {kind} learns from .*smidgen adapt"):
        validate_config({"train": {"objective": {"type": kind}}}, Recipe, "recipe.toml")


def test_divergence_is_zero_between_equals_and_close_to_the_true_one():
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.randn(5, generator=draw).log_softmax(0) for _ in range(2))
    symbols = torch.multinomial(one.exp(), 200_000, replacement=True, generator=draw)
    estimates = divergence(one[symbols], other[symbols])
    assert (estimates >= 0).all()
    assert float(estimates.mean()) == pytest.approx(float((one.exp() * (one - other)).sum()), rel=0.05)
    assert not divergence(one, one).any()


GROUPS = st.lists(st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=4), min_size=1, max_size=5)


@given(rewards=GROUPS, baseline=st.sampled_from(["mean", "leave_one_out"]), by_deviation=st.booleans())
def test_advantages_sum_to_zero_in_each_group_and_are_exactly_zero_without_signal(rewards, baseline, by_deviation):
    rewards = torch.tensor(rewards)
    advantages = group_advantages(rewards, AdvantageConfig(baseline=baseline, by_deviation=by_deviation))
    assert advantages.isfinite().all()
    torch.testing.assert_close(advantages.sum(1), torch.zeros(len(rewards)), atol=1e-3, rtol=0)
    assert not advantages[~informative_groups(rewards)].any()


def test_leaving_one_out_compares_with_the_others():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.5]])
    advantages = group_advantages(rewards, AdvantageConfig(baseline="leave_one_out", by_deviation=False))
    expected = [1 - 0.5 / 3, 0 - 1.5 / 3, 0 - 1.5 / 3, 0.5 - 1 / 3]
    assert advantages[0].tolist() == pytest.approx(expected)


def test_rewards_that_are_no_numbers_are_refused_in_one_line():
    with pytest.raises(TrainingError, match=r"2 of 6 answers .* first is nan, of answer 2 to prompt 1"):
        group_advantages(torch.tensor([[0.0, float("nan"), 1.0], [0.0, 1.0, float("inf")]]), AdvantageConfig())
    with pytest.raises(TrainingError, match="at least 2"):
        group_advantages(torch.ones(3, 1), AdvantageConfig())


def test_a_role_is_compared_with_what_it_earned_before():
    rewards, roles = torch.tensor([1.0, -1.0, 1.0, 1.0]), ["nim/first", "nim/second", "nim/first", "nim/second"]
    advantages, baselines = role_advantages(rewards, roles, {}, decay=0.5)
    assert advantages.tolist() == [1.0, -1.0, 0.5, 1.5]
    assert baselines == {"nim/first": 0.75, "nim/second": 0.25}
    again, after = role_advantages(rewards[2:], roles[2:], role_advantages(rewards[:2], roles[:2], {}, 0.5)[1], 0.5)
    assert (again.tolist(), after) == ([0.5, 1.5], baselines)


def rolled(*groups, done="stop"):
    return [[SimpleNamespace(reward=r, text=f"says {r}", symbols=[1, 2, 3], done=done) for r in g] for g in groups]


def test_a_preflight_counts_and_shows():
    seen = look_before_learning(rolled([0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]))
    assert (seen.pass_rate, seen.solved, seen.informative) == pytest.approx((5 / 12, 2 / 3, 1 / 3))
    assert (seen.mean_symbols, seen.cut, seen.reason) == (3, 0, None)
    assert seen.samples[0] == (1, "says 1")
    require_signal(seen)
    assert any("41.7% right" in line for line in describe(seen))


@pytest.mark.parametrize(
    ("groups", "done", "reason"),
    [
        ([[0, 0], [0, 0]], "stop", "not one of 4 answers"),
        ([[1, 1], [1, 1]], "stop", "all 4 answers are right already"),
        ([[0.5, 0.5], [0.5, 0.5]], "stop", "all 4 answers earned 0.5"),
        ([[0, 0], [0, 0]], "length", "all 4 answers were cut"),
        ([[0, 0], [1, 1]], "stop", "always or never solved"),
    ],
)
def test_nothing_to_learn_from_is_said_with_its_reason(groups, done, reason):
    with pytest.raises(TrainingError, match=f"nothing to learn from: .*{reason}") as told:
        require_signal(look_before_learning(rolled(*groups, done=done)))
    assert "\n" not in str(told.value)


def test_a_preflight_refuses_what_is_no_reward():
    with pytest.raises(TrainingError, match="not a finite number"):
        look_before_learning(rolled([0, float("nan")]))
    with pytest.raises(TrainingError, match="no answers"):
        look_before_learning([])


LONGEST = 8


@torch.no_grad()
def roll_out(model, step, n_prompts=4, n=8):
    """Answers of a model to random prompts, as an engine would give them, and what was said of each symbol."""
    draw = torch.Generator().manual_seed(step)
    ids = torch.randint(0, VOCAB, (n_prompts, 4), generator=draw).repeat_interleave(n, 0)
    said = []
    for _ in range(LONGEST):
        everything = model(ids)[:, -1].log_softmax(-1)
        chosen = torch.multinomial(everything.exp(), 1, generator=draw)
        said.append(everything.gather(1, chosen))
        ids = torch.cat([ids, chosen], 1)
    return ids, torch.cat(said, 1)


def rewards_of(ids):
    """Share of the answer in the first half of the vocabulary."""
    return (ids[:, -LONGEST:] < VOCAB // 2).float().mean(1)


def learn(model, objective, steps, seen, learning_rate=6e-3, is_frozen=False):
    def batches_from(step):
        while True:
            ids, said = roll_out(model, step)
            rewards = rewards_of(ids)
            seen.append(float(rewards.mean()))
            weights = torch.zeros(len(ids), ids.shape[1] - 1)
            weights[:, -LONGEST:] = 1
            old = torch.zeros_like(weights)
            old[:, -LONGEST:] = said
            advantages = group_advantages(rewards.view(-1, 8), AdvantageConfig()).flatten()
            extra = {"advantages": advantages, "old_log_probs": old}
            yield [Batch(ids[:, :-1], ids[:, 1:], weights, extra=extra)]
            step += 1

    if is_frozen:
        model.requires_grad_(False)
        model.model.layers[-1].mlp.down_proj.weight.requires_grad_(True)
    config = fine_tuning_config("full", objective, StepBudget(steps=steps), learning_rate)
    built, _ = build_objective(objective, model, ByteTokenizer())
    records = []
    fit(model, built.over(batches_from), built, config, CPU, Outside(on_record=[records.append]))
    return records


@pytest.mark.parametrize("name", ["dapo", "gspo", "dr-grpo"])
def test_a_policy_earns_more_than_it_did(name):
    seen = []
    records = learn(build_model(MODELS["gqa"]), VARIANTS[name], 40, seen)
    assert sum(seen[:4]) / 4 < 0.6
    assert sum(seen[-4:]) / 4 > 0.8
    assert all(record["ratio"] == pytest.approx(1, abs=1e-3) for record in records)
    assert all(record["mismatch"] < 1e-6 and record["bits_per_byte"] is None for record in records)
    assert records[-1]["symbols"] == 40 * 32 * (4 + LONGEST - 1)


def test_losses_around_zero_are_no_spikes_and_a_few_weights_suffice():
    seen = []
    records = learn(randomized(MODELS["gqa"]), PolicyConfig(), 40, seen, 0.02, is_frozen=True)
    assert min(record["loss"] for record in records) < 0
    assert sum(seen[-4:]) / 4 > sum(seen[:4]) / 4 + 0.05
