"""Local files of the tasks that need some: where they lie, how their rows are read, what is said if one is missing."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.data.formats import READERS, ReadCounts, Record, reader_of
from smidgen.errors import DataError

_PACKINGS = ("", ".gz", ".zst")
_TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


def say_on_stderr(line: str) -> None:
    """Tell a person something without touching what a program reads."""
    print(line, file=sys.stderr)


@dataclass(frozen=True)
class Files:
    """The folder that holds a task's files as `SET/SPLIT.jsonl.gz`, or any other table."""

    folder: Path | None = None
    """The folder; None if none was named."""
    say: Callable[[str], None] = say_on_stderr
    """Takes a line for the person."""

    def find(self, task: str, name: str, splits: Sequence[str]) -> Path:
        """Return the file of the first split there is.

        Raises DataError that names what was looked for.
        """
        wanted = " or ".join(f"{name}/{split}.jsonl" for split in splits)
        if self.folder is None:
            raise DataError(f"task {task} reads {wanted} from a local folder. Name the folder: --data DIR")
        for split in splits:
            if path := self.seek(name, split):
                return path
        raise DataError(f"task {task}: no {wanted} in {self.folder} (also looked for .gz, .zst, .csv, .tsv, .parquet).")

    def seek(self, name: str, split: str) -> Path | None:
        """Return the file of a split, or None if there is none, or no folder was named."""
        for suffix in _TABLES if self.folder else ():
            for packing in _PACKINGS:
                path = Path(self.folder or "", name, f"{split}{suffix}{packing}")
                if path.is_file():
                    return path
        return None

    def find_training(self, task: str, name: str) -> Path:
        """Return the training file, or the validation file where the set comes without one, and say so."""
        path = self.find(task, name, ("train", "validation"))
        if path.name.startswith("validation"):
            self.say(f"task {task}: {name} has no train split here; training examples come from {path.name}.")
        return path


def read_rows(path: Path) -> Iterator[Record]:
    """Yield the rows of a table file. Raises DataError for what is no table, or is broken, with the place."""
    reader = reader_of(path) if path.suffix.lower() in (*_TABLES, *_PACKINGS[1:]) else None
    if reader is None or reader in (READERS[".txt"], READERS[".bin"]):
        raise DataError(f"{path}: is no table. Tables end in {' '.join(_TABLES)}, plain or .gz or .zst.")
    yield from reader(path, ReadCounts())


def field_of(row: Record, path: Path, name: str) -> Any:
    """Return a field of a row. Raises DataError that names the fields there are."""
    if name not in row.fields:
        raise DataError(f"{path.parent / row.where}: no column '{name}'; it has: {', '.join(map(str, row.fields))}.")
    return row.fields[name]


def text_of(row: Record, path: Path, name: str) -> str:
    """Return a field that must hold text, on one line."""
    value = field_of(row, path, name)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{path.parent / row.where}: column '{name}' must hold text, not {shown(value)}.")
    return " ".join(value.split())


def shown(value: object) -> str:
    """Return a value as it may stand in an error: short."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
