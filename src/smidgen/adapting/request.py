"""From what a person typed to an adaptation: options, or a recipe, with single keys overridden."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.adapting.config import GAME, METHODS, Adaptation
from smidgen.config import apply_overrides, load_config, read_toml, validate_config
from smidgen.errors import ConfigError
from smidgen.planning.units import parse_time
from smidgen.runs import RunDirectory
from smidgen.surgery.config import read_adapter

_SHAPING = ("task", "adapter", "by", "data", "examples", "lr", "name")
"""Options that make a recipe, and so cannot be given beside one."""
_BUDGET = ("time", "steps", "limit", "seed")


@dataclass(frozen=True)
class AdaptRequest:
    """What was typed."""

    source: str
    """A model, or a recipe (.toml), or the directory of a run to go on with."""
    overrides: tuple[str, ...] = ()
    """KEY=VALUE."""
    task: str | None = None
    adapter: str | None = None
    by: str | None = None
    data: Path | None = None
    """Folder of the tasks that read local files."""
    examples: Path | None = None
    """File that `--by sft`, `dpo` or `spin` learns from."""
    limit: int | None = None
    """Most questions of the test."""
    lr: float | None = None
    seed: int | None = None
    name: str | None = None
    time: str | None = None
    steps: int | None = None
    out: Path = Path("runs")
    device: str | None = None

    @property
    def total_seconds(self) -> float | None:
        """Seconds of the whole command."""
        return None if self.time is None else parse_time(self.time)


def settle(request: AdaptRequest) -> tuple[Adaptation, RunDirectory]:
    """Return what is to be done and where. Raises ConfigError for what cannot be meant."""
    own = RunDirectory(request.source)
    if request.task is None and _is_adaptation(own):
        _refuse(request, (*_SHAPING, *_BUDGET), f"a run that was begun. Go on with it: smidgen adapt {own.path}")
        return load_config(own.recipe, Adaptation, request.overrides), own
    if Path(request.source).suffix == ".toml":
        _refuse(request, _SHAPING, f"a recipe. Write key=value after it, or edit {request.source}.")
        asked = load_config(Path(request.source), Adaptation, [*_common(request), *request.overrides])
    else:
        asked = _from_options(request)
    return asked, RunDirectory(request.out / asked.name)


def _is_adaptation(run: RunDirectory) -> bool:
    """Whether a run was begun here that adapts a model; one that trains may be a base."""
    return run.is_started and "base" in read_toml(run.recipe)


def _refuse(request: AdaptRequest, names: Sequence[str], what: str) -> None:
    for name in names:
        if getattr(request, name) is not None:
            raise ConfigError(f"--{name} {getattr(request, name)} cannot change {what}")


def _from_options(request: AdaptRequest) -> Adaptation:
    if request.task is None:
        raise ConfigError(f"what is {request.source} to learn? Name a task: --task arithmetic, a file, a game.")
    plays = request.task.startswith(GAME)
    by = request.by or ("selfplay" if plays else "rl")
    if by not in METHODS:
        raise ConfigError(f"--by {by} is no way to learn. There are: {', '.join(METHODS)}.")
    method: dict[str, Any] = {"type": by}
    if request.examples is not None:
        if "data" not in METHODS[by].model_fields:
            raise ConfigError(f"--examples are for --by sft, dpo or spin; by {by} the task's own questions are used.")
        method["data"] = str(request.examples)
    elif by == "dpo":
        raise ConfigError("--by dpo learns from pairs: name a file of prompt, chosen and rejected with --examples.")
    if request.lr is not None:
        if "learning_rate" not in METHODS[by].model_fields:
            raise ConfigError("--lr: a search has no learning rate; set its first step, by.strategy.sigma=0.1.")
        method["learning_rate"] = request.lr
    # Whoever learns a game has most often learned nothing else, from transcripts, and is small.
    adapter = request.adapter or ("full" if by == "selfplay" else "tinylora:13")
    settings: dict[str, Any] = {
        "name": request.name or _name(request, by, adapter),
        "base": request.source,
        "task": request.task,
        "by": method,
        "adapter": read_adapter(adapter).model_dump(mode="json", exclude_none=True),
    }
    settings |= {"data": str(request.data)} if request.data is not None else {}
    settings |= {"shots": 0} if plays else {}
    return _checked(apply_overrides(settings, [*_common(request), *request.overrides]))


def _checked(settings: Mapping[str, Any]) -> Adaptation:
    return validate_config(settings, Adaptation, where="what you asked for")


def _common(request: AdaptRequest) -> list[str]:
    """Return the overrides that options stand for, whatever the source."""
    told = []
    if request.total_seconds is not None and request.steps is not None:
        raise ConfigError("--time and --steps both say when to stop. Give one.")
    if request.total_seconds is not None:
        told += ["budget.type=time", f"budget.seconds={request.total_seconds}"]
    if request.steps is not None:
        told += ["budget.type=steps", f"budget.steps={request.steps}"]
    told += [f"seed={request.seed}"] if request.seed is not None else []
    told += [f"test_examples={request.limit}"] if request.limit is not None else []
    return told


def _name(request: AdaptRequest, by: str, adapter: str) -> str:
    task = (request.task or "").removeprefix(GAME).partition(":")[0]
    words = [Path(request.source).name, task, by, adapter]
    whole = "-".join(Path(word).stem if "/" in word else word for word in words)
    return re.sub(r"[^A-Za-z0-9.]+", "-", whole).strip("-.") or "adapted"
