"""Laws of rows that branch: answers that share a prompt give what they give in rows of their own."""

from types import SimpleNamespace

import pytest
import torch

from model_zoo import EVERY_MODEL, VOCAB, randomized
from smidgen.models.stack import recompute
from smidgen.surgery.adapter import attach
from smidgen.surgery.config import read_adapter
from smidgen.training.objectives.log_probs import supervised_log_probs
from smidgen.training.objectives.policy import Policy, PolicyConfig, WeighAnswers
from smidgen.training.policy_batches import policy_batches

BRANCHING = [name for name, config in EVERY_MODEL.items() if randomized(config).can_branch]
LENGTHS = [(9, [4, 1, 7, 2]), (1, [3, 2, 1, 1]), (14, [2, 2, 5, 1])]


def groups(seed=0):
    draw = torch.Generator().manual_seed(seed)

    def ids(n):
        return torch.randint(0, VOCAB, (n,), generator=draw).tolist()

    def answer(prompt, n):
        return SimpleNamespace(prompt=prompt, symbols=ids(n), log_probs=torch.randn(n, generator=draw).tolist())

    return [[answer(prompt, n) for n in own] for prompt, own in ((ids(n), own) for n, own in LENGTHS)]


def batches_of(answers, micro_symbols, branching):
    rated = torch.randn(len(answers), 4, generator=torch.Generator().manual_seed(1))
    return policy_batches(answers, rated, micro_symbols, branching)


def told(model, batches):
    """Return every answer's summed log-probability, by its symbols' first and number."""
    found = {}
    for batch in batches:
        said, _ = supervised_log_probs(model, batch)
        sums = said.sum_rows(said.log_probs, batch.n_sequences)
        places = batch.supervised_places()
        for row in range(batch.n_sequences):
            own = places[batch.sequences_of(places) == row]
            found[tuple(batch.targets.flatten()[own].tolist())] = sums[row].item()
    return found


def test_most_models_branch_and_those_that_look_along_the_row_do_not():
    assert {"gqa", "untied", "smallest", "depth-lora"} <= set(BRANCHING)
    assert not any(name.startswith("bytes") for name in BRANCHING)


@pytest.mark.parametrize("micro_symbols", [1000, 24, 1], ids=["one row", "several", "an answer each"])
@pytest.mark.parametrize("name", BRANCHING)
def test_answers_that_share_a_prompt_are_worth_what_they_are_apart(name, micro_symbols):
    model, answers = randomized(EVERY_MODEL[name]), groups()
    apart = told(model, batches_of(answers, 1000, branching=False))
    together = batches_of(answers, micro_symbols, branching=True)
    shared = told(model, together)
    assert shared.keys() == apart.keys()
    for key, value in apart.items():
        assert shared[key] == pytest.approx(value, abs=2e-4)
    assert all(batch.ids.shape[1] <= max(micro_symbols, 24) for batch in together)
    assert (len(together) == 1) == (micro_symbols == 1000)


@pytest.mark.parametrize("normalize", ["symbols", "answers", "constant"])
@pytest.mark.parametrize("again", [False, True], ids=["kept", "recomputed"])
def test_the_gradient_of_a_policy_is_the_same(normalize, again):
    config, answers = PolicyConfig(normalize=normalize, answer_symbols=5), groups()
    found = []
    for branching in (False, True):
        model = randomized(EVERY_MODEL["gqa"])
        adapter = attach(model, read_adapter("lora:r=2"))
        with torch.no_grad():
            for weight in adapter.weights.values():
                weight.add_(0.1)
        model.train()
        recompute(model, float(again))
        batches = [WeighAnswers(normalize)(batch, None) for batch in batches_of(answers, 1000, branching)]
        total = sum(float(batch.weights.sum()) for batch in batches)
        outs = [Policy(config)(model, batch) for batch in batches]
        (sum(out.loss for out in outs) / total).backward()
        found.append([weight.grad for weight in adapter.weights.values()])
        found[-1].append(torch.tensor([sum(float(out.metrics["mismatch"]) for out in outs)]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)
