"""Tables as records of text, for a pipeline: a row that is broken is counted, and the rows after it are read.

Parquet is read in batches of about as many rows as fit four megabytes, and of its columns the text alone.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from smidgen.data.pipeline.items import Fault, Item, Split, record_of
from smidgen.errors import DataError, MissingExtraError

CSV = re.compile(r"\.(csv|tsv)(\.gz|\.zst)?$", re.IGNORECASE)
PARQUET = re.compile(r"\.parquet$", re.IGNORECASE)
_BATCH_BYTES = 4 << 20


def read_csv_rows(path: Path, lines: Iterable[bytes | None], split: Split, longest: int) -> Iterator[Item]:
    """Yield the rows of a comma- or tab-separated file whose first row names the columns.

    `lines` are the file's, None for one that was too long to hold; `longest` is the longest field. Raises DataError
    where a quotation mark is never closed: all that follows it would be one field.
    """
    csv.field_size_limit(longest)
    rows = csv.reader(chain(map(_decoded, lines), [_END]), delimiter="\t" if ".tsv" in path.name.lower() else ",")
    header: list[str] | None = None
    while True:
        first = rows.line_num + 1
        try:
            row = next(rows)
        except csv.Error as error:
            if header is not None and "field limit" not in str(
                error
            ):  # of this row alone: the next is read as if nothing had been
                yield Fault("not CSV", f"{split.place}:{rows.line_num}", str(error).partition(" - ")[0])
                continue
            # Mostly an open quotation mark: where the next row begins is anybody's guess.
            raise DataError(f"{path}: the row of line {first:,} is not valid CSV: {error}.") from None
        if row == [_END]:
            return
        if row and row[-1].endswith(_END):
            raise DataError(f"{path}: a quotation mark in the row of line {first:,} is never closed.")
        place = f"{split.place}:{rows.line_num}"
        if header is None:
            header = [name.removeprefix("\ufeff") for name in row]
        elif _LOST in row:
            yield Fault("line too long", place, f"over {longest:,} bytes")
        elif row and len(row) != len(header):
            yield Fault("another number of columns", place, f"{len(row)}, the header has {len(header)}")
        elif row and any(map(_is_broken, row)):
            yield Fault("not UTF-8", place)
        elif row:
            yield record_of(dict(zip(header, row, strict=True)), place, split)


_END = "\udcff end \udcff"
"""Stands behind the last line: within a field it tells of a quotation mark that is open."""
_LOST = "\udcff line too long \udcff"
"""Stands for a line that was not held; no valid text has lone surrogates."""


def _decoded(line: bytes | None) -> str:
    # Bytes that are no UTF-8 become lone surrogates, so that their row alone is refused.
    return _LOST + "\n" if line is None else line.decode("utf-8", "surrogateescape") + "\n"


def _is_broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def read_parquet_rows(path: Path, split: Split) -> Iterator[Item]:
    """Yield the rows of a parquet file; of a row group that is damaged, the rows that come before the damage.

    Raises DataError if it is no parquet file or has no end.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtraError(f"Reading {path.name}", "parquet") from None
    try:
        file = parquet.ParquetFile(path)
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: is not a readable parquet file ({str(error).splitlines()[0]}).") from None
    with file:
        wanted = [name for name in (split.text_field, split.messages_field) if name in file.schema_arrow.names][:1]
        columns = wanted or file.schema_arrow.names
        first = 0
        for group in range(file.num_row_groups):
            told = file.metadata.row_group(group)
            rows = max(1, min(told.num_rows, _BATCH_BYTES * told.num_rows // max(1, told.total_byte_size)))
            number = first
            try:
                for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=columns):
                    for fields in _rows(batch):
                        number += 1
                        place = f"{split.place}:{number}"
                        yield Fault("not UTF-8", place) if fields is None else record_of(fields, place, split)
            except (arrow.ArrowException, OSError, ValueError) as error:
                lost = max(1, first + told.num_rows - number)
                reason = f"{lost:,} rows lost: {str(error).splitlines()[0]}"
                yield Fault("row group cannot be read", f"{split.place}:{number + 1}", reason, lost)
            first += told.num_rows


def _rows(batch: Any) -> Iterator[dict[str, Any] | None]:
    """Yield the rows of a batch, None for one whose text is not UTF-8: not every writer looks."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for at in range(batch.num_rows):
            try:
                yield batch.slice(at, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield None
