"""`smidgen data`: messy files to token shards by a pipeline file."""

import os
import time
from pathlib import Path

import click


@click.group()
def command() -> None:
    """Turn messy text into training data."""


@command.command()
@click.argument("pipeline", type=click.Path(path_type=Path), metavar="PIPELINE.toml")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Default: prepared/NAME.")
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=os.cpu_count() or 1,
    help="Default: one for each core. 0: in this process.",
)
@click.option("--ray", metavar="ADDRESS", help="Run on a Ray cluster (auto, or ray://HOST:10001); it must see DIR too.")
@click.option("--memory", metavar="SIZE", help="What this machine may use, such as 4GB. Default: what is free.")
def prepare(
    pipeline: Path, overrides: tuple[str, ...], out: Path | None, workers: int, ray: str | None, memory: str | None
) -> None:
    """Clean, deduplicate, mix and encode the sources of PIPELINE.toml; `smidgen train DIR` then trains on the result.

    Every step counts what it drops and why: see DIR/data_report.html. A run that was stopped goes on where it was, and
    the result is the same to the byte. What needs more memory or disk than there is, is refused before it begins.
    """
    from smidgen.data.pipeline.conduct import Telling, prepare_pipeline
    from smidgen.data.pipeline.definition import load_pipeline
    from smidgen.data.pipeline.engine import Engine
    from smidgen.journey.screen import Screen
    from smidgen.planning.units import parse_memory
    from smidgen.reports.data_report import data_heading, flow_of, render_data_report
    from smidgen.reports.quantities import duration, size
    from smidgen.runs import atomic_write

    engine = Engine(workers, ray, parse_memory(memory) if memory else None)
    screen, begun = Screen(), time.monotonic()
    stages: dict[str, float] = {}

    def progress(name: str, done: int, total: int) -> None:
        began = stages.setdefault(name, time.monotonic())
        screen.show_count(name, done, total, time.monotonic() - began)

    config = load_pipeline(pipeline, overrides)
    folder = out or Path("prepared") / config.name
    try:
        counts = prepare_pipeline(config, folder, engine, Telling(screen.say, progress))
    finally:
        screen.end_progress()
    rows = [[s.name, f"{s.documents:,}", size(s.bytes), s.lost] for s in flow_of(counts)]
    screen.show_table("", rows, ("step", "documents", "text", "dropped and cut"))
    screen.say(data_heading(counts))
    report = folder / "data_report.html"
    atomic_write(report, render_data_report(counts))
    screen.say(
        f"Wrote {folder} in {duration(time.monotonic() - begun)}; see {report}. Train on it: smidgen train {folder}"
    )


@command.command()
@click.argument("spec", type=click.Path(path_type=Path), metavar="SPEC.toml")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Default: synthetic/NAME.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps. Default: the fastest one here.")
def synthesize(spec: Path, overrides: tuple[str, ...], out: Path | None, device: str | None) -> None:
    """Have text written by templates, the village, a model or players of a game, as SPEC.toml says; leave copies out.

    `smidgen train` reads DIR; text may be a source of a pipeline, whose manifest tells how it was made. A run that was
    stopped goes on.
    """
    from smidgen.data.synthetic.make import UNFINISHED
    from smidgen.journey.screen import Screen
    from smidgen.journey.synthesis import synthesize as make

    screen, begun = Screen(), time.monotonic()
    try:
        folder, told = make(
            spec, overrides, out, device, lambda n, of: screen.show_count("writing", n, of, time.monotonic() - begun)
        )
    finally:
        screen.end_progress()
    counts = told["counts"]
    losses = ", ".join(f"{n:,} {reason}" for reason, n in counts["dropped"].items())
    screen.say(
        f"Kept {counts['kept']:,} of {counts['written']:,} documents written" + (f" ({losses})." if losses else ".")
    )
    if counts["dropped"].get(UNFINISHED, 0) > counts["kept"]:
        screen.say("Most had not ended when they were as long as may be: raise generator.max_symbols.")
    screen.say(f"Wrote {folder}. Train on it: smidgen train {folder}")
    if told["spec"]["generator"]["type"] != "games":  # a pipeline cleans text, not conversations
        screen.say(f'A pipeline reads it as a source: path = "{folder}"')
