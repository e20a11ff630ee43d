"""Files as records of text, for a pipeline: what is broken is counted and told, and never stops the reading.

A plain .jsonl file larger than a part is read in ranges of bytes, each line by the range in which it begins; every
other file is read by one worker from its beginning. The readers of single formats are those of `formats.py`.
"""

import codecs
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smidgen.data.cleaning.step import Record
from smidgen.data.compression import read_chunks
from smidgen.data.formats import BLOCK_BYTES, READERS, ReadCounts, read_text_file, reader_of
from smidgen.errors import DataError

_HTML = re.compile(r"\.x?html?(\.gz|\.zst)?$", re.IGNORECASE)
_LINES = re.compile(r"\.(jsonl|ndjson)(\.gz|\.zst)?$", re.IGNORECASE)
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?([\w.:-]{2,40})""", re.IGNORECASE)


@dataclass(frozen=True)
class Split:
    """What one worker reads at a time: a file, or a range of its bytes."""

    source: str
    license: str
    path: str
    """Where the file is, on this machine or behind an address."""
    name: str
    """The file's name below its source, with `/` between folders: the beginning of its documents' ids."""
    start: int = 0
    end: int | None = None
    """Where the range ends; None: with the file."""
    text_field: str = "text"
    messages_field: str = "messages"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in a file that is no document."""

    reason: str
    """Short and the same for all its kind."""
    where: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Mended:
    """Something in a file that was put right before any step saw it."""

    what: str
    times: int = 1


Item = Record | Fault | Mended


def can_read(name: str) -> bool:
    """Return whether a file of this name is one that a pipeline reads."""
    path = Path(name)
    return bool(_HTML.search(name)) or (reader_of(path) is not None and reader_of(path) is not READERS[".bin"])


def can_split(name: str) -> bool:
    """Return whether a file of this name can be read in ranges of bytes."""
    return name.lower().endswith((".jsonl", ".ndjson"))


def read_split(split: Split, document_bytes: int) -> Iterator[Item]:
    """Yield the records of a split and what in it is none; of a file that breaks off, what came before is kept."""
    try:
        with _local(split.path) as path:
            if _LINES.search(split.name):
                found = _read_lines(path, split, document_bytes)
            elif _HTML.search(split.name):
                found = _read_page(path, split, document_bytes)
            else:
                found = _read_other(path, split)
            for item in found:
                if isinstance(item, Record) and len(item.text) > document_bytes:
                    yield Fault("longer than document_bytes", item.id, f"{len(item.text):,} characters")
                else:
                    yield item
    except DataError as error:
        yield Fault(
            "file cannot be read on", f"{split.source}/{split.name}", str(error).replace(split.path, split.name)
        )


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
        place = f"{split.source}/{split.name}" + (f":{number}" if whole else f"@{split.start + offset}")
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
        tail = [*tail, rest] if held <= limit else []
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
    return _record(fields, place, split) if isinstance(fields, dict) else Fault("not an object", place, text[:40])


def _record(fields: dict[str, Any], place: str, split: Split) -> Record | Fault:
    text = fields.get(split.text_field)
    if isinstance(text, str):
        return Record(place, text, split.source, split.license) if text.strip() else Fault("empty text", place)
    if text is not None:
        return Fault("text is not a string", place, repr(text)[:40])
    if split.text_field in fields:
        return Fault("empty text", place, "null")
    if split.messages_field in fields:
        return Fault("conversation", place, "a pipeline cleans text; train on conversations as they are")
    return Fault("no text field", place, "has: " + ", ".join(map(str, fields))[:60])


def _read_page(path: Path, split: Split, document_bytes: int) -> Iterator[Item]:
    """Yield an HTML file as one record, markup and all: taking the text out of it is a step's work."""
    place, pieces, held = f"{split.source}/{split.name}", list[bytes](), 0
    for chunk in read_chunks(path, BLOCK_BYTES):
        pieces.append(chunk)
        held += len(chunk)
        if held > 4 * document_bytes:
            yield Fault("longer than document_bytes", place)
            return
    data = b"".join(pieces)
    told = _CHARSET.search(data[:4096])
    try:
        encoding = codecs.lookup(told[1].decode()).name if told else "utf-8"
    except LookupError:
        encoding = "utf-8"
    text = data.decode(encoding, "replace")
    yield Record(place, text, split.source, split.license) if text.strip() else Fault("empty text", place)


def _read_other(path: Path, split: Split) -> Iterator[Item]:
    reader = reader_of(path)
    assert reader is not None
    # Plain text has no fields to choose from: whatever is asked of other files, its one field is `text`.
    chosen = replace(split, text_field="text") if reader is read_text_file else split
    counts = ReadCounts()
    for found in reader(path, counts):
        yield _record(found.fields, f"{split.source}/{split.name}{found.where.removeprefix(path.name)}", chosen)
    if counts.replaced_bytes:
        yield Mended("bytes that are not UTF-8 replaced", counts.replaced_bytes)
