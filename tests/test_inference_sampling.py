"""Laws of choosing the next symbol."""

import pytest
import torch

from smidgen.config import validate_config
from smidgen.errors import ConfigError
from smidgen.inference.sampling import SamplingParams, choose


def shares(
    logits: list[float], params: SamplingParams, used: frozenset[int] = frozenset(), n: int = 4000
) -> list[float]:
    """Return how often each symbol is chosen over evenly spread draws: the distribution itself, without chance."""
    rows = torch.tensor([logits]).expand(n, -1)
    symbols = choose(rows, [params] * n, [used] * n, [(i + 0.5) / n for i in range(n)]).symbols
    return (symbols.bincount(minlength=len(logits)) / n).tolist()


LOGITS = [2.0, 1.0, 0.0, -1.0, 1.5]


def test_draws_follow_the_distribution():
    expected = (torch.tensor(LOGITS) / 0.7).softmax(-1).tolist()
    assert shares(LOGITS, SamplingParams(temperature=0.7)) == pytest.approx(expected, abs=1e-3)


def test_top_k_keeps_the_k_likeliest():
    kept = torch.tensor([2.0, -torch.inf, -torch.inf, -torch.inf, 1.5]).softmax(-1).tolist()
    assert shares(LOGITS, SamplingParams(temperature=1, top_k=2)) == pytest.approx(kept, abs=1e-3)


def test_top_p_keeps_the_smallest_sufficient_set():
    # Probabilities are about .45 .17 .06 .02 .28: the two likeliest hold .73, so .7 needs two and .75 needs three.
    assert [s > 0 for s in shares(LOGITS, SamplingParams(temperature=1, top_p=0.7))] == [
        True,
        False,
        False,
        False,
        True,
    ]
    assert [s > 0 for s in shares(LOGITS, SamplingParams(temperature=1, top_p=0.75))] == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert shares(LOGITS, SamplingParams(temperature=1, top_p=1e-6))[0] == 1


def test_min_p_is_relative_to_the_likeliest():
    # Relative to the likeliest: 1, .37, .14, .05, .61.
    assert [s > 0 for s in shares(LOGITS, SamplingParams(temperature=1, min_p=0.3))] == [True, True, False, False, True]


def test_repetition_penalty_lowers_used_symbols_on_both_sides_of_zero():
    params = SamplingParams(temperature=1, repetition_penalty=2)
    expected = torch.tensor([1.0, 1.0, 0.0, -2.0, 1.5]).softmax(-1).tolist()
    assert shares(LOGITS, params, frozenset({0, 3})) == pytest.approx(expected, abs=1e-3)


def test_temperature_zero_is_greedy_and_log_probs_are_unmodified():
    logits = torch.tensor([LOGITS])
    choice = choose(logits, [SamplingParams(repetition_penalty=2)], [{0}], [0.0])
    assert choice.symbols.tolist() == [4]
    torch.testing.assert_close(choice.log_probs, logits.log_softmax(-1)[:, 4])


@pytest.mark.parametrize("draw", [0.0, 1 - 2**-53])
def test_impossible_symbols_are_never_drawn(draw):
    logits = torch.full((1, 1000), -torch.inf)
    logits[0, 500:510] = 0
    assert 500 <= int(choose(logits, [SamplingParams(temperature=1)], [()], [draw]).symbols) < 510


def test_bad_options_are_named_all_at_once():
    with pytest.raises(ConfigError, match=r"(?s)temperature.*top_p.*did you mean 'top_k'"):
        validate_config({"temperature": -1, "top_p": 2, "topk": 3}, SamplingParams, "options")


@pytest.mark.parametrize("scale", [0.1, 4.0])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_wide_vocabularies_are_drawn_as_one_long_sum_would(scale, top_p):
    # Flat, more than 1,024 symbols are likely; steep, a handful is. 5,000 is no whole number of blocks.
    logits = torch.randn(1, 5000, generator=torch.Generator().manual_seed(0)) * scale
    probabilities = logits[0].double().softmax(-1)
    ordered, order = probabilities.sort(descending=True)
    probabilities[order[(ordered.cumsum(0) - ordered) >= top_p]] = 0
    sums = probabilities.cumsum(0) / probabilities.sum()
    draws = [(i + 0.5) / 500 for i in range(500)]
    params = [SamplingParams(temperature=1, top_p=top_p)] * 500
    found = choose(logits.expand(500, -1), params, [()] * 500, draws).symbols
    assert (found - torch.searchsorted(sums, torch.tensor(draws, dtype=torch.float64), right=True)).abs().max() <= 1
