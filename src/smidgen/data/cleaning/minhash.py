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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from smidgen.config import Config
from smidgen.data.cleaning.exact import drop_listed, pairs_sorted, stacked
from smidgen.data.cleaning.step import Columns, Record, Verdict
from smidgen.data.cleaning.words import WordHasher, spread
from smidgen.errors import ConfigError

_BATCH_CHARACTERS = 1 << 17
_LOW = np.uint64(32)
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
    seed: int = 0
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

    Memory to decide, for each document: 8 bytes, 4 for each band, 1 for each hash; with the defaults 208, so 1 GB holds
    five million. A band is sorted at a time.
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
            "bands": (mixed >> _LOW).astype(np.uint32),
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

    def decide(self, tables: Iterable[Columns]) -> Columns:
        """Return the keys of what is dropped and of the first document of its cluster, sorted by the first."""
        shapes = {"bands": (self.banding.bands, np.uint32), "minima": (self.banding.hashes, np.uint8)}
        parts = list(tables)
        key = stacked(parts, ("key",))["key"]
        bands, minima = (
            np.concatenate([np.zeros((0, width), kind), *(part[name] for part in parts)])
            for name, (width, kind) in shapes.items()
        )
        first = np.arange(len(key))
        for band in range(self.banding.bands):
            one, other = _candidates(bands[:, band])
            apart = first[one] != first[other]
            one, other = one[apart], other[apart]
            close = agreement(minima, one, other) >= self.confirmed_from
            first = _joined(first, one[close], other[close])
        dropped = np.flatnonzero(first != np.arange(len(key)))
        return pairs_sorted(key[dropped], key[first[dropped]])

    def judge(self, decision: Columns) -> Callable[[Record], Verdict]:
        """Return what drops the documents decided on."""
        return drop_listed(decision, "near:document")


def _candidates(band: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of documents that agree in a band: each with the first of its group and with the one before."""
    order = np.argsort(band, kind="stable")
    ranked = band[order]
    same = np.flatnonzero(ranked[1:] == ranked[:-1]) + 1
    begins = np.ones(len(band), dtype=bool)
    begins[same] = False
    group = np.maximum.accumulate(np.where(begins, np.arange(len(band)), 0))
    far = same[group[same] != same - 1]
    return order[np.concatenate([same - 1, group[far]])], order[np.concatenate([same, far])]


def agreement(minima: np.ndarray, one: np.ndarray, other: np.ndarray, batch: int = 1 << 16) -> np.ndarray:
    """Return the share of equal minima of each pair, less the 1 in 256 that single bytes share by chance."""
    shares = np.empty(len(one))
    for at in range(0, len(one), batch):
        here = slice(at, at + batch)
        shares[here] = (minima[one[here]] == minima[other[here]]).mean(axis=1)
    return (shares - 1 / 256) / (1 - 1 / 256)


def _joined(first: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return, for each document, the first of its cluster, once these pairs are in one cluster."""
    while True:
        low, high = np.minimum(first[one], first[other]), np.maximum(first[one], first[other])
        if np.array_equal(low, high):
            return first
        np.minimum.at(first, high, low)
        while not np.array_equal(first, first[first]):
            first = first[first]
