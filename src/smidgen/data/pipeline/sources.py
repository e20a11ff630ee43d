"""The files of a pipeline's sources, listed and cut into what a worker reads at a time."""

import glob
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smidgen.data.cleaning.decontaminate import DecontaminateConfig
from smidgen.data.corpus import PROVENANCE, walk_files
from smidgen.data.pipeline.definition import PipelineConfig, SavedTokenizer, SourceConfig
from smidgen.data.pipeline.parts import read_json
from smidgen.data.pipeline.reading import Split, can_read, can_split, first_line_from
from smidgen.errors import DataError

_KIND = re.compile(r"\.[a-z]+(\.gz|\.zst)?$")


@dataclass
class Listing:
    """What there is to read."""

    splits: list[Split] = field(default_factory=list)
    """In the order of the sources, then of the names of their files."""
    file_bytes: int = 0
    """Bytes of the files as they lie on disk."""
    bytes_of: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Bytes of the files by source and kind."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Files of other formats, by suffix."""
    has_large: bool = False
    """Whether a file is larger than a part and yet only one worker can read it."""
    state: str = ""
    """Changes when a file does: names, sizes and, on this machine, times of change."""


@dataclass(frozen=True)
class _File:
    path: str
    name: str
    size: int
    changed: int


def list_sources(config: PipelineConfig) -> Listing:
    """List the files of all sources. Raises DataError if a source has none that can be read."""
    listing, state = Listing(), hashlib.sha256()
    for source in config.sources:
        found = False
        for file in _files(source, listing.passed_over):
            if Path(file.name).name == PROVENANCE:
                state.update(Path(file.path).read_bytes() if "://" not in file.path else b"")
                continue
            if not can_read(file.name):
                listing.passed_over[Path(file.name).suffix.lower() or "without suffix"] += 1
                continue
            found = True
            listing.file_bytes += file.size
            listing.bytes_of[source.name, kind_of(file.name)] += file.size
            state.update(f"{source.name}\0{file.name}\0{file.size}\0{file.changed}\0".encode())
            listing.has_large |= _is_large(file, config.part_bytes)
            listing.splits += _cut(source, file, config.part_bytes)
        if not found:
            raise DataError(
                f"source '{source.name}': no readable file at {source.path}. Check its path in the pipeline."
            )
    listing.state = state.hexdigest()
    return listing


def read_beside(config: PipelineConfig) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of what a run reads beside its sources: evaluation items, a tokenizer.

    Raises DataError if items are not there: to find that out in the last pass would cost all before it.
    """
    tokenizer, files = config.output.tokenizer, list[Path]()
    for path in (path for step in config.steps if isinstance(step, DecontaminateConfig) for path in step.against):
        if not path.exists():
            raise DataError(f"{path}: no such file or folder to decontaminate against. Check its path in the pipeline.")
        files += walk_files(path) if path.is_dir() else [path]
    files += [tokenizer.path / "tokenizer.json"] if isinstance(tokenizer, SavedTokenizer) else []
    told = [(str(file), file.stat()) for file in files if file.is_file()]
    return [(name, status.st_size, status.st_mtime_ns) for name, status in told]


def kind_of(name: str) -> str:
    """Return the kind of a file by its name: `.jsonl.zst`."""
    found = _KIND.search(name.lower())
    return found[0] if found else ""


def made_by(source: SourceConfig) -> dict[str, Any] | None:
    """Return how a source on this machine was made, if `smidgen data synthesize` made it."""
    path = Path(source.path)
    told = (path if path.is_dir() else path.parent) / PROVENANCE
    return read_json(told) if "://" not in source.path and told.is_file() else None


def _files(source: SourceConfig, passed_over: Counter[str]) -> Iterator[_File]:
    if "://" in source.path:
        yield from _remote(source)
        return
    path = Path(source.path)
    if path.is_dir():
        below, files = path, list(walk_files(path))
    elif path.is_file():
        below, files = path.parent, [path]
    elif glob.has_magic(source.path):
        fixed = next(n for n, part in enumerate(path.parts) if glob.has_magic(part))
        below = Path(*path.parts[:fixed])
        files = _each_once(map(Path, glob.glob(source.path, recursive=True)))  # noqa: PTH207 - absolute patterns
    else:
        raise DataError(f"source '{source.name}': {source.path}: no such file or folder.")
    for file in files:
        if not file.is_file():
            passed_over["link to nothing, or pipe"] += 1
            continue
        status = file.stat()
        # Ids go into tables and pages, which hold no bytes that are not UTF-8.
        name = os.fsencode(file.relative_to(below).as_posix()).decode("utf-8", "backslashreplace")
        yield _File(str(file.resolve()), name, status.st_size, status.st_mtime_ns)


def _each_once(found: Iterable[Path]) -> list[Path]:
    """Return files in the order of their names, of several ways to one the shortest: a link back up has forty."""
    shortest: dict[str, Path] = {}
    for file in sorted(found, key=lambda file: (len(file.parts), file)):
        if not file.is_dir():
            shortest.setdefault(os.path.join(os.path.realpath(file.parent), file.name), file)  # noqa: PTH118 - as walk_files
    return sorted(shortest.values())


def _remote(source: SourceConfig) -> Iterator[_File]:
    import daft

    pattern = source.path if glob.has_magic(source.path) or can_read(source.path) else source.path.rstrip("/") + "/**"
    try:
        found = daft.from_glob_path(pattern).to_pydict()
    except Exception as error:  # each store has its own exceptions; all mean that there is no list to be had
        raise DataError(f"source '{source.name}': {source.path}: {str(error).splitlines()[0]}") from None
    fixed = pattern[: min((pattern.find(c) for c in "*?[" if c in pattern), default=len(pattern))].rpartition("/")[0]
    for path, size in sorted(zip(found["path"], found["size"], strict=True)):
        yield _File(path, path.removeprefix(fixed).lstrip("/"), size or 0, 0)


def _is_large(file: _File, part_bytes: int) -> bool:
    packed = file.name.lower().endswith((".zst", ".gz", ".parquet"))
    # Packed text unpacks to three to five times its size.
    return file.size * (4 if packed else 1) > part_bytes and (not can_split(file.name) or "://" in file.path)


def _cut(source: SourceConfig, file: _File, part_bytes: int) -> Iterator[Split]:
    """Yield a file whole or, if it is large and can be read from any line on, in ranges that begin with a line."""
    fields = (source.read.text_field, source.read.messages_field)
    if file.size <= part_bytes or not can_split(file.name) or "://" in file.path:
        yield Split(source.name, source.license, file.path, file.name, 0, None, *fields)
        return
    starts = [first_line_from(Path(file.path), at) for at in range(0, file.size, part_bytes)]
    starts = sorted({at for at in starts if at < file.size})
    for start, end in zip(starts, [*starts[1:], file.size], strict=True):
        yield Split(source.name, source.license, file.path, file.name, start, end, *fields)
