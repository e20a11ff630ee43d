"""How large a corpus is, from the sizes of its files and a look into some of them, before anything is done.

Of every source and kind of file some are looked into, a megabyte each: how much text and how many documents come out
of it, what the steps that decide would collect of them, how well they pack. Everything is told as if no document were
dropped on the way, so it is more than will be needed.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from smidgen.data.cleaning.step import CorpusStep, Record, rows_of
from smidgen.data.cleaning.steps import build_step
from smidgen.data.pipeline.definition import PipelineConfig, SavedTokenizer
from smidgen.data.pipeline.items import Item, Split
from smidgen.data.pipeline.parts import write_part
from smidgen.data.pipeline.reading import read_split
from smidgen.data.pipeline.sources import Listing, kind_of
from smidgen.data.pipeline.steps import passes_of
from smidgen.data.pipeline.tables import PARQUET
from smidgen.data.pipeline.work import encodes_at_once
from smidgen.tokenizers.bytes import ByteConfig, text_bytes

_LOOKED_INTO = 4
"""Files of a source and kind, from its first to its last."""
_SAMPLE_BYTES = 1 << 20
_SAMPLE_ROWS = 500
_SAMPLE_HELD = 8 << 20
"""Characters of a file's documents that are looked at."""
_DOCUMENT_BYTES = 4000
"""A document where nothing could be looked into, on another machine or in a format that is read whole. Source: the mean
of FineWeb, 44 TB of text in 15 T tokens, is near 3,300 (Penedo et al. 2024, arXiv 2406.17557)."""
_UNPACKED_TIMES = 4
_SYMBOL_BYTES = 3.0
"""Bytes of text that a symbol of a learned vocabulary stands for, at least: English has 3.5 at 4,096 symbols."""


@dataclass(frozen=True)
class Estimate:
    """About how much there is."""

    documents: int
    text_bytes: int
    rows: dict[int, int]
    """Rows of the tables from which each step decides, by its place in the pipeline."""
    disk_bytes: int
    """What stands on the disk at once, at most."""


@dataclass
class _Seen:
    """What came out of the files that were looked into."""

    file_bytes: float = 0
    documents: float = 0
    text_bytes: float = 0


def estimate(config: PipelineConfig, listing: Listing) -> Estimate:
    """Return about how much there is to do."""
    groups: dict[tuple[str, str], list[Split]] = {}
    for split in listing.splits:
        groups.setdefault((split.source, kind_of(split.name)), []).append(split)
    documents = text = 0.0
    records: list[Record] = []
    for group, splits in groups.items():
        seen = _Seen()
        for split in splits[:: max(1, -(-len(splits) // _LOOKED_INTO))]:
            with suppress(OSError):  # what cannot be read, or copied, is told by its size
                found = _look_into(split, config.document_bytes, seen)
                records += found[: _SAMPLE_ROWS - len(records)]
        size = listing.bytes_of[group]
        times = size / seen.file_bytes if seen.file_bytes else 0
        text += seen.text_bytes * times or size * (_UNPACKED_TIMES if group[1].endswith(("gz", "zst")) else 1)
        documents += seen.documents * times or size / _DOCUMENT_BYTES
    rows, table_bytes, packed = _collected(config, records)
    return Estimate(
        documents=round(documents),
        text_bytes=round(text),
        rows={place: round(per_document * documents) for place, per_document in rows.items()},
        disk_bytes=round(_on_disk(config, listing, text, packed * text, table_bytes * documents)),
    )


def _look_into(split: Split, document_bytes: int, seen: _Seen) -> list[Record]:
    """Count what the beginning of a split holds; return its documents. What lies elsewhere is not fetched for it."""
    if "://" in split.path:
        return []
    path = Path(split.path)
    if PARQUET.search(split.name):
        records, count, text = _looked_at(islice(read_split(split, document_bytes), _SAMPLE_ROWS))
        size, rows = float(path.stat().st_size), _parquet_rows(path)
    else:
        with tempfile.TemporaryDirectory(prefix="smidgen-") as folder, path.open("rb") as file:
            file.seek(split.start)
            beginning = file.read(min(_SAMPLE_BYTES, split.end - split.start) if split.end else _SAMPLE_BYTES)
            copy = Path(folder, "beginning" + kind_of(split.name))
            copy.write_bytes(beginning)
            beginning_of = replace(split, path=str(copy), start=0, end=None)
            records, count, text = _looked_at(read_split(beginning_of, document_bytes))
        size, rows = float(len(beginning)), float(count)
    if count:
        seen.file_bytes += size
        seen.documents += rows
        seen.text_bytes += rows / count * text
    return records


def _looked_at(items: Iterator[Item]) -> tuple[list[Record], int, int]:
    """Return the first documents, as many as are looked at, and how many there are with how many bytes.

    Not all of them: a megabyte of the same words over and over unpacks to gigabytes.
    """
    records, count, size, held = list[Record](), 0, 0, 0
    for item in items:
        if isinstance(item, Record):
            count += 1
            size += len(text_bytes(item.text))
            if len(records) < _SAMPLE_ROWS and held < _SAMPLE_HELD:
                records.append(replace(item, text=_writable(item.text)))
                held += len(item.text)
    return records, count, size


def _writable(text: str) -> str:
    return text_bytes(text).decode("utf-8", "replace")


def _parquet_rows(path: Path) -> float:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        return float(parquet.read_metadata(path).num_rows)
    except (arrow.ArrowException, OSError):  # damaged: the reading will say so, and count it
        return 0.0


def _collected(config: PipelineConfig, records: Sequence[Record]) -> tuple[dict[int, float], float, float]:
    """Return the rows of each step that decides, the bytes of the largest table, and the share that packing leaves.

    Rows and bytes are those of a document, the share is of its text.
    """
    steps = [(place, build_step(step)) for place, step in enumerate(config.steps)]
    records, together = records[:_SAMPLE_ROWS], [(place, step) for place, step in steps if isinstance(step, CorpusStep)]
    if not records:
        return {place: 1.0 for place, _ in together}, 0.0, 1.0
    rows, largest = dict[int, float](), 0.0
    for place, step in together:
        table = step.collect(records)
        rows[place] = rows_of(table) / len(records)
        largest = max(largest, sum(column.nbytes for column in table.values()) / len(records))
    packed = 1.0
    with suppress(OSError), tempfile.TemporaryDirectory(prefix="smidgen-") as folder:
        write_part(path := Path(folder, "part.parquet"), records)
        packed = path.stat().st_size / max(1, sum(len(text_bytes(record.text)) for record in records))
    return rows, largest, min(packed, 1.0)


def _on_disk(config: PipelineConfig, listing: Listing, text: float, packed: float, tables: float) -> float:
    """Return the bytes that stand on the disk at once: two passes of text, text and parts, or parts and shards."""
    written = listing.has_large + len(passes_of(config.steps)) - encodes_at_once(config)
    tokenizer = config.output.tokenizer
    is_wide = not isinstance(tokenizer, ByteConfig | SavedTokenizer) and tokenizer.vocab_size > 1 << 16
    symbols = text * (2 if isinstance(tokenizer, ByteConfig) else (4 if is_wide else 2) / _SYMBOL_BYTES)
    parts = text if isinstance(tokenizer, ByteConfig) else symbols
    return max(min(written, 2) * packed + tables, min(written, 1) * packed + parts, parts + symbols)
