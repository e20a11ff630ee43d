"""A part of a corpus that covers its breadth: cluster by vocabulary, then take from every cluster in turn.

A document is its hashed words, weighted as log counts and projected at random to a few dimensions; k-means groups the
projections. A budget is given to the clusters evenly, as water rises: small ones are taken whole, and what they leave
goes to the rest. Within a cluster a hash of the key decides, so the same documents are chosen in any order of parts.
Source: Abbas et al. 2023, arXiv 2303.09540, and Tirumala et al. 2023, arXiv 2308.12284 (balance over clusters);
Achlioptas 2003 (random signs as a projection).
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from smidgen.config import Config
from smidgen.data.cleaning.ranges import batches, count_rows, place_of, rows_at, stacked
from smidgen.data.cleaning.step import Columns, Dropped, Kept, Record, Table, Verdict
from smidgen.data.cleaning.words import WordHasher, spread

_ROUNDS = 12
_TRAINED_ON = 100_000
"""Documents that k-means looks at; the others join the nearest centre."""
_NEAREST_BATCH = 1 << 14


class DiversityConfig(Config):
    """How much is taken, and from how many clusters."""

    type: Literal["diversity"] = "diversity"
    max_bytes: Annotated[int, Field(ge=1)]
    """Bytes of text that go on, about: the document that crosses a cluster's part is taken."""
    clusters: Annotated[int, Field(ge=2, le=10_000)] = 64
    """Groups of documents between which the bytes are shared evenly."""
    dimensions: Annotated[int, Field(ge=8, le=1024)] = 64
    """Dimensions of a projection."""
    sample_characters: Annotated[int, Field(ge=100)] = 20_000
    """What a document is about is told by so much of its beginning."""
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    """Chooses projection, first centres and documents."""


class Diversity:
    """Drops what a small budget has no room for, evenly over the subjects of the corpus.

    On disk a document takes 16 bytes and 2 for each dimension; deciding reads the projections a batch at a time and
    holds 64 bytes a document.
    """

    name = "diversity"

    def __init__(self, config: DiversityConfig) -> None:
        self.config = config

    @cached_property
    def _hasher(self) -> WordHasher:
        return WordHasher()

    def collect(self, records: Sequence[Record]) -> Columns:
        """Return each document's key, bytes and projection."""
        width = self.config.dimensions
        projections = np.zeros((len(records), width), np.float16)
        for n, record in enumerate(records):
            projections[n] = self._project(record.text[: self.config.sample_characters])
        return {
            "key": np.array([record.key for record in records], np.uint64),
            "bytes": np.array([len(record.text.encode("utf-8", "replace")) for record in records], np.uint64),
            "projection": projections,
        }

    def _project(self, text: str) -> np.ndarray:
        words, counts = np.unique(self._hasher.hash(text).runs(1), return_counts=True)
        if not len(words):
            return np.zeros(self.config.dimensions)
        streams = np.arange(1, -(-self.config.dimensions // 64) + 1, dtype=np.uint64) + np.uint64(
            self.config.seed << 16
        )
        bits = spread(words[:, None] ^ spread(streams)[None, :]).view(np.uint8).reshape(len(words), -1)
        signs = np.unpackbits(bits, axis=1)[:, : self.config.dimensions].astype(np.float32) * 2 - 1
        projection = np.log1p(counts.astype(np.float32)) @ signs
        return projection / (np.linalg.norm(projection) + 1e-9)

    def decide(self, tables: Sequence[Table]) -> Columns:
        """Return the keys of what is dropped, sorted, and the cluster of each."""
        rows = count_rows(tables, "key")
        size = stacked(tables, "bytes", rows)
        if size.sum() <= self.config.max_bytes:
            return {"key": np.zeros(0, np.uint64), "cluster": np.zeros(0, np.int32)}
        cluster = self._clusters(tables, rows)
        key = stacked(tables, "key", rows)
        total = np.bincount(cluster, size, self.config.clusters).astype(np.int64)
        room = shared_evenly(total, self.config.max_bytes)
        order, dropped, at = np.argsort(cluster, kind="stable"), list[np.ndarray](), 0
        for one, members in enumerate(np.bincount(cluster, minlength=self.config.clusters)):
            own = order[at : at + members]
            own = own[np.argsort(spread(key[own] ^ np.uint64(self.config.seed)), kind="stable")]
            sizes = size[own].astype(np.int64)
            dropped.append(own[np.cumsum(sizes) - sizes >= room[one]])
            at += members
        gone = np.concatenate(dropped)
        del size, order, dropped
        gone = gone[np.argsort(key[gone])]
        return {"key": key[gone], "cluster": cluster[gone].astype(np.int32)}

    def _clusters(self, tables: Sequence[Table], rows: int) -> np.ndarray:
        """Return the cluster of every document."""
        total = np.zeros(self.config.dimensions, np.float32)
        for points in batches(tables, "projection", _NEAREST_BATCH):
            total = np.add.reduce(np.concatenate([total[None], points.astype(np.float32)]))  # row after row
        mean = (total / np.float32(rows)).astype(np.float16)  # what all share says nothing
        generator = np.random.default_rng(self.config.seed)
        asked, place = np.unique(generator.permutation(rows)[:_TRAINED_ON], return_inverse=True)
        sample = (rows_at(tables, "projection", asked) - mean)[place].astype(np.float32)
        centre = centres(sample, self.config.clusters, generator)
        found = (nearest(points - mean, centre) for points in batches(tables, "projection", _NEAREST_BATCH))
        return np.concatenate([labels.astype(np.int16) for labels in found])

    def held(self, rows: int) -> int:
        """Return the bytes that deciding holds: 64 a document, and the sample that k-means looks at."""
        return 64 * rows + 12 * self.config.dimensions * min(rows, _TRAINED_ON)

    def judge(self, decision: Columns) -> Callable[[Record], Verdict]:
        """Return what drops the documents there is no room for."""
        keys, clusters = decision["key"], decision["cluster"]

        def apply(record: Record) -> Verdict:
            at = place_of(keys, record.key)
            return Kept(record.text) if at is None else Dropped("diversity:no_room", f"cluster {clusters[at]}")

        return apply


def centres(sample: np.ndarray, k: int, generator: np.random.Generator) -> np.ndarray:
    """Return k centres by Lloyd's rounds on a sample, begun at k-means++ (Arthur and Vassilvitskii 2007)."""
    chosen = [sample[0]]
    distance = np.full(len(sample), np.inf, np.float32)
    for _ in range(1, k):
        distance = np.minimum(distance, np.square(sample - chosen[-1]).sum(axis=1))
        total = float(distance.sum())
        chosen.append(sample[generator.choice(len(sample), p=distance / total) if total > 0 else 0])
    found = np.stack(chosen)
    for _ in range(_ROUNDS):
        label = nearest(sample, found)
        for cluster in np.unique(label):
            found[cluster] = sample[label == cluster].mean(axis=0)
    return found


def nearest(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return which centre each point is nearest to."""
    half = np.square(centre).sum(axis=1) / 2
    batches = (points[at : at + _NEAREST_BATCH].astype(np.float32) for at in range(0, len(points), _NEAREST_BATCH))
    return np.concatenate([np.argmax(batch @ centre.T - half, axis=1) for batch in batches])


def shared_evenly(sizes: np.ndarray, budget: int) -> np.ndarray:
    """Return how much of each part fits a budget shared evenly: none gets more than it has, what is left goes on."""
    share, left = np.zeros(len(sizes), np.int64), budget
    order = np.argsort(sizes, kind="stable")
    for n, part in enumerate(order):
        share[part] = min(int(sizes[part]), left // (len(order) - n))
        left -= int(share[part])
    return share
