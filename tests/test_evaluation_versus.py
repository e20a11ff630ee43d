"""A difference is called one only if other items would say the same; chance may not, more than one time in twenty."""

import random

import pytest

from smidgen.evaluation.intervals import estimate_difference
from smidgen.evaluation.versus import Item, compare_means, compare_scores, pair_items, withstands


def test_two_models_of_one_skill_are_seldom_called_different():
    draw = random.Random(1)
    called = 0
    for seed in range(300):
        ours, theirs = ([float(draw.random() < 0.3) for _ in range(400)] for _ in range(2))
        called += compare_scores(ours, theirs, seed).verdict != "no difference shown"
    assert called / 300 <= 0.08


def test_a_real_difference_is_called_in_its_direction():
    draw = random.Random(2)
    theirs = [float(draw.random() < 0.3) for _ in range(1000)]
    ours = [1.0 if draw.random() < 0.2 else score for score in theirs]
    found = compare_scores(ours, theirs, 0)
    assert found.verdict == "better"
    assert found.difference.low > 0
    assert found.losses == 0
    assert compare_scores(theirs, ours, 0).verdict == "worse"
    assert compare_scores(ours, theirs, 0, lower_is_better=True).verdict == "worse"


def test_the_same_answers_are_no_difference():
    found = compare_scores([1.0, 0.0, 0.5], [1.0, 0.0, 0.5], 0)
    assert (found.difference.value, found.p, found.verdict) == (0, 1, "no difference shown")
    assert "same on every item" in found.why


def test_five_items_that_all_say_one_thing_are_too_few():
    """The bootstrap alone would call it: every resample is positive."""
    found = compare_scores([1.0] * 5, [0.0] * 5, 0)
    assert found.difference.low > 0
    assert found.verdict == "no difference shown"
    assert "5 against 0" in found.why


def test_a_difference_that_few_items_carry_is_not_called():
    ours, theirs = [0.1] * 40 + [-0.1] * 40 + [50.0] * 10, [0.0] * 90
    found = compare_scores(ours, theirs, 0)
    assert found.difference.low > 0
    assert found.verdict == "no difference shown"


def test_resampling_by_counts_is_resampling():
    draw = random.Random(3)
    ours = [draw.choice([0.0, 0.5, 1.0]) for _ in range(700)]
    theirs = [draw.choice([0.0, 0.0, 0.5, 1.0]) for _ in range(700)]
    quick, slow = compare_scores(ours, theirs, 0).difference, estimate_difference(ours, theirs, seed=0)
    assert quick.value == pytest.approx(slow.value)
    assert quick.low == pytest.approx(slow.low, abs=0.005)
    assert quick.high == pytest.approx(slow.high, abs=0.005)


def test_scores_of_many_values_are_resampled_too():
    draw = random.Random(4)
    theirs = [draw.gauss(0, 1) for _ in range(300)]
    found = compare_scores([score + draw.gauss(0.5, 0.5) for score in theirs], theirs, 0)
    assert found.verdict == "better"
    assert found.difference.low < 0.5 < found.difference.high


def test_items_that_are_not_the_same_are_left_out_and_counted():
    ours = {"a": Item(1, "x"), "b": Item(0, "y"), "c": Item(1), "d": Item(1)}
    theirs = {"c": Item(0, "z"), "b": Item(1, "other"), "a": Item(0, "x"), "e": Item(1), "f": Item(1)}
    paired = pair_items(ours, theirs)
    assert (paired.ids, paired.ours, paired.theirs) == (("a", "c"), (1, 1), (0, 0))
    assert (paired.only_ours, paired.only_theirs, paired.changed, paired.is_same) == (1, 2, 1, False)
    assert pair_items(ours, ours).is_same


def test_a_mean_over_tasks_counts_every_task_alike():
    small, large = ([1.0] * 10, [0.0] * 10), ([0.0] * 1000, [0.0] * 1000)
    assert compare_means([small, large], 0).value == pytest.approx(0.5)


def test_a_mean_takes_tasks_of_few_and_of_many_values():
    draw = random.Random(5)
    texts = [draw.random() for _ in range(100)]
    assert compare_means([([1.0] * 10, [0.0] * 10), (texts, [0.0] * 100)], 0).n == 110


def test_of_many_comparisons_more_is_asked():
    assert withstands([0.03]) == [True]
    assert withstands([0.03, 0.4, 0.2]) == [False] * 3
    assert withstands([0.001, 0.03, 0.04, 0.2]) == [True, False, False, False]
    assert withstands([]) == []
