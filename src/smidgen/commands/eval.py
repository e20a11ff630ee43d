"""`smidgen eval MODEL [TEXT]`: what a model costs per byte of text it has not seen, and what it answers."""

import json
from pathlib import Path
from typing import Any

import click

from smidgen.commands.grouping import gather

_OPTIONS: dict[str, tuple[Any, str, str]] = {
    "limit": (click.IntRange(min=1), "N", "Most items of each task; a part of a set says so. Default: all."),
    "samples": (
        click.IntRange(min=1),
        "K",
        "Sample K answers, too, to each question answered in text, for pass@1 to pass@K.",
    ),
    "data": (click.Path(path_type=Path), "DIR", "Folder of the sets: DIR/arc_easy/test.jsonl.gz (docs/evaluation.md)."),
    "contamination": (
        click.Path(path_type=Path),
        "TEXT",
        "A run, or a file or folder of text: look for every item in it, and score with and without those found.",
    ),
    "adapter": (str, "ADAPTER", "A directory or an adapter string, applied to the model."),
    "max-bytes": (click.IntRange(min=1), "N", "Most text scored. Default: 1000000."),
}


def _gathered(command: Any) -> Any:
    for name, (kind, metavar, help_text) in reversed(_OPTIONS.items()):
        command = click.option(
            f"--{name}", type=kind, metavar=metavar, help=help_text, expose_value=False, callback=gather
        )(command)
    return command


@click.command()
@click.argument("model")
@click.argument("text", required=False, type=click.Path(path_type=Path))
@click.option("--suite", is_flag=True, help="Ask the tiny suite: 14 sets with lm-eval's prompts, and three of our own.")
@click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="NAME",
    help="Ask this task alone: arc_easy, gsm8k, village, arithmetic:easy, mine.jsonl, mine.py (docs/tasks.md).",
)
@_gathered
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps. Default: the fastest one here.")
@click.pass_obj
def command(
    beside: dict[str, Any] | None,
    model: str,
    text: Path | None,
    suite: bool,
    tasks: tuple[str, ...],
    as_json: bool,
    device: str | None,
) -> None:
    """Measure bits per byte on TEXT, or on the held-out text of a run, and ask the suite or the questions of tasks.

    MODEL is a run, a model directory, a .gguf file or a pulled name. What is found is added to the evals.json beside
    the model. A command that was stopped goes on where it was.
    """
    from smidgen.journey.assess import Asked, assess
    from smidgen.journey.screen import Screen
    from smidgen.reports.eval_table import evaluation_lines

    found = assess(Asked(model, text, tasks, suite, **(beside or {})), device, Screen(stderr=True))
    if as_json:
        told = {"model": model, "text": found.text, "validation": found.validation, "skipped": dict(found.skipped)}
        told["kept"] = str(found.kept) if found.kept is not None else None
        rest = {key: value for key, value in found.record.items() if key != "model"}
        click.echo(json.dumps(told | rest | {"fingerprint": found.record["model"]}))
        return
    if found.validation is not None:
        bits, error = found.validation["bits_per_byte"], found.validation["standard_error"]
        spread = f" ± {error:.3f} (standard error)" if error else ""
        sizes = f"{found.validation['bytes']:,} bytes of {found.text}, {found.validation['documents']:,} documents"
        click.echo(f"bits per byte {bits:.4f}{spread} on {sizes}")
    for line in evaluation_lines(found.record, found.skipped):
        click.echo(line)
    if found.kept is not None:
        click.echo(f"added to {found.kept}")
