"""The files between the passes: parts of the corpus as parquet, tables and decisions as .npz, records as JSON.

Every file is written under a temporary name and renamed; a piece of work is finished when its JSON is there.
"""

import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from smidgen.data.cleaning.step import Columns, Record
from smidgen.errors import DataError, MissingExtraError

_BATCH = 256


def need_arrow() -> None:
    """Raise MissingExtraError unless parts can be written."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise MissingExtraError("A data pipeline", "data") from None


def write_part(path: Path, records: Sequence[Record]) -> None:
    """Write records, whose texts hold no lone surrogates, as one parquet file."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    names = ("id", "text", "source", "license")
    table = arrow.table({name: arrow.array([getattr(r, name) for r in records], arrow.string()) for name in names})
    with _renamed(path) as part:
        # Looking for repeated values in texts, and for the least of them, costs twice what writing them does.
        parquet.write_table(
            table,
            part,
            compression="zstd",
            compression_level=1,
            row_group_size=_BATCH,
            use_dictionary=cast(Any, ["source", "license"]),  # its stubs know only yes and no
            write_statistics=False,
        )


def read_part(path: Path) -> Iterator[Record]:
    """Yield the records of a part, some hundred in memory at a time. Raises DataError if it is damaged."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    yield Record(**row)
    except (arrow.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: is damaged ({str(error).splitlines()[0]}). Delete its folder and run the pipeline again."
        ) from None


def write_columns(path: Path, columns: Columns) -> None:
    """Write a table of arrays."""
    with _renamed(path) as part, part.open("wb") as file:
        np.savez(file, **columns)  # pyright: ignore[reportArgumentType]


def read_columns(path: Path) -> Columns:
    """Return a table of arrays. Raises DataError if it is damaged."""
    with _told_of(path), np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


class StoredTable:
    """A table that is on disk: of its columns those parts are read that somebody looks at."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._columns: dict[str, tuple[np.dtype, tuple[int, ...], int]] = {}
        with _told_of(path), path.open("rb") as file, zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                self._columns[member.filename.removesuffix(".npy")] = _header(file, member)

    @property
    def rows(self) -> int:
        """The length of its first column."""
        return next(iter(self._columns.values()))[1][0]

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a column, mapped into memory."""
        dtype, shape, offset = self._columns[name]
        if 0 in shape:  # nothing cannot be mapped
            return np.zeros(shape, dtype)
        with _told_of(self._path):
            return np.memmap(self._path, dtype, "r", offset, shape)


def _header(file: BinaryIO, member: zipfile.ZipInfo) -> tuple[np.dtype, tuple[int, ...], int]:
    """Return type, shape and place of an array that lies unpacked in an archive."""
    file.seek(member.header_offset + 26)  # two lengths, of what stands between them and the array's own header
    file.seek(int.from_bytes(file.read(2), "little") + int.from_bytes(file.read(2), "little"), os.SEEK_CUR)
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return dtype, shape, file.tell()


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Raise DataError for what is wrong with a table."""
    try:
        yield
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: is damaged ({error}). Delete its folder and run the pipeline again.") from None


def write_json(path: Path, data: Any) -> None:
    """Write plain values, the same text for the same values."""
    with _renamed(path) as part:
        part.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Return plain values. Raises DataError if they are damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: is damaged ({error}). Delete its folder and run the pipeline again.") from None


def record_batches(paths: Iterable[Path]) -> Iterator[Record]:
    """Yield the records of several parts, one after the other."""
    for path in paths:
        yield from read_part(path)


@contextmanager
def _renamed(path: Path) -> Iterator[Path]:
    """Give a temporary name beside a path, which gets that path's name if all goes well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
