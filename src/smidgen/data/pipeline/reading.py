"""Files as records of text, for a pipeline: what is broken is counted and told, and never stops the reading.

A plain .jsonl file larger than a part is read in ranges of bytes, each line by the range in which it begins; every
other file is read by one worker from its beginning. Plain text is read by `formats.py`, tables by `tables.py`, web
archives by `archives.py`.
"""

import codecs
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from smidgen.data.cleaning.step import Record
from smidgen.data.compression import read_chunks
from smidgen.data.formats import BLOCK_BYTES, READERS, ReadCounts, read_text_file, reader_of
from smidgen.data.pipeline.archives import ARCHIVE, read_archive
from smidgen.data.pipeline.items import Fault, Item, Mended, Split, page_of, record_of
from smidgen.data.pipeline.tables import CSV, PARQUET, read_csv_rows, read_parquet_rows
from smidgen.errors import DataError

_HTML = re.compile(r"\.x?html?(\.gz|\.zst)?$", re.IGNORECASE)
_JSON = re.compile(r"\.json(\.gz|\.zst)?$", re.IGNORECASE)
_LINES = re.compile(r"\.(jsonl|ndjson)(\.gz|\.zst)?$", re.IGNORECASE)


def can_read(name: str) -> bool:
    """Return whether a file of this name is one that a pipeline reads."""
    path = Path(name)
    return bool(_HTML.search(name) or ARCHIVE.search(name)) or (
        reader_of(path) is not None and reader_of(path) is not READERS[".bin"]
    )


def can_split(name: str) -> bool:
    """Return whether a file of this name can be read in ranges of bytes."""
    return name.lower().endswith((".jsonl", ".ndjson"))


def read_split(split: Split, document_bytes: int) -> Iterator[Item]:
    """Yield the records of a split and what in it is none; of a file that breaks off, what came before is kept."""
    item = None
    try:
        with _local(split.path) as path:
            for item in _read(path, split, document_bytes):
                if isinstance(item, Record) and len(item.text) > document_bytes:
                    yield Fault("longer than document_bytes", item.id, f"{len(item.text):,} characters")
                else:
                    yield item
        if item is None and split.start == 0:
            yield Fault("empty file", split.place)
    except DataError as error:
        yield Fault("file cannot be read on", split.place, str(error).replace(split.path, split.name))


def _read(path: Path, split: Split, document_bytes: int) -> Iterator[Item]:
    """Yield what is in a file, read as its name says it is to be."""
    if _LINES.search(split.name):
        return _read_lines(path, split, document_bytes)
    if _HTML.search(split.name):
        return _read_page(path, split, document_bytes)
    if ARCHIVE.search(split.name):
        return read_archive(path, split, document_bytes)
    if PARQUET.search(split.name):
        return read_parquet_rows(path, split)
    if CSV.search(split.name):
        longest = 4 * document_bytes
        lines = (line for _, line in split_lines(read_chunks(path, BLOCK_BYTES), longest))
        return read_csv_rows(path, lines, split, longest)
    if _JSON.search(split.name):
        return _read_array(path, split, document_bytes)
    return _read_text(path, split)


@contextmanager
def _local(address: str) -> Iterator[Path]:
    """Give a file's path on this machine; what lies elsewhere is copied here for as long as it is read."""
    if "://" not in address:
        yield Path(address)
        return
    import daft

    with tempfile.TemporaryDirectory(prefix="smidgen-") as folder:
        path = Path(folder, address.rpartition("/")[2])
        try:
            with daft.File(address).open() as remote, path.open("wb") as copy:
                shutil.copyfileobj(remote, copy, BLOCK_BYTES)
        except Exception as error:  # each store has its own exceptions; all mean that this file cannot be had
            raise DataError(f"{address}: cannot be fetched ({str(error).splitlines()[0]}).") from None
        yield path


def _read_lines(path: Path, split: Split, document_bytes: int) -> Iterator[Item]:
    whole = split.start == 0 and split.end is None
    chunks = read_chunks(path, BLOCK_BYTES) if whole else _range(path, split.start, split.end)
    # Escapes make a line at most six times as long as its text ("\u00e9" is two bytes), other fields come on top.
    for number, (offset, line) in enumerate(split_lines(chunks, 6 * document_bytes + (1 << 16)), start=1):
        if not whole and split.end is not None and split.start + offset >= split.end:
            return
        place = split.place + (f":{number}" if whole else f"@{split.start + offset}")
        if line is None:
            yield Fault("line too long", place, f"over {6 * document_bytes:,} bytes")
        elif line.strip():
            yield _parse(line, place, split)
        else:
            yield Fault("blank line", place)
        if line and line.startswith(codecs.BOM_UTF8):
            yield Mended("byte-order mark removed")


def _range(path: Path, start: int, end: int | None) -> Iterator[bytes]:
    """Yield the bytes of a range from its first whole line on, and on past its end until somebody stops reading."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            yield from iter(lambda: file.read(BLOCK_BYTES), b"")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from None


def first_line_from(path: Path, offset: int) -> int:
    """Return where the first line begins that does not begin before this offset; the file's size if none does."""
    if offset == 0:
        return 0
    with path.open("rb") as file:
        at = offset - 1
        file.seek(at)
        while block := file.read(1 << 20):
            end = block.find(b"\n")
            if end >= 0:
                return at + end + 1
            at += len(block)
    return at


def split_lines(chunks: Iterable[bytes], limit: int) -> Iterator[tuple[int, bytes | None]]:
    """Yield where each line begins and its bytes without the end; None for a line over `limit`, which is never held."""
    tail: list[bytes] = []
    held = at = 0
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for line in ended:
            size = held + len(line)
            yield at, b"".join((*tail, line)) if size <= limit else None
            at += size + 1
            tail, held = [], 0
        held += len(rest)
        tail = tail if held <= limit else []
        tail.append(rest if held <= limit else b"")
    if held:
        yield at, b"".join(tail) if held <= limit else None


def _parse(line: bytes, place: str, split: Split) -> Record | Fault:
    try:
        text = line.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        return Fault("not UTF-8", place, f"byte {line[error.start]:#04x} at {error.start:,}")
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        return Fault("not JSON", place, f"{error.msg} at column {error.colno:,}")
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number of a million digits
        return Fault("not JSON", place, str(error)[:80])
    return record_of(fields, place, split) if isinstance(fields, dict) else Fault("not an object", place, text[:40])


def _whole(path: Path, limit: int) -> bytes | None:
    """Return all bytes of a file; None if there are more than `limit`."""
    pieces, held = list[bytes](), 0
    for chunk in read_chunks(path, BLOCK_BYTES):
        pieces.append(chunk)
        held += len(chunk)
        if held > limit:
            return None
    return b"".join(pieces)


def _read_page(path: Path, split: Split, document_bytes: int) -> Iterator[Item]:
    data = _whole(path, 4 * document_bytes)
    if data is None:
        yield Fault("longer than document_bytes", split.place)
    else:
        yield page_of(data, None, split.place, split)


def _read_array(path: Path, split: Split, document_bytes: int) -> Iterator[Item]:
    """Yield the objects of a JSON file that is one array of them; it has to be held whole, so not a large one."""
    limit = 8 * document_bytes
    data = _whole(path, limit)
    if data is None:
        raise DataError(f"{path}: is over {limit:,} bytes, and JSON is read whole. Make it .jsonl, one object a line.")
    try:
        found = json.loads(data)
    except (RecursionError, ValueError) as error:
        raise DataError(f"{path}: is not valid JSON ({str(error)[:80]}).") from None
    for number, fields in enumerate(found if isinstance(found, list) else [found], start=1):
        place = f"{split.place}[{number}]"
        yield record_of(fields, place, split) if isinstance(fields, dict) else Fault("not an object", place)


def _read_text(path: Path, split: Split) -> Iterator[Item]:
    # Plain text has no fields to choose from: whatever is asked of other files, its one field is `text`.
    counts, chosen = ReadCounts(), replace(split, text_field="text")
    for found in read_text_file(path, counts):
        yield record_of(found.fields, f"{split.place}{found.where.removeprefix(path.name)}", chosen)
    if counts.replaced_bytes:
        yield Mended("bytes that are not UTF-8 replaced", counts.replaced_bytes)
