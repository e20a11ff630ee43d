"""What stands behind a task's name: `arithmetic:easy,n=200` is a preset and a key of the task's config."""

from collections.abc import Mapping
from typing import Any, TypeVar

from smidgen.config import Config, apply_overrides, validate_config
from smidgen.errors import ConfigError

C = TypeVar("C", bound=Config)
Presets = Mapping[str, Mapping[str, Any]]
"""Settings by the name they have on the command line."""


def read_options(task: str, text: str, cls: type[C], presets: Presets | None = None) -> C:
    """Read `preset,key=value,...` into a config; what is said in keys goes over what a preset says.

    Raises ConfigError naming what exists.
    """
    presets = presets or {}
    where = f"--task {task}:{text}" if text else f"--task {task}"
    settings: dict[str, Any] = {}
    said: list[str] = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        if "=" in part:
            said.append(part)
        elif part in presets:
            settings |= presets[part]
        else:
            known = f"presets {', '.join(presets)}; " if presets else ""
            raise ConfigError(f"{where}: there is no {part!r}. Known: {known}keys {', '.join(cls.model_fields)}.")
    return validate_config(apply_overrides(settings, said), cls, where)


def full_name(task: str, text: str) -> str:
    """Return the task's name with its options, as a person would type it again."""
    return f"{task}:{text}" if text else task
