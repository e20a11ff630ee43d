"""Options of `smidgen adapt`, gathered in the context's object: checked together, where they are understood."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from smidgen.commands.grouping import gather

OPTIONS: dict[str, tuple[Any, str]] = {
    "task": (str, "What to learn: arithmetic, mine.jsonl, mine.py (docs/tasks.md), game:tictactoe (docs/selfplay.md)"),
    "adapter": (
        str,
        "tinylora:13, lora_xs:r=8, lora:r=8, rslora:r=64, ia3, bias, full. Default: tinylora:13 (selfplay: full)",
    ),
    "by": (str, "rl, sft, dpo, spin, search or selfplay. Default: rl; of a game, selfplay"),
    "examples": (click.Path(path_type=Path), "File that sft, dpo or spin learns from"),
    "data": (click.Path(path_type=Path), "Folder of the tasks' local files"),
    "time": (str, "For the whole command, measuring included: 15m, 1h"),
    "steps": (click.IntRange(min=1), "Optimizer steps, instead of a time"),
    "lr": (click.FloatRange(min=0, min_open=True), "Peak learning rate. Default: by the adapter"),
    "limit": (click.IntRange(min=1), "Most questions of the test. Default: all of it; of a game, 400 matches each"),
    "seed": (click.IntRange(min=0), "Of every random draw. Default: 0"),
    "name": (str, "The run is runs/NAME. Default: after what it does"),
    "out": (click.Path(path_type=Path), "Where run directories are. Default: runs"),
    "device": (str, "cpu, cuda, cuda:1, mps. Default: the fastest one here"),
}


def adapt_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; what was given arrives as the context's object, a dictionary."""
    for name, (kind, help_text) in reversed(OPTIONS.items()):
        command = click.option(f"--{name}", type=kind, expose_value=False, callback=gather, help=help_text)(command)
    return click.pass_obj(command)
