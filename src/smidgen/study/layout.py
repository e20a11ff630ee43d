"""The directory of a study: what its files are called.

runs/NAME/
  study.json      what was asked, resolved      results.json   every variant: figures, differences, verdicts
  recipes/        one recipe per cell           results.md     the table
  runs/           one run directory per cell    results.html   tables, plots and what they say, in one file
  cells/          one record per cell           logs/          what each cell's process said
  text/           prepared text, shared by all runs that read the same with the same tokenizer
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smidgen.errors import RunError
from smidgen.runs import RunDirectory, atomic_write


class StudyDirectory:
    """One study's place on disk. Making the object touches nothing."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.plan = self.path / "study.json"
        self.results = self.path / "results.json"
        self.table = self.path / "results.md"
        self.page = self.path / "results.html"
        self.runs = self.path / "runs"

    @property
    def is_started(self) -> bool:
        """Whether a study was begun here."""
        return self.plan.is_file()

    def recipe(self, key: str) -> Path:
        """Return where a cell's recipe is."""
        return self.path / "recipes" / f"{key}.toml"

    def run(self, key: str) -> RunDirectory:
        """Return a cell's run."""
        return RunDirectory(self.runs / key)

    def record(self, key: str) -> Path:
        """Return where a cell's figures are."""
        return self.path / "cells" / f"{key}.json"

    def log(self, key: str) -> Path:
        """Return where a cell's process writes what it says."""
        return self.path / "logs" / f"{key}.txt"

    def text(self, name: str) -> RunDirectory:
        """Return where a prepared text is, laid out as a run's."""
        return RunDirectory(self.path / "text" / name)

    def compiled(self, key: str) -> Path:
        """Return where a cell's compiler keeps what it made."""
        return self.path / "compiled" / key

    def keys(self) -> set[str]:
        """Return the cells that have figures here, whatever study they were asked for by."""
        return {path.stem for path in (self.path / "cells").glob("*.json")}

    def read_plan(self) -> dict[str, Any]:
        """Return what was asked. Raises RunError if there is no study here."""
        if not self.is_started:
            raise RunError(f"{self.path}: holds no study. Begin one: smidgen study STUDY.toml")
        return read_json(self.plan)

    def read_record(self, key: str) -> dict[str, Any] | None:
        """Return a cell's figures; None if it has not come to an end."""
        return read_json(self.record(key)) if self.record(key).is_file() else None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of plain values, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(content, indent=1, default=str) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of plain values. Raises RunError if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}). Remove the file to make it anew.") from None
