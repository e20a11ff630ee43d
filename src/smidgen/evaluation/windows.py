"""Cutting long sequences into overlapping windows, so that every symbol is scored once and with history.

Source: the strided protocol of GPT-2's language-model evaluations (Radford et al. 2019) as documented for fixed-length
models. This file knows symbols and positions; what a loss means is the caller's business.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

UNSCORED = -1
"""Account of a symbol whose loss nobody asked for."""


@dataclass(frozen=True)
class ScoredSequence:
    """Symbols in reading order, and for each the account its loss is added to."""

    ids: np.ndarray
    accounts: np.ndarray
    """Account of each symbol as a target; UNSCORED for none. The first symbol can only be context."""
    first: int = 1
    """First target to score; what lies before it is history already scored."""


@dataclass(frozen=True)
class Window:
    """One forward: inputs [start, end - 1), targets [start + 1, end), of which those from `fresh` on are scored."""

    sequence: ScoredSequence
    start: int
    fresh: int
    end: int


@dataclass(frozen=True)
class WindowBatch:
    """Windows of similar length as one forward."""

    ids: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]
    accounts: Int[Tensor, "B T"]


def cut_windows(sequence: ScoredSequence, context: int, stride: int) -> Iterator[Window]:
    """Yield windows that score every target from `sequence.first` on exactly once.

    A window reads at most `context` symbols. The first one scores all it reads; each further one scores `stride`
    targets more, so a target sees at least `context - stride + 1` symbols of history where that many exist.
    """
    fresh, length = sequence.first, len(sequence.ids)
    while fresh < length:
        end = min(length, context + 1 if fresh == 1 else fresh + stride)
        yield Window(sequence, max(0, end - 1 - context), fresh, end)
        fresh = end


def batch_windows(windows: Iterable[Window], batch_symbols: int) -> Iterator[WindowBatch]:
    """Group windows of similar length, longest first, into batches of at most `batch_symbols` padded symbols.

    Longest first, so that a batch that does not fit in memory shows at once. Padding stands at the right, where a
    causal model cannot see it from any scored position.
    """
    ordered = sorted(windows, key=lambda window: window.start - window.end)
    group: list[Window] = []
    for window in ordered:
        width = group[0].end - group[0].start - 1 if group else 0
        if group and (len(group) + 1) * width > batch_symbols:
            yield _collate(group)
            group = []
        group.append(window)
    if group:
        yield _collate(group)


def _collate(group: Sequence[Window]) -> WindowBatch:
    shape = (len(group), max(window.end - window.start for window in group) - 1)
    ids, targets = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    accounts = np.full(shape, UNSCORED, dtype=np.int64)
    for row, window in enumerate(group):
        start, end, length = window.start, window.end, window.end - window.start - 1
        ids[row, :length] = window.sequence.ids[start : end - 1]
        targets[row, :length] = window.sequence.ids[start + 1 : end]
        accounts[row, window.fresh - start - 1 : length] = window.sequence.accounts[window.fresh : end]
    return WindowBatch(torch.from_numpy(ids), torch.from_numpy(targets), torch.from_numpy(accounts))
