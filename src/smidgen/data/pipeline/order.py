"""Which document stands where in the shards: sides, mixture, order; settled once, from an index of all documents.

Everything follows from hashes of ids and texts, so it does not matter how the corpus was cut or who encoded it.
Memory: 48 bytes for each document that was kept (a million documents of 4 kB: 48 MB), and what sorting a range of the
hashes that decide the order takes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from smidgen.data.cleaning.mixing import plan_epochs
from smidgen.data.cleaning.ranges import hash_ranges
from smidgen.data.cleaning.words import spread
from smidgen.data.pack import pack_rows
from smidgen.data.pipeline.definition import PipelineConfig
from smidgen.data.pipeline.parts import StoredTable, write_columns, write_json
from smidgen.data.pipeline.sources import made_by
from smidgen.data.pipeline.work import INDEX, ORDER
from smidgen.data.shards import Provenance
from smidgen.data.split import Side
from smidgen.errors import DataError

ORDER_BYTES = 48
"""Memory for each document that is left."""
_AT_ONCE = 1 << 21
"""Documents that are sorted together, about."""
_TYPES = {
    "key": np.uint64,
    "content": np.uint64,
    "symbols": np.uint32,
    "bytes": np.uint32,
    "source": np.uint16,
    "part": np.uint32,
    "start": np.int64,
}
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
    copies = _copies(index, held_out, epochs, config.output.seed)
    if not (copies > 0).any() or not copies[~held_out].any():
        raise DataError("mixing left no document to train on. Raise epochs, tokens or weights of the sources.")
    shards: dict[Side, list[str]] = {}
    sides: tuple[tuple[Side, bool], ...] = (("train", False), ("validation", True))
    for side, is_held_out in sides:
        order = _shuffled(index["key"], copies, held_out == is_held_out, config.output.seed)
        shards[side] = list(_write_side(folder / "order", side, index, order, config.output.shard_symbols))
    write_json(folder / "order" / "parts.json", list(parts))
    return Order(
        shards,
        _provenance(index, copies, epochs, held_out, config),
        fraction,
        _fill(index["symbols"][~held_out], config),
        [*_notes(held_out, copies), *_mixture_notes(index, held_out, epochs, config)],
    )


def _read_index(folder: Path, parts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return what is known of every document, and where its symbols begin in its part."""
    tables = [StoredTable(folder / "encode" / f"{name}.npz") for name in parts]
    rows = sum(table.rows for table in tables)
    index = {name: np.empty(rows, kind) for name, kind in _TYPES.items()}
    at = 0
    for number, table in enumerate(tables):
        here = slice(at, at + table.rows)
        for name in INDEX:
            index[name][here] = table[name]
        index["part"][here] = number
        index["start"][here] = np.cumsum(table["symbols"]) - table["symbols"]
        at += table.rows
    return index


def _held_out(index: dict[str, np.ndarray], config: PipelineConfig) -> tuple[np.ndarray, float]:
    """Return which documents validate, by their text: copies that were not cleaned away keep together.

    The hashes of the texts are not needed again, and leave the index.
    """
    content, total = index.pop("content"), int(index["bytes"].sum(dtype=np.int64))
    if not len(content) or content.min() == content.max():
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


def _sizes(index: Mapping[str, np.ndarray], held_out: np.ndarray, sources: int) -> np.ndarray:
    """Return the symbols of each source that may be trained on, gone through once."""
    counted = np.zeros(sources)
    for here in _slices(len(held_out)):
        trains = ~held_out[here]
        source, symbols = index["source"][here][trains], index["symbols"][here][trains]
        counted += np.bincount(source, weights=symbols, minlength=sources)
    return counted


def _epochs(index: Mapping[str, np.ndarray], held_out: np.ndarray, config: PipelineConfig) -> np.ndarray:
    counted = _sizes(index, held_out, len(config.sources))
    sizes = {source.name: int(size) for source, size in zip(config.sources, counted, strict=True)}
    planned = plan_epochs(sizes, {source.name: source.share for source in config.sources}, config.output.mix)
    return np.array([planned[source.name] for source in config.sources])


def _copies(index: Mapping[str, np.ndarray], held_out: np.ndarray, epochs: np.ndarray, seed: int) -> np.ndarray:
    """Return how often each document comes: as a whole number says, and once more by its hash; to validate, once."""
    copies = np.ones(len(held_out), np.uint32)
    whole, part = np.floor(epochs).astype(np.uint32), np.minimum((epochs % 1.0) * 2.0**64, 2.0**64 - 2048)
    for here in _slices(len(held_out)):
        source = index["source"][here]
        once_more = _drawn(index["key"][here], seed, 0) < part.astype(np.uint64)[source]
        copies[here] = np.where(held_out[here], 1, whole[source] + once_more)
    return copies


def _shuffled(key: np.ndarray, copies: np.ndarray, chosen: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Yield documents by their places in the index, each as often as it comes, in an order that the seed decides.

    The hashes that decide are drawn a range at a time, for all documents, and sorted.
    """
    for begin, end in hash_ranges(int(copies.sum(dtype=np.int64, where=chosen)), _AT_ONCE):
        documents, draws = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
        for here in _slices(len(key)):
            document = np.flatnonzero(chosen[here]) + here.start
            for copy in range(1, int(copies[document].max(initial=0)) + 1):
                document = document[copies[document] >= copy]
                drawn = _drawn(key[document], seed, copy)
                inside = (drawn >= np.uint64(begin)) & (drawn <= np.uint64(end - 1))
                documents.append(document[inside])
                draws.append(drawn[inside])
        document, drawn = np.concatenate(documents), np.concatenate(draws)
        yield document[np.lexsort((document, key[document], drawn))]


def _slices(rows: int) -> Iterator[slice]:
    return (slice(at, min(at + _AT_ONCE, rows)) for at in range(0, rows, _AT_ONCE))


def _drawn(key: np.ndarray, seed: int, number: int) -> np.ndarray:
    return spread(key ^ spread(np.array([(number + (seed << 20) + 1) % (1 << 64)], np.uint64)))


def _write_side(
    folder: Path, side: Side, index: Mapping[str, np.ndarray], order: Iterator[np.ndarray], shard_symbols: int
) -> Iterator[str]:
    """Write what each shard of a side is gathered by; a shard ends with the document that fills it."""
    waiting, number = np.zeros(0, np.int64), 0
    for piece in chain(order, [None]):
        waiting = waiting if piece is None else np.concatenate([waiting, piece])
        ends = np.cumsum(index["symbols"][waiting], dtype=np.int64)
        first = 0
        while first < len(waiting):
            before = int(ends[first - 1]) if first else 0
            last = int(np.searchsorted(ends, before + shard_symbols)) + 1
            if last > len(waiting) and piece is not None:
                break  # more documents come that may belong to this shard
            name, chosen = f"{side}-{number:05d}", waiting[first:last]
            write_columns(folder / f"{name}.npz", {column: index[column][chosen] for column in ORDER})
            yield name
            first, number = last, number + 1
        waiting = waiting[first:]


def _provenance(
    index: Mapping[str, np.ndarray],
    copies: np.ndarray,
    epochs: np.ndarray,
    held_out: np.ndarray,
    config: PipelineConfig,
) -> tuple[Provenance, ...]:
    documents, size, symbols, trained = np.zeros((4, len(config.sources)), np.int64)
    for here in _slices(len(copies)):
        for place in range(len(config.sources)):
            own = (index["source"][here] == place) & (copies[here] > 0)
            documents[place] += int(own.sum())
            size[place] += int(index["bytes"][here][own].sum(dtype=np.int64))
            symbols[place] += int((index["symbols"][here][own].astype(np.int64) * copies[here][own]).sum())
            trained[place] += int((own & ~held_out[here]).sum())
    return tuple(
        Provenance(
            name=source.name,
            license=source.license,
            documents=int(documents[place]),
            text_bytes=int(size[place]),
            symbols=int(symbols[place]),
            epochs=round(float(epochs[place]), 6) if trained[place] else 0.0,
            made_by=made_by(source),
        )
        for place, source in enumerate(config.sources)
    )


def _fill(lengths: np.ndarray, config: PipelineConfig) -> float:
    lengths = lengths[:_PACKED].astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    return round(pack_rows(starts, lengths, config.output.seq_len, config.output.seed).fill(config.output.seq_len), 6)


def _notes(held_out: np.ndarray, copies: np.ndarray) -> list[str]:
    out, twice = int((copies == 0).sum()), int((copies > 1).sum())
    notes = [f"Mixing left out {out:,} of {len(copies):,} documents."] if out else []
    notes += [f"Mixing repeats {twice:,} of {len(copies):,} documents."] if twice else []
    return notes


def _mixture_notes(
    index: Mapping[str, np.ndarray], held_out: np.ndarray, epochs: np.ndarray, config: PipelineConfig
) -> list[str]:
    """Say where the mixture is not the one asked for: sources with nothing left, too few symbols or too many."""
    sizes, asked = _sizes(index, held_out, len(config.sources)), config.output.mix.symbols
    bare = [source.name for source, size in zip(config.sources, sizes, strict=True) if not size]
    notes = [f"Nothing is left to train on of source {', '.join(bare)}."] if bare else []
    planned = float(sizes @ epochs)
    if asked is not None and abs(planned - asked) > 0.01 * asked:
        why = (
            f"no source that is weighed is repeated more than {config.output.mix.max_epochs:g} times"
            if planned < asked and any(source.tokens is None and source.epochs is None for source in config.sources)
            else "sources with tokens or epochs of their own have what they ask for"
        )
        notes.append(f"The mixture has about {planned:,.0f} symbols, not the {asked:,} asked for: {why}.")
    return notes
