"""A difference is called one only if it lies beyond the luck of seeds and of documents."""

import math

import numpy as np
import pytest

from smidgen.evaluation.intervals import Estimate
from smidgen.evaluation.paired import compare_pairs, compare_pooled, pooled_noise, reach_of, two_sided_p
from smidgen.reports.chart import pareto_front
from smidgen.study.results import judge


@pytest.mark.parametrize(
    ("freedom", "reach"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (30, 2.04227)]
)
def test_students_t_is_that_of_the_tables(freedom: int, reach: float):
    assert reach_of(freedom) == pytest.approx(reach, abs=1e-4)
    assert two_sided_p(reach, freedom) == pytest.approx(0.05, abs=1e-6)


def test_the_paired_test_gives_students_own_result():
    """Student 1908: hours of sleep gained with two drugs, t = 4.0621 with 9 degrees of freedom, p = 0.00283."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = compare_pairs(second, first)
    assert found is not None
    assert found.value == pytest.approx(1.58)
    assert found.p == pytest.approx(0.00283, abs=1e-5)
    assert (found.low, found.high) == pytest.approx((0.7001, 2.4599), abs=1e-4)


def test_one_pair_shows_nothing():
    assert compare_pairs([1.0], [2.0]) is None
    assert pooled_noise([[1.0], [2.0]]) is None
    assert judge(None, None)[0] == "no difference shown"


def test_two_variants_pooled_are_a_paired_test():
    ours, theirs = [2.10, 2.13, 2.08], [2.20, 2.19, 2.21]
    noise = pooled_noise([ours, theirs])
    assert noise is not None
    pooled, paired = compare_pooled(ours, theirs, noise), compare_pairs(ours, theirs)
    assert paired is not None
    assert (pooled.value, pooled.low, pooled.high, pooled.p) == pytest.approx(
        (paired.value, paired.low, paired.high, paired.p)
    )


def test_pooling_takes_out_what_a_seed_adds_throughout():
    seeds = np.array([0.0, 5.0, -3.0])
    noise = pooled_noise([1 + seeds, 2 + seeds, 4 + seeds])
    assert noise == (pytest.approx(0.0, abs=1e-12), 4)


@pytest.mark.parametrize("pairs", [2, 3, 5])
def test_variants_that_do_not_differ_are_rarely_told_apart(pairs: int):
    draw = np.random.default_rng(0)
    shown = 0
    for _ in range(1000):
        found = compare_pairs(draw.normal(2, 0.01, pairs), draw.normal(2, 0.01, pairs))
        shown += found is not None and found.is_shown
    assert shown / 1000 == pytest.approx(0.05, abs=0.025)


def test_a_large_difference_is_shown_and_has_a_direction():
    documents = Estimate(-0.1, -0.12, -0.08, 50)
    assert judge(compare_pairs([2.10, 2.11, 2.09], [2.20, 2.21, 2.20]), documents)[0] == "better"
    assert judge(compare_pairs([2.20, 2.21, 2.20], [2.10, 2.11, 2.09]), None)[0] == "worse"


def test_inside_either_interval_is_never_an_improvement():
    seeds = compare_pairs([2.10, 2.11, 2.09], [2.20, 2.21, 2.20])
    assert judge(seeds, Estimate(-0.1, -0.3, 0.1, 5)) == (
        "no difference shown",
        "depends on which documents are measured",
    )
    assert judge(compare_pairs([2.1, 2.3], [2.2, 2.31]), Estimate(-0.1, -0.12, -0.08, 50))[0] == "no difference shown"


def test_identical_runs_do_not_differ():
    found = compare_pairs([2.0, 2.1], [2.0, 2.1])
    assert found is not None
    assert (found.value, found.p) == (0, 1)
    assert judge(found, None)[0] == "no difference shown"


def test_the_front_holds_what_nothing_beats():
    points = [(1.0, 3.0), (2.0, 2.0), (3.0, 2.5), (4.0, 1.0), (4.0, 1.5)]
    assert pareto_front(points) == [(1.0, 3.0), (2.0, 2.0), (4.0, 1.0)]
    assert pareto_front([(1.0, math.pi)]) == [(1.0, math.pi)]
