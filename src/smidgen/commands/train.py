"""`smidgen train`: text, recipe or run in; model, figures and report out."""

import time
from pathlib import Path
from typing import Any

import click

from smidgen.commands.dials import dial_options


@click.command()
@click.argument("arguments", nargs=-1, metavar="[TEXT | RECIPE.toml | RUN | MODEL TEXT] [KEY=VALUE]...")
@dial_options
@click.option("--steps", type=click.IntRange(min=1), help="Optimizer steps, instead of a time.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs"), help="Where run directories are.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps. Default: the fastest one here.")
def command(
    dials: dict[str, Any], arguments: tuple[str, ...], steps: int | None, out: Path, device: str | None
) -> None:
    """Train a model on a file or folder of text; without one, on the embedded village.

    A recipe (.toml) decides everything by itself; KEY=VALUE changes one key of it, as in train.seq_len=256. A run that
    was stopped goes on. MODEL TEXT trains a model that exists (a run, a directory, a pulled name) on a text.
    """
    started = time.monotonic()
    from smidgen.journey.stopping import stop_quietly

    with stop_quietly(click.echo, lambda: "Stopped before anything was begun. The same command begins again."):
        from smidgen.journey.clock import Clock
        from smidgen.journey.request import read_request
        from smidgen.journey.screen import Screen
        from smidgen.journey.train import train

        request = read_request(arguments, {**dials, "steps": steps}, out, device)
        train(request, Screen(), Clock(request.total_seconds, started))
