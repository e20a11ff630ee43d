"""Which of many short texts occur in a corpus: runs of words, hashed, looked up while the corpus streams by.

The items are what must not have been trained on (the questions of an evaluation); the corpus is what was, or will be.
A run of 13 words in common is an occurrence; an item of fewer words must occur whole. Words are runs of letters and
digits in lower case, so punctuation, spacing and line breaks do not matter. This file finds and counts; what to do with
a find (score without the item, drop the paragraph) is for others to say.

Source: Brown et al. 2020, arXiv 2005.14165, appendix C (13 words at most; punctuation, spacing and case ignored). They
go down to 8 words of an item; we take a short item whole instead, which finds its copies and less by accident.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np

WORDS = 13
LEAST_WORDS = 6
"""An item of fewer words says too little: of the published pairs of BLiMP, 28% have five words or less."""

_BLOCK_CHARACTERS = 1 << 17
"""Hashes of a block stay in the processor's cache: 1.5 times as fast as a block of 2^20."""
_OVERLAP_CHARACTERS = 1 << 12
"""Two pieces of a long text share this much: 13 words and all that stands between them, unless that is 4,096 long."""
_BASE = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio; odd, hence invertible modulo 2^64
_MIX = np.uint64(0xD6E8FEB86659FD93)
"""Spreads a word's hash, so that rows of similar words do not add up to the same. Source: Evensen 2018, rrmxmx."""
_HALF = np.uint64(32)


class Find(NamedTuple):
    """A run of words of an item, found in a text."""

    text: int
    """Which text of the corpus, counted from 0."""
    item: int
    """Which item, in the order given."""
    at: int
    """The first word of the item that is in the run."""
    words: int
    """How long the run is."""
    start: int
    """Where the run begins in the text, in characters."""
    end: int
    passage: str
    """The run as it stands in the text."""


@dataclass(frozen=True)
class HashedWords:
    """The words of a text as places and prefix sums of their hashes."""

    starts: np.ndarray
    ends: np.ndarray
    sums: np.ndarray
    unshift: np.ndarray

    def runs(self, words: int | np.ndarray, at: np.ndarray | None = None) -> np.ndarray:
        """Return the hashes of all runs of so many words, or of those that begin at the words `at`."""
        if at is None:
            n = max(0, len(self.starts) - words + 1)
            return (self.sums[words : words + n] - self.sums[:n]) * self.unshift[:n]
        return (self.sums[at + words] - self.sums[at]) * self.unshift[at]


class WordHasher:
    """From text to hashed words; holds the tables that every text needs."""

    def __init__(self) -> None:
        self._values = character_values()
        self._powers, self._unshift = np.ones(1, np.uint64), np.ones(1, np.uint64)

    def hash(self, text: str) -> HashedWords:
        """Return the words of a text, hashed."""
        values = self._values[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)]
        self._reach(len(values))
        is_word = np.zeros(len(values) + 2, dtype=bool)
        np.not_equal(values, 0, out=is_word[1:-1])
        edges = np.flatnonzero(is_word[1:] != is_word[:-1])
        starts, ends = edges[0::2], edges[1::2]
        sums = _prefix_sums(values * self._powers[: len(values)])
        words = (sums[ends] - sums[starts]) * self._unshift[starts]
        words = (words ^ (words >> _HALF)) * _MIX
        words ^= words >> _HALF
        return HashedWords(starts, ends, _prefix_sums(words * self._powers[: len(words)]), self._unshift)

    def _reach(self, length: int) -> None:
        """Have the powers of the base for a text of this length."""
        if length >= len(self._powers):
            inverse = np.uint64(pow(int(_BASE), -1, 1 << 64))
            self._powers, self._unshift = (
                np.concatenate([np.ones(1, np.uint64), np.cumprod(np.full(2 * length, base))])
                for base in (_BASE, inverse)
            )


class _Sieve:
    """Which hashes may be worth a search: of random ones, 1 in 16 to 32."""

    def __init__(self, hashes: np.ndarray) -> None:
        bits = max(16, int(16 * len(hashes)).bit_length())
        self._shift = np.uint64(64 - bits)
        self._flags = np.zeros(1 << bits, dtype=bool)
        self._flags[hashes >> self._shift] = True

    def places(self, hashes: np.ndarray) -> np.ndarray:
        """Return where the hashes are that pass."""
        return np.flatnonzero(self._flags[hashes >> self._shift])


class _Table:
    """Sorted hashes and what stands behind each."""

    def __init__(self, hashes: np.ndarray, *columns: np.ndarray) -> None:
        order = np.argsort(hashes, kind="stable")
        self.hashes = hashes[order]
        self._followed = np.append(self.hashes, np.uint64(0))  # a search may end behind the last
        self.columns = tuple(column[order] for column in columns)

    def find(self, hashes: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return, for every entry that equals one of the hashes, which hash it was and the entry's columns."""
        first = np.searchsorted(self.hashes, hashes, "left")
        which = np.flatnonzero((self._followed[first] == hashes) & (first < len(self.hashes)))
        first = first[which]
        counts = np.searchsorted(self.hashes, hashes[which], "right") - first
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        entries = np.repeat(first, counts) + within
        return np.repeat(which, counts), *(column[entries] for column in self.columns)


class NgramIndex:
    """Items, to be looked for in any number of texts.

    For each word of the items about 24 bytes and in the sieve 16 to 32 more; nothing of a text is kept. Hashes of 64
    bits decide: with a million runs of items, 10^12 words of text bring one false find in eighteen tries.
    """

    def __init__(self, items: Iterable[str], words: int = WORDS, least: int = LEAST_WORDS) -> None:
        self.words, self.least = words, least
        self._hasher = WordHasher()
        blocks = [self._entries(pieces) for pieces in _blocks(items, cut=False)]
        self.lengths = tuple(length for lengths, *_ in blocks for length in lengths.tolist())
        """Words of each item."""
        [beginnings] = _joined([[beginnings] for _, beginnings, _, _ in blocks], (np.uint64,))
        # Both kinds begin with `least` words, which are all that most of a text is asked for.
        self._sieve = _Sieve(beginnings)
        self._long = _Table(*_joined([entries for _, _, entries, _ in blocks], (np.uint64, np.int64, np.int64)))
        self._short = _Table(*_joined([entries for *_, entries in blocks], (np.uint64, np.int64, np.int64, np.uint64)))

    def _entries(self, pieces: "Sequence[_Piece]") -> tuple[np.ndarray, np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """Return the items' lengths, how what is looked for begins, and that: every run of the long, the short whole.

        A run: its hash, item and place. A short item is found by its first words, then compared whole: hash of those,
        item, length, hash of all.
        """
        hashed, numbers = self._hash(pieces), np.array([piece.text for piece in pieces])
        owners = np.searchsorted(_begins(pieces), hashed.starts, "right") - 1
        lengths = np.bincount(owners, minlength=len(pieces))
        firsts = np.cumsum(lengths) - lengths
        runs = hashed.runs(self.words)
        at = np.flatnonzero(owners[: len(runs)] == owners[self.words - 1 :][: len(runs)])
        short = np.flatnonzero((lengths >= self.least) & (lengths < self.words))
        first, length = firsts[short], lengths[short]
        return (
            lengths,
            hashed.runs(self.least, np.concatenate([at, first])),
            [runs[at], numbers[owners[at]], at - firsts[owners[at]]],
            [hashed.runs(self.least, first), numbers[short], length, hashed.runs(length, first)],
        )

    def _hash(self, pieces: "Sequence[_Piece]") -> HashedWords:
        return self._hasher.hash("\n".join(piece.content for piece in pieces))

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def unsearchable(self) -> list[int]:
        """Return the items that are too short to be looked for."""
        return [number for number, length in enumerate(self.lengths) if length < self.least]

    def find(self, texts: Iterable[str]) -> Iterator[Find]:
        """Yield every run found, by text; the texts are read once, and no run crosses from one into the next."""
        for pieces in _blocks(texts):
            yield from self._find_in(pieces)

    def _find_in(self, pieces: "Sequence[_Piece]") -> Iterator[Find]:
        hashed, begins = self._hash(pieces), _begins(pieces)
        beginnings = hashed.runs(self.least)
        likely = self._sieve.places(beginnings)
        far = likely[likely + self.words <= len(hashed.starts)]
        which, item, at = self._long.find(hashed.runs(self.words, far))
        place = far[which]
        which, owner, length, whole = self._short.find(beginnings[likely])
        anchor = likely[which]
        same = np.flatnonzero(anchor + length <= len(hashed.starts))
        same = same[hashed.runs(length[same], anchor[same]) == whole[same]]
        place, item = np.concatenate([place, anchor[same]]), np.concatenate([item, owner[same]])
        words = np.concatenate([np.full(len(at), self.words), length[same]])
        at = np.concatenate([at, np.zeros(len(same), np.int64)])
        start, end = hashed.starts[place], hashed.ends[place + words - 1]
        piece = np.searchsorted(begins, start, "right") - 1
        rows = zip(*(column.tolist() for column in (piece, start - begins[piece], item, at, words, end)), strict=True)
        for number, left, one, first, n, stop in sorted(rows):
            here, right = pieces[number], stop - int(begins[number])
            if here.seen < right <= len(here.content):
                passage = here.content[left:right]
                yield Find(here.text, one, first, n, here.offset + left, here.offset + right, passage)


class _Piece(NamedTuple):
    """A text, or a part of a long one."""

    text: int
    content: str
    offset: int = 0
    """Characters of the text before it."""
    seen: int = 0
    """Its first characters that stood in the piece before."""


def _blocks(texts: Iterable[str], cut: bool = True) -> Iterator[list[_Piece]]:
    """Yield pieces of about a block together."""
    block: list[_Piece] = []
    size = 0
    for number, text in enumerate(texts):
        for piece in _cut(number, text) if cut else (_Piece(number, text),):
            block.append(piece)
            size += len(piece.content)
            if size >= _BLOCK_CHARACTERS:
                yield block
                block, size = [], 0
    if block:
        yield block


def _cut(number: int, text: str) -> Iterator[_Piece]:
    """Yield a text whole, or in pieces that overlap, cut between words where there is a space."""
    start = seen = 0
    while len(text) - start > 2 * _BLOCK_CHARACTERS:
        end = start + _BLOCK_CHARACTERS
        end = max(text.rfind(" ", end - _OVERLAP_CHARACTERS // 2, end), text.rfind("\n", end - 512, end), start) or end
        end = end if end > start else start + _BLOCK_CHARACTERS
        yield _Piece(number, text[start:end], start, seen)
        again = text.find(" ", end - _OVERLAP_CHARACTERS, end - _OVERLAP_CHARACTERS // 2)
        again = again if again >= 0 else end - _OVERLAP_CHARACTERS
        start, seen = again, end - again
    yield _Piece(number, text[start:], start, seen)


def _begins(pieces: Sequence[_Piece]) -> np.ndarray:
    """Return where each piece begins in their text joined by line breaks, and one more."""
    return np.array([0, *accumulate(len(piece.content) + 1 for piece in pieces)])


def _joined(blocks: Sequence[Sequence[np.ndarray]], types: Sequence[type]) -> list[np.ndarray]:
    """Return the columns of all blocks together; of no blocks, empty ones."""
    return [np.concatenate([np.zeros(0, kind), *(block[n] for block in blocks)]) for n, kind in enumerate(types)]


@cache
def character_values() -> np.ndarray:
    """Return a random number for every letter and digit, alike for both cases, and 0 for what separates words."""
    characters = "".join(map(chr, range(sys.maxunicode + 1)))
    # Of all characters this one alone grows when lowered, and would shift the rest.
    lowered = characters.replace("İ", "i").lower()
    values = np.random.default_rng(0).integers(1, 1 << 63, sys.maxunicode + 1, dtype=np.uint64)
    values = values[np.frombuffer(lowered.encode("utf-32-le", "surrogatepass"), np.uint32)]
    is_word = np.zeros(len(values), dtype=bool)
    for run in re.finditer(r"[^\W_]+", characters):
        is_word[run.start() : run.end()] = True
    values[~is_word] = 0
    return values


def _prefix_sums(values: np.ndarray) -> np.ndarray:
    sums = np.empty(len(values) + 1, np.uint64)
    sums[0] = 0
    np.cumsum(values, out=sums[1:])
    return sums
