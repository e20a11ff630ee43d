"""Training state: what a run needs to go on exactly where it stopped, and nothing a finished model needs.

One safetensors file per state, `step-00000120.safetensors`: tensors as they are, everything else as JSON in its
header, a sha256 over both. Renamed into place when whole; the last two are kept, so that a damaged newest costs the
steps since the one before and no more.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from smidgen.checkpoint.atomic import staged_file
from smidgen.checkpoint.tensors import open_tensors, tensor_bytes, write_tensors
from smidgen.errors import CheckpointError

_KEPT = 2
_NAME = re.compile(r"step-(\d{8,})\.safetensors")


@dataclass(frozen=True)
class TrainingState:
    """What was saved at one step."""

    step: int
    """Optimizer steps done."""
    tensors: dict[str, Tensor]
    """Weights, optimizer moments, averages, generator states: whatever was saved, bit for bit, on the CPU."""
    meta: dict[str, Any]
    """Everything that is no tensor."""
    note: str | None = None
    """What had to be passed over to get here, for the run's log."""


def save_training_state(directory: Path, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Path:
    """Write the state of `step` and drop all but the last two; return the file.

    `meta` must be JSON. One process writes. Raises CheckpointError, the older states intact, if the disk is full.
    """
    path = directory / f"step-{step:08d}.safetensors"
    text = json.dumps({"step": step, **meta})
    if "step" in meta:
        raise ValueError("the step is an argument of its own, not part of meta")
    with staged_file(path) as staging:
        header = {"meta": text, "sha256": _digest(tensors, text)}
        write_tensors(staging, tensors, header)
    for outdated in [*_states(directory)[_KEPT:], *directory.glob("*.damaged"), *directory.glob(".step-*.partial")]:
        outdated.unlink(missing_ok=True)
    return path


def load_training_state(directory: Path) -> TrainingState | None:
    """Return the newest intact state, or None if none was ever saved.

    A damaged state is set aside (renamed `.damaged`) and named in `note`. Raises CheckpointError if all are damaged.
    """
    damaged: dict[Path, str] = {}
    for path in _states(directory):
        try:
            state = _read(path)
        except CheckpointError as error:
            damaged[path] = str(error)
            continue
        return _set_aside(damaged, state) if damaged else state
    if damaged:
        raise CheckpointError(f"{next(iter(damaged.values()))} No older state is intact: move {directory} away.")
    return None


def oldest_training_step(directory: Path) -> int:
    """Return the earliest step that a run could go on from: of the oldest state, or 0 if none was saved."""
    return min((int(path.stem[5:]) for path in _states(directory)), default=0)


def _set_aside(damaged: Mapping[Path, str], state: TrainingState) -> TrainingState:
    for path in damaged:
        with contextlib.suppress(OSError):  # another rank may have been faster, or the directory is read-only
            path.rename(path.with_name(path.name + ".damaged"))
    reason = next(iter(damaged.values()))
    return replace(state, note=f"{reason} Going on from step {state.step} instead.")


def _states(directory: Path) -> list[Path]:
    """Return the states of a directory, newest first."""
    steps = {path: _NAME.fullmatch(path.name) for path in directory.glob("step-*.safetensors")}
    return sorted((path for path, match in steps.items() if match), key=lambda p: int(p.stem[5:]), reverse=True)


def _read(path: Path) -> TrainingState:
    with open_tensors(path) as source:
        tensors = {name: source.read(name).clone() for name in source.shapes}
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    text = header.get("meta", "")
    if header.get("sha256") != _digest(tensors, text):
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum.")
    meta = json.loads(text)
    return TrainingState(meta.pop("step"), tensors, meta)


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().to("cpu")
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor_bytes(tensor).data)
    return digest.hexdigest()
