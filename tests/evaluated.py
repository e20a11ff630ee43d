"""Evaluated models as an evaluation leaves them, without the evaluation."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smidgen.evaluation.intervals import estimate_share
from smidgen.journey.standing import keep_eval
from smidgen.reports.standing import EvalFiles


def make_model(path: Path, kilobytes: int = 3) -> Path:
    """Write what looks like a model directory to whoever does not load it."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(b"\0" * 1000 * kilobytes)
    (path / "README.md").write_text(f"# {path.name}\n\nMine to edit.\n")
    return path


def answers(skill: float, n: int = 400, seed: int = 0, prefix: str = "arc_easy/test", first: int = 0) -> list[dict]:
    """Draw the item scores of a model; two of one seed find the same items hard."""
    draw = random.Random(seed)
    rows = []
    for number in range(first, first + n):
        hard = draw.random()
        score = float(hard < skill)
        row = {"id": f"{prefix}/{number}", "hash": f"h{number}", "score": score}
        rows.append({**row, "scores": {"accuracy": score, "normalized": float(hard < skill + 0.05)}})
    return rows


def entry(name: str, rows: list[dict], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an evaluation records of a task."""
    found = estimate_share([min(1.0, row["score"]) for row in rows])
    chance = 0.25
    told = {"name": name, "version": "1.0", "metric": "accuracy", "n": len(rows), "of": len(rows), "limit": None}
    told |= {"value": found.value, "low": found.low, "high": found.high, "chance": chance, "cut": 0}
    told |= {"corrected": (found.value - chance) / (1 - chance), "contamination": None}
    return {**told, "metrics": {"accuracy": found.value, "normalized": found.value + 0.05}, **more}


def evaluate(
    model: Path, tasks: Mapping[str, list[dict]], fingerprint: str = "", more: Mapping[str, Any] | None = None
) -> Path:
    """Keep an evaluation of a model; `more` are further keys of every task."""
    record = {"at": "2026-11-22T12:00:00", "smidgen": "0.1.0", "model": fingerprint or model.name}
    record |= {"protocol": {"dtype": "bfloat16"}, "seconds": 12.0, "parameters": 10_000_000, "file_bytes": 20_000_000}
    entries = [entry(name, rows, more or {}) for name, rows in tasks.items()]
    keep_eval(EvalFiles.beside(model), {**record, "tasks": entries}, tasks)
    return model


def rewrite(model: Path, change: Any) -> None:
    """Change the content of a model's evals.json by a function."""
    path = model / "evals.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
