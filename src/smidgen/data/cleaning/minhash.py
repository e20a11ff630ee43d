"""Documents that are nearly the same, found by MinHash with a banding that is planned and not left to chance.

A document is the set of its runs of `ngram` words; two documents are as similar as their sets are (Jaccard: shared runs
of all runs). The minimum of a hash over a set equals that of another set with exactly this probability, so `rows`
minima in a row agree with probability s^rows, and at least one of `bands` such rows with 1 - (1 - s^rows)^bands: that
pair becomes a candidate. Asked for the pairs of similarity s with recall r, one needs

    bands = ln(1 - r) / ln(1 - s^rows)

and of all pairs (bands, rows) that the number of hashes allows, the most rows let the fewest others through. Candidates
are confirmed by the share of all minima that agree, whose standard error at s is sqrt(s (1 - s) / hashes).

What similarity means in changed words: where a share e of the words is replaced, a run of n words survives with
q = (1 - e)^n, and s = q / (2 - q). For 5% of words s is 0.82, 0.75, 0.63 with runs of 2, 3, 5 words.

Sources: Broder 1997, On the resemblance and containment of documents; Leskovec, Rajaraman and Ullman 2014, Mining of
Massive Datasets, section 3.4; Lee et al. 2021, arXiv 2107.06499, for its use on training text.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from smidgen.config import Config
from smidgen.data.cleaning.exact import drop_listed, pairs_sorted
from smidgen.data.cleaning.ranges import count_rows, rows_at, stacked
from smidgen.data.cleaning.step import Columns, Record, Table, Verdict
from smidgen.data.cleaning.words import WordHasher, spread
from smidgen.errors import ConfigError, DataError

_BATCH_CHARACTERS = 1 << 17
_LOW = np.uint64(32)
_LOW_BITS = np.uint64(0xFFFFFFFF)
_PAIRS = 1 << 20
"""Candidate pairs whose minima are in memory together, and places of a band that are looked at together."""
_MOST_HASHES = 2048


class NearConfig(Config):
    """What counts as nearly the same."""

    type: Literal["near"] = "near"
    similarity: Annotated[float, Field(gt=0.1, lt=1)] = 0.6
    """Documents at least so similar are to be found. 0.6 of runs of three words: 9% of the words changed."""
    recall: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """The share of pairs of just this similarity that banding finds; of more similar ones it finds more."""
    ngram: Annotated[int, Field(ge=1, le=20)] = 3
    """Words of a run. Longer runs make changed words count more (see above), shorter ones are shared by accident."""
    max_hashes: Annotated[int, Field(ge=8, le=_MOST_HASHES)] = 128
    """Hashes of a document, at most: they are what signatures cost, in time and in memory."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Chooses the hash functions."""
    confirm_errors: Annotated[float, Field(ge=0)] = 2.5
    """A candidate is confirmed down to so many standard errors below `similarity`: 2.5 loses 0.6% of the pairs that are
    just so similar."""


@dataclass(frozen=True, slots=True)
class Banding:
    """How many bands of how many hashes."""

    bands: int
    rows: int

    @property
    def hashes(self) -> int:
        """All minima of a signature."""
        return self.bands * self.rows

    def probability(self, similarity: float) -> float:
        """Return how probably a pair of this similarity becomes a candidate."""
        return 1 - (1 - similarity**self.rows) ** self.bands


def plan_banding(similarity: float, recall: float, max_hashes: int) -> Banding:
    """Return the banding that finds pairs of this similarity with this recall and lets the fewest others through.

    Raises ConfigError if so few hashes cannot reach the recall.
    """
    best = None
    for rows in range(1, max_hashes + 1):
        bands = math.ceil(math.log(1 - recall) / math.log1p(-(similarity**rows)))
        if bands * rows > max_hashes:
            break
        best = Banding(bands, rows)
    if best is None:
        raise ConfigError(
            f"near: {max_hashes} hashes cannot find pairs of similarity {similarity} with recall {recall}. "
            "Raise max_hashes, or ask for less recall."
        )
    return best


def similarity_after(changed: float, ngram: int) -> float:
    """Return how similar a text is to itself with this share of its words replaced, in runs of so many words."""
    survives = (1 - changed) ** ngram
    return survives / (2 - survives)


class Near:
    """Drops documents nearly the same as an earlier one; of a cluster the first stays.

    On disk a document takes 8 bytes, 4 for each band, 1 for each hash; with the defaults 141. Deciding reads a band at
    a time and of the minima those of candidates, and holds 20 bytes a document whatever the banding.
    """

    name = "near"

    def __init__(self, config: NearConfig) -> None:
        self.config = config
        self.banding = plan_banding(config.similarity, config.recall, config.max_hashes)
        error = math.sqrt(config.similarity * (1 - config.similarity) / self.banding.hashes)
        self.confirmed_from = config.similarity - config.confirm_errors * error
        """Share of equal minima from which a candidate is confirmed."""

    @cached_property
    def _hasher(self) -> WordHasher:
        return WordHasher()

    @cached_property
    def _factors(self) -> np.ndarray:
        factors = np.random.default_rng(self.config.seed).integers(
            0, 1 << 63, (2, self.banding.hashes), dtype=np.uint64
        )
        return factors * np.uint64(2) + np.uint64(1)  # odd: multiplying by it loses nothing

    def collect(self, records: Sequence[Record]) -> Columns:
        """Return each document's key, the hash of each of its bands, and a byte of each of its minima.

        A document of fewer words than a run has no set and is like no other; it is left out.
        """
        keys = np.array([record.key for record in records], np.uint64)
        signatures, has_words = self.signatures([record.text for record in records])
        signatures = signatures[has_words]
        bands = signatures.reshape(-1, self.banding.bands, self.banding.rows).astype(np.uint64)
        mixed = np.zeros(bands.shape[:2], np.uint64)
        for row in range(self.banding.rows):
            mixed = spread(mixed * np.uint64(31) + bands[:, :, row])
        return {
            "key": keys[has_words],
            "bands": np.ascontiguousarray((mixed >> _LOW).astype(np.uint32).T),  # one band is read at a time
            "minima": (signatures & np.uint32(0xFF)).astype(np.uint8),
        }

    def signatures(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the minima of each text (N, hashes), 32 bits each, and which texts have any."""
        found = np.full((len(texts), self.banding.hashes), 0xFFFFFFFF, np.uint32)
        has_words = np.zeros(len(texts), dtype=bool)
        begin = 0
        while begin < len(texts):
            end, size = begin, 0
            while end < len(texts) and (end == begin or size + len(texts[end]) <= _BATCH_CHARACTERS):
                size += len(texts[end])
                end += 1
            has_words[begin:end] = self._sign(texts[begin:end], found[begin:end])
            begin = end
        return found, has_words

    def _sign(self, texts: Sequence[str], into: np.ndarray) -> np.ndarray:
        """Write the minima of texts that fit one block; runs that reach from one text into the next are left out."""
        hashed = self._hasher.hash("\n".join(texts))
        begins = np.concatenate([[0], np.cumsum([len(text) + 1 for text in texts])])
        owner = np.repeat(np.arange(len(texts)), np.diff(np.searchsorted(hashed.starts, begins)))
        runs, n = hashed.runs(self.config.ngram), self.config.ngram
        inside = owner[: len(runs)] == owner[n - 1 :][: len(runs)]
        runs, owner = spread(runs[inside]), owner[: len(runs)][inside]
        if not len(runs):
            return np.zeros(len(texts), dtype=bool)
        first = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
        texts_with_runs = owner[first]
        minima, values = np.empty((self.banding.hashes, len(first)), np.uint64), np.empty_like(runs)
        for hash_number, (factor, shift) in enumerate(self._factors.T):
            np.multiply(runs, factor, out=values)
            values += shift
            np.minimum.reduceat(values, first, out=minima[hash_number])
        into[texts_with_runs] = (minima >> _LOW).T
        return np.isin(np.arange(len(texts)), texts_with_runs)

    def decide(self, tables: Sequence[Table]) -> Columns:
        """Return the keys of what is dropped and of the first document of its cluster, sorted by the first."""
        documents = count_rows(tables, "key")
        if documents > int(_LOW_BITS):
            raise DataError(
                f"near: {documents:,} documents are more than the 4,294,967,295 it tells apart. Cut them up."
            )
        first = np.arange(documents, dtype=np.uint32)
        for band in range(self.banding.bands):
            waiting = [np.zeros(0, np.uint64)]
            for pairs in _candidates(_ranked(tables, band, documents)):
                waiting.append(pairs[_are_apart(first, pairs)])
                if sum(map(len, waiting)) >= _PAIRS:
                    self._join_close(tables, first, np.concatenate(waiting))
                    waiting = waiting[:1]
            # Before the next band, which finds most of the same pairs again: those joined by now are not looked at.
            self._join_close(tables, first, np.concatenate(waiting))
        for at in range(0, documents, _PAIRS):
            first[at : at + _PAIRS] = _roots(first, first[at : at + _PAIRS])
        dropped = np.flatnonzero(first != np.arange(documents, dtype=np.uint32))
        key = stacked(tables, "key", documents)
        return pairs_sorted(key[dropped], key[first[dropped]])

    def _join_close(self, tables: Sequence[Table], first: np.ndarray, pairs: np.ndarray) -> None:
        """Join the clusters of those pairs whose minima agree, in `first`."""
        for at in range(0, len(pairs), _PAIRS):
            one, other = _told(pairs[at : at + _PAIRS])
            asked = np.unique(np.concatenate([one, other]))
            minima = rows_at(tables, "minima", asked)
            share = agreement(minima, np.searchsorted(asked, one), np.searchsorted(asked, other))
            close = share >= self.confirmed_from
            _join(first, one[close], other[close])

    def held(self, rows: int) -> int:
        """Return the bytes that deciding holds: 20 a document, and the minima of some pairs."""
        return 20 * rows + 4 * self.banding.hashes * min(rows, _PAIRS) + 64 * min(rows, 2 * _PAIRS)

    def judge(self, decision: Columns) -> Callable[[Record], Verdict]:
        """Return what drops the documents decided on."""
        return drop_listed(decision, "near:document")


def _ranked(tables: Sequence[Table], band: int, documents: int) -> np.ndarray:
    """Return the hashes of one band and the documents they are of, as one number each, sorted."""
    ranked, at = np.empty(documents, np.uint64), 0
    for table in tables:
        hashes = table["bands"][band].astype(np.uint64)
        ranked[at : at + len(hashes)] = (hashes << _LOW) | np.arange(at, at + len(hashes), dtype=np.uint64)
        at += len(hashes)
    ranked.sort()
    return ranked


def _candidates(ranked: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the pairs of documents that agree in a band, each as one number, the earlier document above.

    Every document is paired with the first of its group and with the one before.
    """
    head = np.uint64(0)
    for at in range(0, len(ranked), _PAIRS):
        part = ranked[max(0, at - 1) : at + _PAIRS]  # and the last that was looked at
        document, hashes = part & _LOW_BITS, part >> _LOW
        same = np.flatnonzero(hashes[1:] == hashes[:-1]) + 1
        begins = np.append(True, np.diff(same) > 1)[: len(same)]
        run = np.cumsum(begins) - 1
        heads = document[same[begins] - 1]
        if at and len(same) and same[0] == 1:
            heads[0] = head  # the group goes on from the part before
        group = heads[run]
        head = group[-1] if len(same) and same[-1] == len(part) - 1 else document[-1]
        before = document[same - 1]
        far = group != before
        yield np.concatenate([(before << _LOW) | document[same], (group[far] << _LOW) | document[same[far]]])


def _told(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two documents of each pair."""
    return (pairs >> _LOW).astype(np.uint32), (pairs & _LOW_BITS).astype(np.uint32)


def _are_apart(first: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    one, other = _told(pairs)
    return _roots(first, one) != _roots(first, other)


def agreement(minima: np.ndarray, one: np.ndarray, other: np.ndarray, batch: int = 1 << 16) -> np.ndarray:
    """Return the share of equal minima of each pair, less the 1 in 256 that single bytes share by chance."""
    shares = np.empty(len(one))
    for at in range(0, len(one), batch):
        here = slice(at, at + batch)
        shares[here] = (minima[one[here]] == minima[other[here]]).mean(axis=1)
    return (shares - 1 / 256) / (1 - 1 / 256)


def _roots(first: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Return the first document of the cluster that each is in."""
    while not np.array_equal(above := first[documents], documents):
        documents = above
    return documents


def _join(first: np.ndarray, one: np.ndarray, other: np.ndarray) -> None:
    """Have each pair in one cluster, in `first`, where every document points to an earlier one of its own."""
    while len(one):
        one, other = _roots(first, one), _roots(first, other)
        low, high = np.minimum(one, other), np.maximum(one, other)
        one, other = low[low != high], high[low != high]
        np.minimum.at(first, other, one)  # of several the first counts, the others are joined in the next round
