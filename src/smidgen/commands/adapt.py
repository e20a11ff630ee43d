"""`smidgen adapt MODEL --task NAME`: a model that exists learns a task, measured before and after."""

import time
from typing import Any

import click

from smidgen.commands.adapting import adapt_options


@click.command()
@click.argument("source", metavar="MODEL | RECIPE.toml | RUN")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@adapt_options
def command(options: dict[str, Any] | None, source: str, overrides: tuple[str, ...]) -> None:
    """Let MODEL learn a task, measured before and after on the same questions.

    MODEL is a run, a model directory, a .gguf file or a pulled name. The base, the base shown worked examples and the
    adapted model are asked the whole test set; the adapter is written as files and, if it is small, as a line of text
    that can be pasted anywhere. A run that was stopped goes on.
    """
    started = time.monotonic()
    from smidgen.adapting.conduct import adapt
    from smidgen.adapting.request import AdaptRequest
    from smidgen.journey.clock import Clock
    from smidgen.journey.screen import Screen

    request = AdaptRequest(source, overrides, **(options or {}))
    adapt(request, Screen(), Clock(request.total_seconds, started))
