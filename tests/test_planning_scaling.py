"""The scaling law falls where it must, fits what it was fitted on, and can be refitted."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.planning.fitting import fit_nonnegative
from smidgen.planning.scaling import (
    BESIROGLU,
    ERROR_SHARE,
    LAW,
    OBSERVATIONS,
    Observation,
    calibrate,
    effective_bytes,
    expected_bits_per_byte,
)

counts = st.floats(1e5, 1e10)


@given(counts, counts, st.floats(1.01, 100))
def test_more_parameters_and_more_text_never_hurt(parameters, text, factor):
    here = LAW.bits_per_byte(parameters, text)
    assert LAW.bits_per_byte(parameters * factor, text) <= here
    assert LAW.bits_per_byte(parameters, text * factor) <= here
    assert here > LAW.limit


@given(st.floats(1e3, 1e12), st.floats(1e3, 1e12))
def test_repeats_are_worth_something_but_less_than_fresh_text(seen, unique):
    worth = effective_bytes(seen, unique)
    assert 0 < worth <= seen
    assert worth <= 16.4 * unique
    assert seen > unique or worth == seen
    assert effective_bytes(1.5 * seen, unique) >= worth


def test_four_epochs_are_nearly_fresh_and_forty_are_not():
    assert effective_bytes(4e6, 1e6) > 3.7e6  # Muennighoff et al. 2023: up to four epochs, hardly any loss
    assert effective_bytes(40e6, 1e6) < 16e6


def test_the_law_fits_its_observations_within_half_the_printed_band():
    misses = [LAW.bits_per_byte(o.parameters, o.bytes_seen) / o.bits_per_byte - 1 for o in OBSERVATIONS]
    assert max(map(abs, misses)) < ERROR_SHARE / 2


def test_the_published_law_is_far_off_at_this_size():
    prototype = OBSERVATIONS[[o.name.startswith("prototype") for o in OBSERVATIONS].index(True)]
    assert BESIROGLU.bits_per_byte(prototype.parameters, prototype.bytes_seen) > 2 * prototype.bits_per_byte


def test_published_constants_are_converted_exactly():
    tokens, parameters = 1e10, 1e9
    nats = 1.8172 + 482.01 / parameters**0.3478 + 2085.43 / tokens**0.3658
    assert BESIROGLU.bits_per_byte(parameters, tokens * 4.3) == pytest.approx(nats / np.log(2) / 4.3)


def test_calibration_changes_nothing_that_already_fits_and_follows_what_does_not():
    exact = [replace(o, bits_per_byte=LAW.bits_per_byte(o.parameters, o.bytes_seen)) for o in OBSERVATIONS]
    same = calibrate(exact)
    assert same.bits_per_byte(5e6, 5e7) == pytest.approx(LAW.bits_per_byte(5e6, 5e7), rel=1e-4)
    harder = [replace(o, bits_per_byte=1.2 * o.bits_per_byte) for o in exact]
    moved = calibrate(harder)
    assert moved.bits_per_byte(5e6, 5e7) == pytest.approx(1.2 * LAW.bits_per_byte(5e6, 5e7), rel=0.02)


def test_one_run_moves_the_law_towards_it():
    run = Observation("ten minutes", 10e6, 2e7, 1.5)
    before, after = (abs(law.bits_per_byte(10e6, 2e7) - 1.5) for law in (LAW, calibrate([*OBSERVATIONS, run])))
    assert after < before


def test_a_harder_text_scores_in_proportion():
    easy, hard = (expected_bits_per_byte(1e7, 1e8, 1e8, difficulty) for difficulty in (0.5, 1.0))
    assert hard == pytest.approx(2 * easy)


@given(st.lists(st.floats(0, 5), min_size=3, max_size=3), st.integers(0, 2**31))
@settings(max_examples=40)
def test_fit_nonnegative_finds_the_coefficients_that_made_the_data(truth, seed):
    causes = np.random.default_rng(seed).uniform(0.1, 1, size=(8, 3))
    effects = causes @ truth
    if effects.min() > 1e-3:
        assert fit_nonnegative(causes.tolist(), effects.tolist()) == pytest.approx(truth, abs=1e-6)
