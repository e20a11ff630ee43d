"""The models below a folder, for a leaderboard: what each weighs, what it cost, and what was found of it.

Reads what runs and evaluations wrote; loads no model. What cannot be read is told and its model shown without it.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.errors import RunError
from smidgen.reports.records import Record, as_table
from smidgen.reports.standing import OWN_TEXT, EvalFiles, Standing, is_adapter, read_standing
from smidgen.runs import RunDirectory

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_NOT_SHIPPED = frozenset({"README.md", "SHA256SUMS", "evals.json", "leaderboard.html"})
_NO_MODELS = frozenset({"checkpoints", "data", "tokenizer", "trainer", "evals", "text", "logs", "cells", "compiled"})
"""Folders of a run or a study in which no model lies."""


@dataclass(frozen=True)
class HeldOut:
    """Bits per byte on the text a run held out."""

    bits_per_byte: float
    error: float | None
    """Standard error over documents."""
    text: str
    """Names the text in four letters: runs compare only within one."""
    label: str
    """What a reader calls that text."""
    told: str
    """How it was measured."""
    documents: str = ""
    """Names the very documents of an evaluation of it; empty if there was none."""


@dataclass(frozen=True)
class Entrant:
    """One model."""

    name: str
    """Its place below the folder."""
    group: str
    """The folder it lies in, for those in a study; empty at the top."""
    parameters: int | None
    file_bytes: int
    """Bytes of what ships: weights, tokenizer and settings; of an adapter its own and its base's."""
    seconds: float | None
    """Seconds of training."""
    held_out: HeldOut | None
    standing: Standing | None


@dataclass(frozen=True)
class Field:
    """All models below a folder."""

    folder: Path
    entrants: tuple[Entrant, ...]
    notes: tuple[str, ...]
    """What was passed over, and why."""


def find_entrants(folder: Path) -> Field:
    """Return the models below a folder, at any depth. Raises RunError if there is none."""
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder. Name one with runs or models in it, such as runs/")
    entrants, notes, unfinished, without = [], [], 0, 0
    for place in _places(folder):
        run = RunDirectory(place)
        is_run = run.is_started or run.is_finished
        model = place / "model" if is_run else place
        if is_run and not _is_model(model):
            model = place / "adapter"
        if not _is_model(model) and not _is_evaluated_adapter(model):
            without += is_run and run.is_finished
            unfinished += is_run and not run.is_finished
            continue
        try:
            figures = run.read_final_metrics() if is_run and run.is_finished else {}
            resolved = run.read_resolved() if figures else {}
        except RunError as error:
            figures, resolved = {}, {}
            notes.append(str(error))
        try:
            standing = read_standing(EvalFiles.beside(model))
        except RunError as error:
            standing = None
            notes.append(str(error))
        entrants.append(_entrant(place, folder, model, (figures, resolved), standing))
    if unfinished:
        notes.append(f"{_runs(unfinished)} not finished and left out.")
    if without:
        notes.append(f"{_runs(without)} without a model of {'its' if without == 1 else 'their'} own (adaptations).")
    if not entrants:
        why = f" ({' '.join(notes)})" if notes else ""
        raise RunError(f"{folder}: holds no model{why}. Train one, or name the folder that holds runs: runs/")
    return Field(folder, tuple(sorted(entrants, key=lambda one: one.name)), tuple(notes))


def _places(folder: Path) -> Iterator[Path]:
    """Yield runs, model directories, evaluated adapters and .gguf files below a folder; of a run nothing inside it."""
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        yield from (
            here / name
            for name in sorted(files)
            if name.endswith(".gguf") and EvalFiles.beside(here / name).file.exists()
        )
        if "recipe.toml" in files or "metrics.json" in files or _is_model(here) or _is_evaluated_adapter(here):
            folders.clear()
            yield here
            continue
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NO_MODELS)


def _is_model(path: Path) -> bool:
    if path.suffix == ".gguf":
        return path.is_file()
    return (path / "config.json").is_file() and any((path / name).is_file() for name in _WEIGHTS)


def _is_evaluated_adapter(path: Path) -> bool:
    return is_adapter(path) and EvalFiles.beside(path).file.exists()


def _entrant(place: Path, folder: Path, model: Path, run: tuple[Record, Record], standing: Standing | None) -> Entrant:
    figures, resolved = run
    relative = place.relative_to(folder)
    # Inside of a study the folder `runs` says nothing.
    parts = [part for part in relative.parts if part != "runs"] or [folder.resolve().name]
    seconds = figures.get("seconds")
    told = standing if is_adapter(model) else None  # the base lies elsewhere: only an evaluation knew it
    return Entrant(
        name="/".join(parts),
        group="/".join(parts[:-1]),
        parameters=(told and told.parameters)
        or figures.get("parameters")
        or (standing and standing.parameters)
        or _count_parameters(model),
        file_bytes=(told and told.file_bytes) or shipped_bytes(model),
        seconds=float(seconds) if isinstance(seconds, int | float) else None,
        held_out=_held_out(figures, resolved, standing),
        standing=standing,
    )


def _held_out(figures: Record, resolved: Record, standing: Standing | None) -> HeldOut | None:
    measured, data = as_table(figures.get("validation")), as_table(resolved.get("data"))
    bits = measured.get("bits_per_byte")
    if not isinstance(bits, int | float):
        return None
    source = as_table(as_table(resolved.get("recipe")).get("data"))
    label = Path(str(source.get("path") or source.get("type") or "held-out text")).name
    protocol = as_table(measured.get("protocol"))
    evaluated = standing.find(OWN_TEXT) if standing else None
    how = f"{measured.get('documents', '?')} documents, {measured.get('bytes', 0):,} bytes, context "
    return HeldOut(
        bits_per_byte=float(bits),
        error=measured.get("standard_error"),
        text=hashlib.sha256(str(data.get("hash") or label).encode()).hexdigest()[:4],
        label=label,
        told=how + f"{protocol.get('context')}, stride {protocol.get('stride')}",
        documents=evaluated.items_hash if evaluated else "",
    )


def shipped_bytes(model: Path) -> int:
    """Return what a model's files weigh: weights, tokenizer and settings; not its card, nor what is known of it."""
    if model.is_file():
        return model.stat().st_size
    return sum(path.stat().st_size for path in model.iterdir() if path.is_file() and path.name not in _NOT_SHIPPED)


def _count_parameters(model: Path) -> int | None:
    """Count the numbers in safetensors files from their headers; None for other files, or damaged ones."""
    total = 0
    for path in sorted(model.glob("model*.safetensors")) if model.is_dir() else ():
        header = _read_header(path)
        if header is None:
            return None
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for length in tensor["shape"]:
                    size *= length
                total += size
    return total or None


def _read_header(path: Path) -> Mapping[str, Any] | None:
    """Return the header of a safetensors file: eight bytes of its length, then JSON."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 100_000_000)))
    except (OSError, ValueError, struct.error):
        return None
    is_sound = isinstance(header, dict) and all("shape" in t for n, t in header.items() if n != "__metadata__")
    return header if is_sound else None


def _runs(count: int) -> str:
    return "1 run is" if count == 1 else f"{count} runs are"
