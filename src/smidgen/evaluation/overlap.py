"""The longest passage some texts share verbatim with a training corpus, in one pass and bounded memory.

The corpus streams by once; in memory are only the texts asked about and one block of it. Works on bytes and says
nothing about whether a shared passage is bad: that needs a comparison (see health.py).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from smidgen.tokenizers.bytes import text_bytes

_BLOCK_BYTES = 1 << 20
_FILTER_BITS = 22
"""A table of 4 Mi flags: 99% of the corpus' windows leave here when the texts hold under 40 kB."""
_BASE = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio; odd, hence invertible modulo 2^64
_GAP, _TEXT_GAP = b"\xff", b"\xfe"
"""Between corpus documents and between texts: bytes UTF-8 never uses, so that no passage crosses a boundary."""


@dataclass(frozen=True)
class Overlap:
    """A passage found both in the texts and in the corpus."""

    passage: str
    """The longest shared passage; characters cut at its ends are left out."""
    bytes: int
    text_index: int
    """Which text holds it; -1 when nothing is shared."""

    @property
    def characters(self) -> int:
        """Length as a reader counts it."""
        return len(self.passage)


def longest_overlaps(groups: Mapping[str, Sequence[str]], corpus: Iterable[str]) -> dict[str, Overlap]:
    """Return, for every named group of texts, the longest passage it shares with the corpus.

    Exact: window hashes of 64 bits only propose, bytes decide. The corpus is read once, at about 20 MB a second.
    """
    searches = {name: _Search(texts) for name, texts in groups.items()}
    reach = max((search.longest_text for search in searches.values()), default=0)
    for block in _blocks(corpus, keep=reach):
        hashed = _Hashed(block)
        for search in searches.values():
            search.look_in(hashed)
    return {name: search.result() for name, search in searches.items()}


def _blocks(corpus: Iterable[str], keep: int) -> Iterator[bytes]:
    """Yield blocks that overlap by `keep` bytes, so that no passage of that length is cut apart."""
    pending, size, tail = [], 0, b""
    for text in corpus:
        pending += [text_bytes(text), _GAP]
        size += len(pending[-2]) + 1
        if size >= _BLOCK_BYTES:
            whole = tail + b"".join(pending)
            # One document may be larger than memory allows eight bytes for each of its bytes.
            for start in range(0, len(whole), _BLOCK_BYTES):
                yield whole[max(0, start - keep) : start + _BLOCK_BYTES]
            pending, size, tail = [], 0, whole[len(whole) - keep :] if keep else b""
    if pending:
        yield tail + b"".join(pending)


class _Hashed:
    """Bytes prepared so that the hash of any window costs one subtraction and one product.

    Prefix sums of byte * base^position modulo 2^64; dividing by base^start makes equal windows hash equally wherever
    they stand. Source: Karp and Rabin 1987, in prefix-sum form.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        # Spread byte values over 64 bits, else short windows of small numbers would collide in the top bits.
        values = np.random.default_rng(0).integers(1, 1 << 63, 256, dtype=np.uint64)[np.frombuffer(content, np.uint8)]
        n = len(content)
        powers = np.concatenate([[np.uint64(1)], np.cumprod(np.full(n, _BASE))]).astype(np.uint64)
        inverse = np.uint64(pow(int(_BASE), -1, 1 << 64))
        self.unshift = np.concatenate([[np.uint64(1)], np.cumprod(np.full(n, inverse))]).astype(np.uint64)
        self.sums = np.concatenate([[np.uint64(0)], np.cumsum(values * powers[:n])]).astype(np.uint64)

    def windows(self, length: int, starts: np.ndarray | None = None) -> np.ndarray:
        """Return the hashes of the windows of a length, all of them or those at `starts`."""
        if starts is None:
            return (self.sums[length:] - self.sums[: len(self.sums) - length]) * self.unshift[: len(self.sums) - length]
        return (self.sums[starts + length] - self.sums[starts]) * self.unshift[starts]


class _Search:
    """The longest match of one group of texts so far; every block can only lengthen it."""

    def __init__(self, texts: Sequence[str]) -> None:
        encoded = [text_bytes(text) for text in texts]
        self.starts = np.cumsum([0, *(len(text) + 1 for text in encoded)])
        self.longest_text = max(map(len, encoded), default=0)
        self.hashed = _Hashed(_TEXT_GAP.join(encoded))
        self.best = 0
        self.at = -1
        self._prepare()

    def look_in(self, block: _Hashed) -> None:
        """Lengthen the best match if the block holds a longer one.

        One look over the whole block at one byte more than the best; the few places that remain are tried at
        lengths that first double, then halve.
        """
        if len(block.content) <= self.best or self.best >= self.longest_text:
            return
        hashes = block.windows(self.best + 1)
        places = np.flatnonzero(self.table[hashes >> np.uint64(64 - _FILTER_BITS)])
        length, step, doubling = self.best, 1, True
        while step and len(places):
            longer = places[places <= len(block.content) - length - step]
            longer = longer[_member(block.windows(length + step, longer), self._windows(length + step))]
            if len(longer):
                places, length = longer, length + step
            doubling &= len(longer) > 0
            step = step * 2 if doubling else step // 2
        self._accept(block.content[places[0] : places[0] + length] if length > self.best else b"")

    def _accept(self, passage: bytes) -> None:
        at = self.hashed.content.find(passage) if passage else -1
        if at >= 0:
            self.best, self.at = len(passage), at
            self._prepare()

    def _windows(self, length: int) -> np.ndarray:
        return np.sort(self.hashed.windows(length)) if len(self.hashed.content) >= length else np.zeros(0, np.uint64)

    def _prepare(self) -> None:
        self.table = np.zeros(1 << _FILTER_BITS, dtype=bool)
        self.table[self._windows(self.best + 1) >> np.uint64(64 - _FILTER_BITS)] = True

    def result(self) -> Overlap:
        """Return the best match as text."""
        passage = self.hashed.content[self.at : self.at + self.best] if self.best else b""
        index = int(np.searchsorted(self.starts, self.at, side="right")) - 1 if self.best else -1
        return Overlap(passage.decode("utf-8", "ignore"), self.best, index)


def _member(hashes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if not len(wanted):
        return np.zeros(len(hashes), dtype=bool)
    at = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
    return wanted[at] == hashes
