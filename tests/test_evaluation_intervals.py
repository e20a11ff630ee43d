"""Intervals hold what they promise: bounds, coverage, and the textbook's numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.evaluation.intervals import estimate_difference, estimate_share


def test_wilson_is_the_textbooks() -> None:
    estimate = estimate_share([1.0] * 15 + [0.0] * 5)
    assert (estimate.low, estimate.high) == (pytest.approx(0.5313, abs=1e-4), pytest.approx(0.8881, abs=1e-4))
    nothing = estimate_share([0.0] * 10)
    assert (nothing.low, nothing.high) == (0, pytest.approx(0.2775, abs=1e-4))


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=200))
def test_a_share_lies_in_its_interval_inside_zero_and_one(grades: list[float]) -> None:
    estimate = estimate_share(grades)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.n == len(grades)
    wider = estimate_share(grades, confidence=0.99)
    assert wider.low <= estimate.low
    assert wider.high >= estimate.high


@pytest.mark.parametrize("truth", [0.05, 0.5, 0.9])
def test_nineteen_intervals_in_twenty_hold_the_truth(truth: float) -> None:
    draw = np.random.default_rng(0)
    estimates = [estimate_share(draw.random(60) < truth) for _ in range(2000)]
    assert np.mean([e.low <= truth <= e.high for e in estimates]) == pytest.approx(0.95, abs=0.025)


def test_pairing_sees_a_difference_that_separate_intervals_hide() -> None:
    draw = np.random.default_rng(1)
    hard = draw.random(400)
    theirs = (hard < 0.5).astype(float)
    ours = (hard < 0.56).astype(float)
    paired = estimate_difference(list(ours), list(theirs), seed=0)
    assert paired.low > 0
    assert estimate_share(list(ours)).low < estimate_share(list(theirs)).high
    assert paired == estimate_difference(list(ours), list(theirs), seed=0)
    same = estimate_difference(list(ours), list(ours), seed=0)
    assert same.low == same.value == same.high == 0
