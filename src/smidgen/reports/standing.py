"""What is known of a model by evaluation: `evals.json` beside its weights, read back.

    evals.json   {"format": 1, "evals": [one record for each evaluation, in the order they were made]}
    evals/       one line for each item of a task: {"id", "hash", "score", ...}, for comparison item by item

A record is {"at", "smidgen", "model", "protocol", "tasks", "seconds", "parameters", "file_bytes"}; `model` is the
fingerprint of the weights; a task that was asked in another way has a `protocol` of its own. Of a .gguf file they lie
beside it, NAME.evals.json and NAME.evals/, of an adapter in its directory. Whatever is damaged is refused with its
place; who writes them is `journey/standing.py`.
"""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

from smidgen.errors import RunError
from smidgen.reports.quantities import number, share
from smidgen.reports.records import Record, as_table

FORMAT = 1
OWN_TEXT = "bits_per_byte:held out"
"""The evaluation of a run on the text it held out itself."""
LOWER_IS_BETTER = frozenset({"bits_per_byte", "perplexity"})
"""Metrics of which less is better; of all others more is."""
_ADAPTERS = ("adapter.json", "adapter_config.json")
_LARGEST = sys.float_info.max
_MOST_COUNTED = 1 << 62
_OF_OTHER_ANSWERS = "sampled"
"""Of a protocol what says nothing of a score: how the answers beside the greedy ones were drawn."""


@dataclass(frozen=True)
class EvalFiles:
    """Where the evaluations of one model lie."""

    file: Path
    folder: Path

    @classmethod
    def beside(cls, model: Path) -> "EvalFiles":
        """Return the place for a model directory, or a .gguf file."""
        if model.suffix == ".gguf":
            return cls(model.with_name(f"{model.stem}.evals.json"), model.with_name(f"{model.stem}.evals"))
        return cls(model / "evals.json", model / "evals")


@dataclass(frozen=True)
class Score:
    """How a model did at one task."""

    name: str
    version: str
    metric: str
    value: float
    """Infinite where it was beyond what a number can say, as a perplexity may be."""
    low: float | None
    high: float | None
    n: int
    """Items asked."""
    of: int | None
    """Items there are in the published set."""
    limit: int | None
    """What the evaluation was limited to; None for all that the files hold."""
    chance: float | None
    corrected: float | None
    """(value - chance) / (1 - chance): 0 is guessing, 1 is all right."""
    items: str
    """The file of the item scores in the model's folder of them; empty if there is none."""
    items_hash: str
    """Names the items that were asked: equal if and only if they are the same strings."""
    cut: int
    """Items that did not fit the model's context."""
    contamination: Record
    """What of it was found in training text; empty if nobody looked."""
    metrics: Mapping[str, float]
    """Every metric of the task."""
    protocol: Record
    """How it was asked: scores compare where it is the same."""
    at: str

    @property
    def is_part(self) -> bool:
        """Whether fewer items were asked than the published set has."""
        return self.limit is not None or (self.of is not None and self.n < self.of)

    @property
    def is_lower_better(self) -> bool:
        """Whether less is better."""
        return self.metric in LOWER_IS_BETTER

    def measured_by(self, metric: str) -> "Score":
        """Return the same score by another of its metrics."""
        return replace(self, metric=metric, value=self.metrics.get(metric, math.inf), low=None, high=None)

    def told(self, value: float | None) -> str:
        """Return a value of this metric as people read it: a share in per cent, anything else as a number."""
        if value is None:
            return "–"
        return number(value, 4) if self.is_lower_better or abs(self.value) > 1 else share(value)

    def asked(self) -> str:
        """Say how many items were asked: all, or how many of how many."""
        return f"{self.n:,} of {self.of:,}" if self.of is not None and self.n < self.of else f"{self.n:,}"


@dataclass(frozen=True)
class Standing:
    """What the evaluations of one model say together."""

    file: Path
    model: str
    parameters: int | None
    file_bytes: int | None
    scores: tuple[Score, ...]
    """One for each task, in its latest version: the newest evaluation, unless it was limited to fewer items."""
    others: int
    """Evaluations of other weights that once stood here; they are passed over."""

    def find(self, name: str) -> Score | None:
        """Return the score at a task."""
        return next((score for score in self.scores if score.name == name), None)


def is_adapter(path: Path) -> bool:
    """Whether a directory holds an adapter, ours or a PEFT one."""
    return any((path / name).is_file() for name in _ADAPTERS)


def read_standing(files: EvalFiles) -> Standing | None:
    """Return what is known of a model; None if it never was evaluated. Raises RunError if the file is damaged."""
    evals = read_evals(files)
    if not evals:
        return None
    newest = evals[-1]
    own = [record for record in evals if record["model"] == newest["model"]]
    best: dict[str, Score] = {}
    for record in own:
        for task in record["tasks"]:
            score = _score(task, record, files.file)
            known = best.get(score.name)
            is_less = known is not None and score.limit is not None and score.n < known.n
            if known is None or score.version != known.version or not is_less:
                best[score.name] = score
    told = {
        key: next((r[key] for r in reversed(own) if _is_count(r.get(key))), None)
        for key in ("parameters", "file_bytes")
    }
    return Standing(files.file, newest["model"], scores=tuple(best.values()), others=len(evals) - len(own), **told)


def read_evals(files: EvalFiles) -> list[dict[str, Any]]:
    """Return the records of all evaluations, the oldest first; no file means none.

    Raises RunError if the file is damaged, or of a later version than this one reads.
    """
    path = files.file
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    written = content.get("format") if isinstance(content, dict) else None
    if not isinstance(written, int):
        raise _damaged(path, "it names no format")
    if written > FORMAT:
        raise RunError(
            f"{path}: is of a later version (format {written}; this Smidgen reads {FORMAT}). Update Smidgen, or move "
            "the file away and evaluate again."
        )
    evals = content.get("evals")
    if not isinstance(evals, list):
        raise _damaged(path, "it holds no list 'evals'")
    for at, record in enumerate(evals, start=1):
        if not isinstance(record, dict) or not isinstance(record.get("tasks"), list) or "model" not in record:
            raise _damaged(path, f"evaluation {at} is no record with 'model' and 'tasks'")
        for task in record["tasks"]:
            _score(task, record, path)
    return evals


def read_items(files: EvalFiles, score: Score) -> list[dict[str, Any]]:
    """Return the lines of a task's items. Raises RunError if they are missing, damaged or of another evaluation."""
    path = files.folder / Path(score.items).name if score.items else files.folder
    try:
        content = path.read_text(encoding="utf-8") if score.items else ""
        rows = [json.loads(line) for line in content.split("\n") if line]
    except OSError:
        raise RunError(f"{path}: the item scores of {score.name} are missing. Evaluate again.") from None
    except ValueError as error:
        raise RunError(f"{path}: is damaged ({error}). Evaluate {score.name} again.") from None
    if not all(map(_is_item, rows)):
        raise RunError(f"{path}: has a line that is no item with 'id' and 'score'. Evaluate {score.name} again.")
    if len(rows) != score.n:
        raise RunError(f"{path}: holds {len(rows):,} items, {score.n:,} were asked. Evaluate {score.name} again.")
    return rows


def _score(task: Any, record: Record, path: Path) -> Score:
    """Return one task of a record. Raises RunError that names what is missing."""
    name = task.get("name") if isinstance(task, dict) else None
    if not isinstance(name, str):
        raise _damaged(path, "a task has no name")
    value = math.inf if "value" in task and task["value"] is None else task.get("value")
    if not _is_number(task.get("n")) or not isinstance(task.get("metric"), str) or not _is_value(value):
        raise _damaged(path, f"task {name} has no 'value', 'n' or 'metric'")
    items = task.get("items")
    # What a later evaluation replaces is deleted by this name: it must not lead out of the folder.
    if items and (not isinstance(items, str) or items != Path(items).name or items == ".." or "\0" in items):
        raise _damaged(path, f"task {name}: 'items' must be the name of a file")
    numbers = {key: task[key] if _is_number(task.get(key)) else None for key in ("low", "high", "chance", "corrected")}
    counts = {key: int(task[key]) if _is_number(task.get(key)) else None for key in ("of", "limit")}
    told = {key: as_table(entry).get("value", entry) for key, entry in as_table(task.get("metrics")).items()}
    return Score(
        name=name,
        version=str(task.get("version") or ""),
        metric=task["metric"],
        value=float(value),
        n=int(task["n"]),
        items=items or "",
        items_hash=str(task.get("items_hash") or ""),
        cut=int(task.get("cut") or 0) if _is_number(task.get("cut") or 0) else 0,
        contamination=as_table(task.get("contamination")),
        metrics={key: float(value) for key, value in told.items() if _is_number(value)},
        protocol=_way(task, record),
        at=str(record.get("at") or ""),
        **numbers,
        **counts,
    )


def _way(task: Record, record: Record) -> Record:
    """Return how a task was asked: its own protocol, which bits per byte have, or that of the whole evaluation."""
    own = as_table(task.get("protocol")) or as_table(as_table(task.get("metrics")).get("protocol"))
    return {key: value for key, value in (own or as_table(record.get("protocol"))).items() if key != _OF_OTHER_ANSWERS}


def _is_item(row: Any) -> bool:
    """Whether a line names an item and what it got; what else it says of that is a number, or nothing."""
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not _is_number(row.get("score")):
        return False
    weight, scores = row.get("weight"), row.get("scores") or {}
    has_weight = weight is None or (_is_number(weight) and weight > 0)
    return has_weight and isinstance(scores, dict) and all(v is None or _is_number(v) for v in scores.values())


def _is_value(value: Any) -> TypeGuard[float]:
    return _is_number(value) or value == math.inf


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST_COUNTED


def _damaged(path: Path, why: str) -> RunError:
    return RunError(f"{path}: is damaged ({why}). Move it away and evaluate again.")
