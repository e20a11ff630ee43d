"""Sizes and times are read as people type them, and what is written can be read again."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.errors import BudgetError
from smidgen.planning.corpus import CorpusFacts, survey_texts, symbol_bytes_of
from smidgen.planning.units import Size, format_bytes, format_count, format_time, parse_size, parse_time


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10M", Size(10_000_000)),
        ("300k", Size(300_000)),
        ("1.1B", Size(1_100_000_000)),
        ("500000", Size(500_000)),
        ("8MB", Size(8_000_000, True)),
        ("8 mb", Size(8_000_000, True)),
        ("512KiB", Size(524_288, True)),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("90s", 90), ("1h30m", 5400), ("1d", 86_400), ("1.5h", 5400), ("10min", 600)]
)
def test_times(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "ten", "-3M", "0M", "3T", "8MBs", "M", "1e6"])
def test_nonsense_sizes_are_refused_with_an_example(text):
    with pytest.raises(BudgetError, match="10M"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "10", "0s", "-1m", "1m2h", "soon"])
def test_nonsense_times_are_refused_with_an_example(text):
    with pytest.raises(BudgetError, match="10m"):
        parse_time(text)


@given(st.integers(1, 10**11))
def test_what_is_written_is_read_back_to_three_digits(number):
    assert parse_size(format_count(number)).amount == pytest.approx(number, rel=0.006)
    assert parse_size(format_bytes(number + 1000)).amount == pytest.approx(number + 1000, rel=0.006)


@given(st.integers(1, 10**7))
def test_times_are_read_back_to_two_units(seconds):
    assert parse_time(format_time(seconds)) == pytest.approx(seconds, rel=0.03)


def test_survey_measures_how_hard_a_text_is():
    words = [f"word{n}" for n in random.Random(0).choices(range(1000), k=60_000)]
    varied, dull = " ".join(words), "the same thing again. " * 20_000
    hard, easy = (survey_texts([text], len(text), 1) for text in (varied, dull))
    assert easy.difficulty < hard.difficulty
    assert easy.difficulty == 0.3
    assert survey_texts(["too short to say"], 16, 1).difficulty == 1.0
    assert survey_texts([], 0, 0).difficulty == 1.0


def test_symbols_hold_more_bytes_in_larger_vocabularies():
    sizes = [symbol_bytes_of(v) for v in (264, 512, 700, 1024, 4096, 5000, 32_768, 49_152)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 1.0
    assert CorpusFacts(10**6, bytes_per_symbol=2.5).symbol_bytes(4096) == 2.5
