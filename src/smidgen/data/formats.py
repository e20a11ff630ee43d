"""One reader per file format: path in, records out, memory bounded by one block or one record.

A record is a mapping of field names to values and the place it came from; which field is the text is decided in
`corpus.py`, once for all formats. Every way a file can be broken is one DataError that names the place.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from smidgen.data.compression import read_chunks
from smidgen.data.passages import cut_text
from smidgen.errors import DataError, MissingExtraError

BLOCK_BYTES = 4 << 20
MAX_LINE_BYTES = 256 << 20
MAX_TEXT_CHARACTERS = 4 << 20
"""A plain text without separators is cut into documents of at most this size, so that a file of any size streams."""
MAX_REPLACED_SHARE = 0.01
"""Above this share of bytes that are not UTF-8 a text file is in another encoding, and is refused."""

# TinyStories and its kin put <|endoftext|> on a line of its own; books and mail archives use the form feed.
_SEPARATOR = re.compile(r"\n?\f\n?|(?:^|(?<=\n))<\|endoftext\|>[ \t]*(?:\r?\n|\Z)")


@dataclass
class ReadCounts:
    """What happened while reading, so that nothing happens in silence."""

    files: int = 0
    documents: int = 0
    text_bytes: int = 0
    empty_documents: int = 0
    """Records without a single visible character."""
    replaced_bytes: int = 0
    """Bytes of text files that were not UTF-8 and became U+FFFD."""
    unsupported: Counter[str] = field(default_factory=Counter)
    """Files passed over, by suffix."""


class Record(NamedTuple):
    """One row of a file, before anybody decided what in it is text."""

    where: str
    fields: dict[str, Any]


Reader = Callable[[Path, ReadCounts], Iterator[Record]]


def reader_of(path: Path) -> Reader | None:
    """Return the reader for a file name, or None if the format is not supported."""
    name = path.name.lower()
    plain = name.removesuffix(".gz").removesuffix(".zst")
    reader = READERS.get("." + plain.rpartition(".")[2])
    # A parquet file needs random access and compresses itself.
    return None if reader is read_parquet and plain != name else reader


def read_text_file(path: Path, counts: ReadCounts) -> Iterator[Record]:
    """Yield the documents of a plain text file: the whole file, or its parts between form feeds or <|endoftext|> lines.

    Raises DataError for binary files, UTF-16, and files of which more than 1% is not UTF-8.
    """
    rest, number, position, replaced, separated = "", 0, 0, 0, False
    for block in _text_blocks(path):
        text, bad = _decode_block(block, path, position)
        position += len(block)
        replaced += bad
        counts.replaced_bytes += bad
        if replaced > MAX_REPLACED_SHARE * position:
            raise DataError(
                f"{path}: {100 * replaced / position:.0f}% of its first {position:,} bytes are not UTF-8. "
                "Convert it first, for example: iconv -f LATIN1 -t UTF-8"
            )
        parts = _SEPARATOR.split(text)
        separated = separated or len(parts) > 1
        *whole, rest = (rest + parts[0], *parts[1:])
        whole = [document.strip("\r\n") for document in whole]
        if len(rest) > MAX_TEXT_CHARACTERS:
            *pieces, rest = cut_text(rest, MAX_TEXT_CHARACTERS)
            whole += pieces
        for document in whole:
            number += 1
            yield Record(f"{path.name}:{number}", {"text": document})
    if number == 0:
        yield Record(path.name, {"text": rest})
    elif rest := rest.strip("\r\n") if separated else rest:
        yield Record(f"{path.name}:{number + 1}", {"text": rest})


def read_byte_file(path: Path, counts: ReadCounts) -> Iterator[Record]:
    """Yield any file at all, block by block, as what a byte vocabulary makes the same bytes of again.

    Bytes that are no UTF-8 stand in the text as lone surrogates, see `tokenizers/bytes.py`; nothing is refused.
    """
    for number, block in enumerate(read_chunks(path, BLOCK_BYTES), start=1):
        yield Record(f"{path.name}:{number}", {"text": block.decode("utf-8", "surrogateescape")})


def _text_blocks(path: Path) -> Iterator[bytes]:
    """Yield blocks that end at a line, so that no character and no separator lies across two of them."""
    tail = b""
    for chunk in read_chunks(path, BLOCK_BYTES):
        data = tail + chunk
        cut = data.rfind(b"\n") + 1 or _whole_characters(data)
        tail = data[cut:]
        yield data[:cut]
    if tail:
        yield tail


def _whole_characters(data: bytes) -> int:
    """Return where the last character begins, unless it is complete already (an ASCII byte)."""
    for back in range(1, min(4, len(data)) + 1):
        if data[-back] < 0x80:
            return len(data) - back + 1
        if data[-back] >= 0xC0:
            return len(data) - back
    return len(data)


def _decode_block(block: bytes, path: Path, position: int) -> tuple[str, int]:
    if position == 0:
        if block.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(f"{path}: is UTF-16, not UTF-8. Convert it first: iconv -f UTF-16 -t UTF-8")
        block = block.removeprefix(b"\xef\xbb\xbf")
    nul = block.find(0)
    if nul >= 0:
        raise DataError(
            f"{path}: is a binary file, not text (NUL byte at position {position + nul:,}). "
            "To learn its bytes all the same, give it a name that ends in .bin."
        )
    try:
        return block.decode(), 0
    except UnicodeDecodeError:
        kept = block.decode(errors="ignore")
        return block.decode(errors="replace"), len(block) - len(kept.encode())


def read_jsonl(path: Path, counts: ReadCounts) -> Iterator[Record]:
    """Yield one record per line of JSON; blank lines are skipped."""
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path.name}:{number}"
        if line.isspace():
            continue
        try:
            fields = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DataError(f"{path}: line {number} is not valid JSON ({_reason(error)}).") from None
        yield Record(where, _mapping(fields, path, where))


def read_json(path: Path, counts: ReadCounts) -> Iterator[Record]:
    """Yield the records of a JSON file that is one array of objects; it is read whole, so use jsonl for large data."""
    try:
        data = json.loads(b"".join(read_chunks(path, BLOCK_BYTES)))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(
            f"{path}: is not valid JSON ({_reason(error)}). One object per line belongs in a .jsonl file."
        ) from None
    for number, fields in enumerate(data if isinstance(data, list) else [data], start=1):
        where = f"{path.name}[{number}]"
        yield Record(where, _mapping(fields, path, where))


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "bytes that are not UTF-8" if isinstance(error, UnicodeDecodeError) else "nested too deeply"


def _mapping(fields: Any, path: Path, where: str) -> dict[str, Any]:
    if isinstance(fields, dict):
        return fields
    raise DataError(f'{path.parent / where}: holds {_kind(fields)}, not an object like {{"text": "..."}}.')


def _kind(value: object) -> str:
    names = {
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)


def read_csv(path: Path, counts: ReadCounts) -> Iterator[Record]:
    """Yield one record per row of a comma- or tab-separated file whose first row names the columns."""
    csv.field_size_limit(MAX_LINE_BYTES)
    delimiter = "\t" if ".tsv" in path.name.lower() else ","
    rows = csv.reader((_csv_line(line, path) for line in _lines(path)), delimiter=delimiter)
    try:
        header = next(rows, None)
        if header is None:
            return
        header[0] = header[0].removeprefix("\ufeff") if header else ""
        for row in rows:
            if row and len(row) != len(header):
                raise DataError(f"{path}: line {rows.line_num} has {len(row)} columns, the header has {len(header)}.")
            if row:
                yield Record(f"{path.name}:{rows.line_num}", dict(zip(header, row, strict=True)))
    except csv.Error as error:
        raise DataError(f"{path}: line {rows.line_num} is not valid CSV: {error}.") from None


def _csv_line(line: bytes, path: Path) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {line[error.start]:#04x} is not UTF-8. Save the table as UTF-8.") from None


def _lines(path: Path) -> Iterator[bytes]:
    """Yield lines with their ends. Raises DataError for a line that no record could be."""
    tail: list[bytes] = []
    held = 0
    for chunk in read_chunks(path, BLOCK_BYTES):
        # Not splitlines: a lone carriage return belongs to the text of a record.
        *ended, rest = chunk.split(b"\n")
        for line in ended:
            yield b"".join((*tail, line, b"\n"))
            tail, held = [], 0
        tail.append(rest)
        held += len(rest)
        if held > MAX_LINE_BYTES:
            raise DataError(f"{path}: has a line longer than {MAX_LINE_BYTES >> 20} MiB. Put one record on each line.")
    if held:
        yield b"".join(tail)


def read_parquet(path: Path, counts: ReadCounts) -> Iterator[Record]:
    """Yield one record per row, a batch of rows in memory at a time. Needs the extra `parquet`."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtraError(f"Reading {path.name}", "parquet") from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for fields in batch.to_pylist():
                    number += 1
                    yield Record(f"{path.name}:{number}", fields)
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: is not a readable parquet file ({str(error).splitlines()[0]}).") from None


READERS: dict[str, Reader] = {
    ".txt": read_text_file,
    ".text": read_text_file,
    ".md": read_text_file,
    ".markdown": read_text_file,
    ".bin": read_byte_file,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}
"""Reader by suffix; each but parquet also behind `.gz` or `.zst`."""
