"""The dials and what goes with them, for the verbs that plan: one argument for all, named as `Request` names them."""

from collections.abc import Callable
from typing import Any

import click

from smidgen.commands.grouping import gather

OPTIONS: dict[str, tuple[click.ParamType | type, str, str]] = {
    "size": (str, "SIZE", "Parameters (300k, 10M), bytes of the shipped file (8MB), or a preset (tinyllama-1.1b)."),
    "time": (str, "TIME", "Of the whole command: 90s, 10m, 1h30m. Default: 10m."),
    "style": (
        click.Choice(["best", "llama"]),
        "",
        "best: what pays at this size (default); llama: exports everywhere.",
    ),
    "seed": (click.IntRange(min=0), "N", "Decides every random draw. Default: 0."),
    "name": (str, "NAME", "Name of the run. Default: after what it reads."),
}
"""Name of a dial to its kind, how its value is called, and what it does."""


def dial_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `OPTIONS`; what was given arrives as the context's object, a dictionary."""
    for name, (kind, metavar, help_text) in reversed(OPTIONS.items()):
        option = click.option(
            f"--{name}", type=kind, metavar=metavar or None, help=help_text, expose_value=False, callback=gather
        )
        command = option(command)
    return click.pass_obj(command)
