"""Documents to rows without losing a symbol: best-fit packing. Source: Ding et al. 2024, arXiv 2404.10830.

A row has room for T+1 symbols: T inputs and, one later, T targets. A document that does not fit is cut into pieces of
T+1 that overlap by one symbol, so that each of its symbols but the first is a target exactly once; pieces and documents
shorter than a row are packed best-fit-decreasing. Long documents are cut as seldom as they can be, short ones never.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class RowIndex:
    """Where the symbols of every row lie: row r is the segments row_starts[r] to row_starts[r + 1]."""

    starts: Int[np.ndarray, "S"]
    """Address of each segment's first symbol."""
    lengths: Int[np.ndarray, "S"]
    """Symbols of each segment."""
    row_starts: Int[np.ndarray, "R1"]
    """First segment of each row, and the number of segments."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.row_starts) - 1

    def fill(self, seq_len: int) -> float:
        """Return the share of targets that are supervised; the rest is padding and first symbols of segments."""
        return float((self.lengths - 1).sum() / (self.rows * seq_len))


def pack_rows(starts: Int[np.ndarray, "N"], lengths: Int[np.ndarray, "N"], seq_len: int, seed: int = 0) -> RowIndex:
    """Cut documents at addresses `starts` into segments and pack them into rows of `seq_len` + 1 symbols.

    `seed` decides which of equally long segments share a row, and their order in it. A document of one symbol teaches
    nothing and gets no row.
    """
    draw = np.random.Generator(np.random.Philox(key=seed))
    piece_starts, piece_lengths = cut_documents(starts, lengths, seq_len)
    # Longest first, as best-fit-decreasing asks; equals in random order, so that neighbours in a file part.
    order = draw.permutation(len(piece_lengths))
    order = order[np.argsort(-piece_lengths[order], kind="stable")]
    bins, rows = best_fit(piece_lengths[order], seq_len + 1)
    shuffled = np.lexsort((draw.random(len(bins)), bins))
    chosen = order[shuffled]
    counts = np.bincount(bins, minlength=rows)
    return RowIndex(piece_starts[chosen], piece_lengths[chosen], np.concatenate([[0], np.cumsum(counts)]))


def cut_documents(
    starts: Int[np.ndarray, "N"], lengths: Int[np.ndarray, "N"], seq_len: int
) -> tuple[Int[np.ndarray, "S"], Int[np.ndarray, "S"]]:
    """Return starts and lengths of pieces of at most `seq_len` + 1 symbols, neighbours sharing one symbol."""
    targets = np.maximum(lengths - 1, 0)
    pieces = -(-targets // seq_len)
    document = np.repeat(np.arange(len(lengths)), pieces)
    number = np.arange(len(document)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    offset = number * seq_len
    return starts[document] + offset, np.minimum(targets[document] - offset, seq_len) + 1


def best_fit(lengths: Int[np.ndarray, "S"], capacity: int) -> tuple[Int[np.ndarray, "S"], int]:
    """Return the bin of every item, items given longest first, and the number of bins.

    Best-fit-decreasing exactly, but by groups: all items of one length go at once into the bins with the least room
    that still takes them. The work grows with the square of `capacity`, hardly with the number of items.
    """
    bins = np.empty(len(lengths), dtype=np.int64)
    by_room: dict[int, list[np.ndarray]] = {}
    opened = position = 0
    sizes, counts = np.unique(lengths, return_counts=True)
    for size, count in zip(sizes[::-1].tolist(), counts[::-1].tolist(), strict=True):
        for room in sorted(room for room in by_room if room >= size):
            taken = _put(bins, position, count, size, room, np.concatenate(by_room.pop(room)), by_room)
            position, count = position + taken, count - taken
            if not count:
                break
        if count:
            needed = -(-count // (capacity // size))
            fresh = np.arange(opened, opened + needed)
            opened += needed
            position += _put(bins, position, count, size, capacity, fresh, by_room)
    return bins, opened


def _put(
    bins: np.ndarray,
    position: int,
    count: int,
    size: int,
    room: int,
    available: np.ndarray,
    by_room: dict[int, list[np.ndarray]],
) -> int:
    """Fill bins of equal room with up to `count` items of one size, file them by what is left, return how many went."""
    each = room // size
    taken = min(count, each * len(available))
    full, rest = divmod(taken, each)
    bins[position : position + taken] = np.repeat(available[: full + 1], each)[:taken]
    left = ((available[:full], room - each * size), (available[full : full + 1], room - rest * size))
    for part, remaining in (*left, (available[full + 1 :], room)):
        if len(part) and remaining:
            by_room.setdefault(remaining, []).append(part)
    return taken
