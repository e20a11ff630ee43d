"""A run directory read back: whatever is there, however far the run came. Every part may be missing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.errors import RunError
from smidgen.runs import RunDirectory, read_records

Record = Mapping[str, Any]
Points = list[tuple[float, float]]

_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
_PICTURES |= dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], 0xFFFD)


@dataclass(frozen=True)
class RunRecord:
    """What one run wrote down."""

    name: str
    recipe: str
    """The recipe as TOML text."""
    resolved: Record
    final: Record | None
    """The final figures; None while the run is not finished."""
    log: tuple[Record, ...]
    samples: tuple[Record, ...]
    """Sample texts in the order of their steps."""

    def of_kind(self, kind: str) -> list[Record]:
        """Return the log's records of a kind: train, validation or note."""
        return [record for record in self.log if record.get("kind") == kind]

    def curve(self, kind: str, key: str) -> Points:
        """Return (step, value) of a logged number, without the records that lack it."""
        pairs = ((record.get("step"), record.get(key)) for record in self.of_kind(kind))
        return [(float(step), float(value)) for step, value in pairs if step is not None and value is not None]

    def part(self, name: str) -> Record:
        """Return a table of the resolved facts: plan, data, hardware, versions, model; empty if it is not there."""
        return as_table(self.resolved.get(name))

    def last(self, kind: str, key: str) -> Any:
        """Return the newest value of a logged number; None if it never was logged."""
        return next((r[key] for r in reversed(self.of_kind(kind)) if r.get(key) is not None), None)

    def figure(self, key: str, logged: str | None = None) -> Any:
        """Return a final figure, or for an unfinished run the newest logged one."""
        final = (self.final or {}).get(key)
        return self.last("train", logged or key) if final is None else final

    def validation(self) -> Record:
        """Return the last validation: the final one with its protocol if there is one, else as logged."""
        final = as_table((self.final or {}).get("validation"))
        logged = self.of_kind("validation")
        return final or (logged[-1] if logged else {})


def read_run(path: Path) -> RunRecord:
    """Read a run directory. Raises RunError if it holds nothing of a run, or a damaged file."""
    run = RunDirectory(path)
    wanted = (run.recipe, run.resolved, run.metrics, run.final_metrics, run.samples)
    if not any(file.is_file() for file in wanted):
        raise RunError(f"{path}: holds no run. Give the directory that `smidgen train` wrote, such as runs/NAME.")
    log = read_records(run.metrics)
    # Samples may stand in the log, in a file of their own, or in both.
    told = [*(r for r in log if r.get("kind") == "sample"), *read_records(run.samples)]
    distinct = {(r.get("step"), r.get("prompt"), r.get("text")): r for r in told}
    resolved = run.read_resolved()
    return RunRecord(
        name=str(resolved.get("name") or path.resolve().name),
        recipe=run.recipe.read_text(encoding="utf-8") if run.recipe.is_file() else "",
        resolved=resolved,
        final=run.read_final_metrics() if run.is_finished else None,
        log=tuple(log),
        samples=tuple(sorted(distinct.values(), key=lambda r: r.get("step") or 0)),
    )


def as_table(value: Any) -> Record:
    """Return a mapping as it is and anything else as an empty one: absent and null are the same to a reader."""
    return value if isinstance(value, Mapping) else {}


def as_rows(value: Any) -> list[Record]:
    """Return the mappings of a list; anything else is no rows."""
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list | tuple) else []


def plain(value: Any) -> str:
    """Return a stored value as a reader wants to see it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, int):
        return f"{value:,}"
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def show_controls(text: str) -> str:
    """Replace control characters, which an untrained model writes and pages may not hold, by their pictures."""
    return text.translate(_PICTURES)
