"""Options of how to sample, for every verb that generates. Gathered in the context's object, so that a verb takes one
argument for all of them and the values are checked once, by `SamplingParams`."""

from collections.abc import Callable
from typing import Any

import click

from smidgen.commands.grouping import gather

OPTIONS: dict[str, tuple[type, str]] = {
    "temperature": (float, "0 takes the likeliest symbol, 1 samples as learned, more is wilder"),
    "top-k": (int, "Choose among the K likeliest symbols"),
    "top-p": (float, "Choose among the likeliest symbols that make up this probability"),
    "min-p": (float, "Drop symbols below this share of the likeliest one's probability"),
    "repetition-penalty": (float, "Above 1, make symbols that were used less likely"),
    "exit-confidence": (float, "Leave the model where some symbol is at least this probable; needs trained exits"),
    "max-symbols": (int, "Most symbols to generate"),
    "seed": (int, "Decides every draw; the same seed gives the same text"),
}


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `OPTIONS` and --stop; what was given arrives as the context's object, a dictionary."""
    stop = click.option(
        "--stop",
        multiple=True,
        metavar="TEXT",
        expose_value=False,
        callback=gather,
        help="End where this text appears",
    )
    command = stop(command)
    for name, (kind, help_text) in reversed(OPTIONS.items()):
        option = click.option(f"--{name}", type=kind, expose_value=False, callback=gather, help=help_text)
        command = option(command)
    return click.pass_obj(command)
