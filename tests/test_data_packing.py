from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.data.pack import best_fit, cut_documents, pack_rows

lengths_of = st.lists(st.integers(1, 60), min_size=1, max_size=80).filter(lambda lengths: max(lengths) > 1)


def plain_best_fit(lengths, capacity):
    """The textbook algorithm, one item at a time."""
    rooms = []
    for size in lengths:
        fitting = [room for room in rooms if room >= size]
        if fitting:
            rooms[rooms.index(min(fitting))] -= size
        else:
            rooms.append(capacity - size)
    return rooms


@settings(max_examples=200, deadline=None)
@given(lengths=lengths_of, seq_len=st.integers(1, 40), seed=st.integers(0, 5))
def test_no_symbol_is_lost_or_doubled(lengths, seq_len, seed):
    lengths = np.array(lengths)
    starts = np.cumsum(lengths) - lengths
    index = pack_rows(starts, lengths, seq_len, seed)
    targets = Counter()
    for row in range(index.rows):
        segments = range(index.row_starts[row], index.row_starts[row + 1])
        assert 2 <= sum(int(index.lengths[s]) for s in segments) <= seq_len + 1
        for segment in segments:
            start, length = int(index.starts[segment]), int(index.lengths[segment])
            targets.update(range(start + 1, start + length))  # the first symbol of a segment has weight 0
    every = {int(s) + n for s, length in zip(starts, lengths, strict=True) for n in range(1, length)}
    assert set(targets) == every
    assert set(targets.values()) <= {1}


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=100))
def test_packing_by_groups_is_best_fit_decreasing(lengths):
    ordered = np.array(sorted(lengths, reverse=True))
    bins, opened = best_fit(ordered, 30)
    used = np.bincount(bins, weights=ordered, minlength=opened)
    assert sorted(30 - used) == sorted(plain_best_fit(ordered.tolist(), 30))


def test_documents_that_fit_are_never_cut_and_long_ones_as_seldom_as_can_be():
    starts, lengths = cut_documents(np.array([0, 100, 200]), np.array([5, 11, 24]), seq_len=10)
    assert list(zip(starts.tolist(), lengths.tolist(), strict=True)) == [
        (0, 5),
        (100, 11),
        (200, 11),
        (210, 11),
        (220, 4),
    ]


def test_the_seed_moves_documents_and_nothing_else():
    lengths = np.full(1000, 7)
    one, same, other = (pack_rows(np.arange(1000) * 7, lengths, 30, seed) for seed in (1, 1, 2))
    assert (one.starts == same.starts).all()
    assert (one.starts != other.starts).any()
    assert one.rows == other.rows == 250


def test_a_million_documents_pack_in_seconds_and_tightly():
    lengths = np.random.default_rng(0).lognormal(5.5, 1.0, 1_000_000).astype(np.int64) + 2
    index = pack_rows(np.cumsum(lengths) - lengths, lengths, 512)
    assert index.fill(512) > 0.98


@pytest.mark.parametrize("seq_len", [1, 7])
def test_single_symbols_get_no_row(seq_len):
    assert pack_rows(np.array([0, 1]), np.array([1, 1]), seq_len).rows == 0
