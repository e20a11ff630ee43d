"""Columns of many tables, looked at a piece at a time: what is in memory does not grow with the corpus.

Hashes are spread evenly, so a range of their values holds its share of them; in a table that is sorted by its hashes a
range is one slice, and all ranges together read every table once.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from smidgen.data.cleaning.step import Table

AT_ONCE = 1 << 24
"""Hashes that are in memory together, about."""
_ALL = 1 << 64


def count_rows(tables: Sequence[Table], name: str) -> int:
    """Return the length of a column in all tables together."""
    return sum(len(table[name]) for table in tables)


def stacked(tables: Sequence[Table], name: str, rows: int) -> np.ndarray:
    """Return a column of 64-bit numbers of all tables, one below the other, held once."""
    whole, at = np.empty(rows, np.uint64), 0
    for table in tables:
        column = table[name]
        whole[at : at + len(column)] = column
        at += len(column)
    return whole


def hash_ranges(rows: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield the first value and the one behind the last of ranges in which about so many of the hashes lie."""
    pieces = max(1, -(-rows // most))
    edges = [_ALL * piece // pieces for piece in range(pieces + 1)]
    yield from pairwise(edges)


def within(column: np.ndarray, begin: int, end: int) -> slice:
    """Return where the values of a range stand in a sorted column; of one on disk a few values alone are read."""
    return slice(
        bisect_left(column, begin, key=int) if begin else 0,
        bisect_left(column, end, key=int) if end < _ALL else len(column),
    )


def repeated(tables: Sequence[Table], name: str, begin: int, end: int) -> np.ndarray:
    """Return the values of a range, sorted, that come more than once in a column by which each table is sorted."""
    found = []
    for table in tables:
        column = table[name]
        part = np.array(column[within(column, begin, end)])
        # Two of a value say as much as a thousand, and a line can come a thousand times in a part.
        found.append(part[np.append([True, True], part[2:] != part[:-2])[: len(part)]])
    values = np.concatenate([np.zeros(0, np.uint64), *found])
    del found
    values.sort()
    return np.unique(values[1:][values[1:] == values[:-1]])


def places_of(values: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which of those asked for are among the sorted values, and their places there."""
    if not len(values):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    at = np.minimum(np.searchsorted(values, asked), len(values) - 1)
    which = np.flatnonzero(values[at] == asked)
    return which, at[which]


def place_of(keys: np.ndarray, key: int) -> int | None:
    """Return where a key stands in sorted ones; None if it does not."""
    at = int(np.searchsorted(keys, np.uint64(key)))
    return at if at < len(keys) and int(keys[at]) == key else None


def rows_at(tables: Sequence[Table], name: str, asked: np.ndarray) -> np.ndarray:
    """Return the rows of a column at sorted places, counted through all tables."""
    found, before = [], 0
    for table in tables:
        column = table[name]
        here = slice(*np.searchsorted(asked, np.array([before, before + len(column)], asked.dtype)))
        found.append(np.array(column[asked[here] - asked.dtype.type(before)] if here.start < here.stop else column[:0]))
        before += len(column)
    return np.concatenate(found)


def batches(tables: Sequence[Table], name: str, rows: int) -> Iterator[np.ndarray]:
    """Yield a column of all tables in pieces of so many rows, wherever a table ends; the last may be shorter."""
    waiting, held = list[np.ndarray](), 0
    for table in tables:
        column = table[name]
        at = 0
        while held + len(column) - at >= rows:
            waiting.append(column[at : at + rows - held])
            at += rows - held
            yield np.concatenate(waiting)
            waiting, held = [], 0
        if at < len(column):
            waiting.append(np.array(column[at:]))
            held += len(column) - at
    if held:
        yield np.concatenate(waiting)
