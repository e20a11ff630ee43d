"""Keeping what an evaluation found: a record and item scores beside the weights, and the table of the model's card.

What the files hold is told in `reports/standing.py`, which reads them. Read them before an evaluation begins, so that
a damaged file is refused before hours of work and not after; call `keep_eval` when it is done.
"""

import contextlib
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from smidgen.checkpoint.cache import CATALOGUE, cached, unknown_name
from smidgen.checkpoint.directory import resolve_directory
from smidgen.errors import CheckpointError, RunError
from smidgen.reports.card import with_scores
from smidgen.reports.standing import FORMAT, EvalFiles, Standing, is_adapter, read_evals, read_standing
from smidgen.runs import atomic_write

Row = Mapping[str, Any]


def find_evals(source: str | Path) -> EvalFiles:
    """Return where the evaluations of a model, an adapter or the run that made one lie; nothing is loaded.

    Raises CheckpointError if there is neither.
    """
    path = Path(source)
    if not any((place / "config.json").is_file() for place in (path, path / "model")):
        for place in (path, path / "adapter"):
            if is_adapter(place):
                return EvalFiles.beside(place)
    return find_model_evals(source)


def find_model_evals(source: str | Path) -> EvalFiles:
    """Return where the evaluations of a run, a model directory, a .gguf file or a pulled name lie; nothing is loaded.

    Raises CheckpointError if there is no such model.
    """
    path = Path(source)
    if is_adapter(path) and not (path / "config.json").is_file():
        raise CheckpointError(f"{source}: is an adapter, not a model. Name its base, and --adapter {source}")
    if path.is_dir():
        return EvalFiles.beside(resolve_directory(path))
    if path.suffix == ".gguf" and path.is_file():
        return EvalFiles.beside(path)
    target = cached(str(source))
    if target is None or path.exists():
        raise unknown_name(str(source))
    if not target.is_dir():
        where = "is not here yet" if source in CATALOGUE else "no such directory, and nothing of that name was pulled"
        raise CheckpointError(f"{source}: {where}. From the hub: smidgen pull {source}")
    return EvalFiles.beside(target)


def keep_eval(files: EvalFiles, record: Row, items: Mapping[str, Sequence[Row]]) -> Standing:
    """Add an evaluation to a model's own, write its item scores, bring its card up to date; return what is known now.

    `record` is as in `reports/standing.py`; `items` are the lines of each task by its name, {"id", "hash", "score",
    ...}, where `score` is the task's metric and `hash` names the strings that were asked. Another evaluation that ends
    at the same moment waits, and loses nothing. Raises RunError.
    """
    with _alone(files.file.parent):
        return _keep(files, record, items)


def _keep(files: EvalFiles, record: Row, items: Mapping[str, Sequence[Row]]) -> Standing:
    tasks = []
    for task in record["tasks"]:
        rows = items.get(task["name"], ())
        name = f"{_plain(task['name'])}-{_plain(task['version'])}-{items_hash(rows)}.jsonl" if rows else ""
        if rows:
            _make_folder(files.folder)
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
            with contextlib.suppress(OSError):
                (files.folder / name).unlink()  # a later evaluation has taken its place
    card = files.file.with_name("README.md")
    if files.file.name == "evals.json" and card.is_file():
        text = with_scores(card.read_text(encoding="utf-8", errors="surrogateescape"), standing)
        atomic_write(card, text.encode("utf-8", "surrogateescape"))  # bytes that are no UTF-8 stay what they are
    return standing


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder's evaluations until this process has written its own; no file is left behind by that.

    Where a folder cannot be held (Windows, some network disks) two that end in the same second may lose one record.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise _refusal(folder, error) from None
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refusal(folder, error) from None


def _refusal(folder: Path, error: OSError) -> RunError:
    return RunError(f"{folder}: an evaluation cannot be kept there ({error.strerror}).")


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
