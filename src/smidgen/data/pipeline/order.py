"""Which document stands where in the shards: sides, mixture, order; settled once, from an index of all documents.

Everything follows from hashes of ids and texts, so it does not matter how the corpus was cut or who encoded it.
Memory: 80 bytes for each document that was kept (a million documents of 4 kB: 80 MB).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smidgen.data.cleaning.mixing import plan_epochs
from smidgen.data.cleaning.words import spread
from smidgen.data.pack import pack_rows
from smidgen.data.pipeline.definition import PipelineConfig
from smidgen.data.pipeline.parts import read_columns, write_columns, write_json
from smidgen.data.pipeline.sources import made_by
from smidgen.data.pipeline.work import INDEX
from smidgen.data.shards import Provenance
from smidgen.data.split import Side
from smidgen.errors import DataError

_PACKED = 1_000_000
"""Documents from which the fill of rows is told: packing a million takes a second."""


@dataclass(frozen=True)
class Order:
    """What the shards will hold."""

    shards: dict[Side, list[str]]
    """Names of the shards of each side."""
    sources: tuple[Provenance, ...]
    """What is in them, by source."""
    validation_fraction: float
    """Share of the documents that was aimed at for validation."""
    fill: float
    """Share of supervised targets in rows of the length asked for."""
    notes: list[str]
    """What a person should be told about it."""


def settle_order(config: PipelineConfig, folder: Path, parts: Sequence[str]) -> Order:
    """Settle and write down what each shard is gathered from. Raises DataError if too little text is left."""
    index = _read_index(folder, parts)
    held_out, fraction = _held_out(index, config)
    epochs = _epochs(index, held_out, config)
    seed = config.output.seed
    copies = np.where(held_out, 1, _copies(index["key"], epochs[index["source"]], seed))
    if not (copies > 0).any() or not copies[~held_out].any():
        raise DataError("mixing left no document to train on. Raise epochs, tokens or weights of the sources.")
    shards: dict[Side, list[str]] = {}
    chosen_of: dict[Side, np.ndarray] = {"train": ~held_out, "validation": held_out}
    for side, chosen in chosen_of.items():
        order = _shuffled(index["key"], np.where(chosen, copies, 0), seed)
        shards[side] = list(_write_side(folder / "order", side, index, order, config.output.shard_symbols))
    write_json(folder / "order" / "parts.json", list(parts))
    return Order(
        shards,
        _provenance(index, copies, epochs, held_out, config),
        fraction,
        _fill(index["symbols"][~held_out], config),
        _notes(held_out, copies),
    )


def _read_index(folder: Path, parts: Sequence[str]) -> Mapping[str, np.ndarray]:
    tables = [read_columns(folder / "encode" / f"{name}.npz") for name in parts]
    index: dict[str, np.ndarray] = {
        name: np.concatenate([t[name] for t in tables] or [np.zeros(0, np.uint64)]) for name in INDEX
    }
    index["part"] = np.repeat(np.arange(len(tables)), [len(t["key"]) for t in tables] or [0])
    index |= {name: index[name].astype(np.int64) for name in ("symbols", "bytes", "source")}
    before = np.cumsum(index["symbols"]) - index["symbols"]
    first = np.flatnonzero(np.diff(index["part"], prepend=-1))
    bases = np.zeros(len(tables), dtype=np.int64)
    bases[index["part"][first]] = before[first]
    index["start"] = before - bases[index["part"]]
    return index


def _held_out(index: Mapping[str, np.ndarray], config: PipelineConfig) -> tuple[np.ndarray, float]:
    """Return which documents validate, by their text: copies that were not cleaned away keep together."""
    content, total = index["content"], int(index["bytes"].sum())
    if len(np.unique(content)) < 2:
        raise DataError(
            f"{len(content)} documents are left, and training and validation need one each at least. "
            "See what was dropped and why: counts.json in the folder of the result."
        )
    fraction = config.output.validation_fraction or min(max(5e5 / max(total, 1), 0.005), 0.1)
    held_out = content < np.uint64(min(fraction * 2.0**64, 2.0**64 - 2048))
    if not held_out.any():
        held_out = content == content.min()
    if held_out.all():
        held_out = content != content.max()
    return held_out, fraction


def _epochs(index: Mapping[str, np.ndarray], held_out: np.ndarray, config: PipelineConfig) -> np.ndarray:
    counted = np.bincount(
        index["source"][~held_out], weights=index["symbols"][~held_out], minlength=len(config.sources)
    )
    sizes = {source.name: int(size) for source, size in zip(config.sources, counted, strict=True)}
    planned = plan_epochs(sizes, {source.name: source.share for source in config.sources}, config.output.mix)
    return np.array([planned[source.name] for source in config.sources])


def _copies(key: np.ndarray, epochs: np.ndarray, seed: int) -> np.ndarray:
    """Return how often each document comes: as a whole number says, and once more by its hash."""
    part = np.minimum((epochs % 1.0) * 2.0**64, 2.0**64 - 2048).astype(np.uint64)
    return np.floor(epochs).astype(np.int64) + (_drawn(key, seed, 0) < part)


def _shuffled(key: np.ndarray, copies: np.ndarray, seed: int) -> np.ndarray:
    """Return documents by their places in the index, each as often as it comes, in an order that the seed decides."""
    document = np.repeat(np.arange(len(key)), copies)
    copy = np.arange(len(document)) - np.repeat(np.cumsum(copies) - copies, copies)
    return document[np.lexsort((key[document], _drawn(key[document], seed, copy + 1)))]


def _drawn(key: np.ndarray, seed: int, number: int | np.ndarray) -> np.ndarray:
    turn = np.atleast_1d(np.asarray(number, dtype=np.uint64)) + (np.uint64(seed) << np.uint64(20))
    return spread(key ^ spread(turn + np.uint64(1)))


def _write_side(
    folder: Path, side: Side, index: Mapping[str, np.ndarray], order: np.ndarray, shard_symbols: int
) -> Iterator[str]:
    """Write what each shard of a side is gathered by; a shard ends with the document that fills it."""
    ends = np.cumsum(index["symbols"][order])
    first = number = 0
    while first < len(order):
        before = int(ends[first - 1]) if first else 0
        last = min(int(np.searchsorted(ends, before + shard_symbols)) + 1, len(order))
        name = f"{side}-{number:05d}"
        write_columns(
            folder / f"{name}.npz", {c: index[c][order[first:last]] for c in ("part", "start", "symbols", "bytes")}
        )
        yield name
        first, number = last, number + 1


def _provenance(
    index: Mapping[str, np.ndarray],
    copies: np.ndarray,
    epochs: np.ndarray,
    held_out: np.ndarray,
    config: PipelineConfig,
) -> tuple[Provenance, ...]:
    told = []
    for place, source in enumerate(config.sources):
        own = (index["source"] == place) & (copies > 0)
        told.append(
            Provenance(
                name=source.name,
                license=source.license,
                documents=int(own.sum()),
                text_bytes=int(index["bytes"][own].sum()),
                symbols=int((index["symbols"] * copies)[own].sum()),
                epochs=round(float(epochs[place]), 6) if (own & ~held_out).any() else 0.0,
                made_by=made_by(source),
            )
        )
    return tuple(told)


def _fill(lengths: np.ndarray, config: PipelineConfig) -> float:
    lengths = lengths[:_PACKED]
    starts = np.cumsum(lengths) - lengths
    return round(pack_rows(starts, lengths, config.output.seq_len, config.output.seed).fill(config.output.seq_len), 6)


def _notes(held_out: np.ndarray, copies: np.ndarray) -> list[str]:
    out, twice = int((copies == 0).sum()), int((copies > 1).sum())
    notes = [f"Mixing left out {out:,} of {len(copies):,} documents."] if out else []
    notes += [f"Mixing repeats {twice:,} of {len(copies):,} documents."] if twice else []
    return notes
