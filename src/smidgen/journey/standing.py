"""Keeping what an evaluation found: a record and item scores beside the weights, and the table of the model's card.

What the files hold is told in `reports/standing.py`, which reads them. Call `open_evals` before an evaluation begins,
so that a damaged file is refused before hours of work and not after; `keep_eval` when it is done.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smidgen.checkpoint.cache import cached, unknown_name
from smidgen.checkpoint.directory import resolve_directory
from smidgen.errors import CheckpointError, RunError
from smidgen.reports.card import with_scores
from smidgen.reports.standing import FORMAT, EvalFiles, Standing, read_evals, read_standing
from smidgen.runs import atomic_write

Row = Mapping[str, Any]


def find_evals(source: str | Path) -> EvalFiles:
    """Return where the evaluations of a run, a model directory, a .gguf file or a pulled name lie; nothing is loaded.

    Raises CheckpointError if there is no such model.
    """
    path = Path(source)
    if path.is_dir():
        return EvalFiles.beside(resolve_directory(path))
    if path.suffix == ".gguf" and path.is_file():
        return EvalFiles.beside(path)
    target = cached(str(source))
    if target is None or path.exists():
        raise unknown_name(str(source))
    if not target.is_dir():
        raise CheckpointError(f"{source}: is not here yet. Fetch it first: smidgen pull {source}")
    return EvalFiles.beside(target)


def open_evals(source: str | Path) -> EvalFiles:
    """Return where the evaluations of a model lie, once it is sure that one more can be written there.

    Raises RunError if what is there is damaged or of a later version, or if the place cannot be written.
    """
    files = find_evals(source)
    read_evals(files)
    if not os.access(files.file.parent, os.W_OK):
        raise RunError(f"{files.file.parent}: may not be written, so nothing could be kept. Copy the model elsewhere.")
    return files


def keep_eval(files: EvalFiles, record: Row, items: Mapping[str, Sequence[Row]]) -> Standing:
    """Add an evaluation to a model's own, write its item scores, bring its card up to date; return what is known now.

    `record` is as in `reports/standing.py`; `items` are the lines of each task by its name, {"id", "hash", "score",
    ...}, where `score` is the task's metric and `hash` names the strings that were asked. Raises RunError.
    """
    tasks = []
    for task in record["tasks"]:
        rows = items.get(task["name"], ())
        name = f"{_plain(task['name'])}-{_plain(task['version'])}-{items_hash(rows)}.jsonl" if rows else ""
        if rows:
            files.folder.mkdir(parents=True, exist_ok=True)
            content = "".join(json.dumps(dict(row)) + "\n" for row in rows)
            atomic_write(files.folder / name, content)
        tasks.append({**task, "items": name, "items_hash": items_hash(rows) if rows else task.get("items_hash", "")})
    evals = [*read_evals(files), {**record, "tasks": tasks}]
    atomic_write(files.file, json.dumps({"format": FORMAT, "evals": _finite(evals)}, indent=1, default=str) + "\n")
    standing = read_standing(files)
    assert standing is not None
    for name in {task.get("items") or "" for one in evals for task in one["tasks"]} - {
        s.items for s in standing.scores
    }:
        if name:
            (files.folder / name).unlink(missing_ok=True)  # a later evaluation has taken its place
    card = files.file.with_name("README.md")
    if files.file.name == "evals.json" and card.is_file():
        atomic_write(card, with_scores(card.read_text(encoding="utf-8"), standing))
    return standing


def items_hash(rows: Sequence[Row]) -> str:
    """Return a short name of the items: the same if and only if the same were asked, in whatever order."""
    lines = sorted(f"{row['id']} {row.get('hash', '')}\n" for row in rows)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def _plain(name: object) -> str:
    return "".join(c if c.isalnum() or c in "._" else "_" for c in str(name))


def _finite(value: Any) -> Any:
    """Return plain values with null for what is not finite, which JSON cannot say."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
