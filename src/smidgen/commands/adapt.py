"""`smidgen adapt MODEL --task NAME`: a model that exists learns a task, measured before and after."""

import time
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("source", metavar="MODEL | RECIPE.toml | RUN")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--task", metavar="NAME", help="What to learn: arithmetic, countdown, mine.jsonl, mine.py, ...")
@click.option(
    "--adapter", metavar="KIND", help="tinylora:13, lora_xs:r=8, lora:r=8, ia3, bias, full. Default: tinylora:13."
)
@click.option("--by", metavar="WAY", help="rl, sft, dpo, spin or search. Default: rl.")
@click.option("--examples", type=click.Path(path_type=Path), help="File that sft, dpo or spin learns from.")
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the tasks' local files.")
@click.option("--time", metavar="TIME", help="For the whole command, measuring included: 15m, 1h.")
@click.option("--steps", type=click.IntRange(min=1), help="Optimizer steps, instead of a time.")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), help="Peak learning rate. Default: by the adapter.")
@click.option("--limit", type=click.IntRange(min=1), help="Most questions of the test. Default: all of it.")
@click.option("--seed", type=click.IntRange(min=0), help="Of every random draw. Default: 0.")
@click.option("--name", help="The run is runs/NAME. Default: after what it does.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs"), help="Where run directories are.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps. Default: the fastest one here.")
def command(source: str, overrides: tuple[str, ...], **options: Any) -> None:
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

    request = AdaptRequest(source, overrides, **options)
    adapt(request, Screen(), Clock(request.total_seconds, started))
