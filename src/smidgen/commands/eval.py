"""`smidgen eval MODEL [TEXT]`: what a model costs per byte of text it has not seen, and what it answers."""

import json
from pathlib import Path
from typing import Any

import click

from smidgen.commands.grouping import gather


@click.command()
@click.argument("model")
@click.argument("text", required=False, type=click.Path(path_type=Path))
@click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="NAME",
    help="Ask the questions of a task, too: village, arithmetic:easy, gsm8k, mine.jsonl, mine.py (docs/tasks.md).",
)
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(path_type=Path),
    expose_value=False,
    callback=gather,
    help="Folder of the tasks' local files.",
)
@click.option(
    "--adapter",
    metavar="ADAPTER",
    expose_value=False,
    callback=gather,
    help="A directory or an adapter string, applied to the model.",
)
@click.option("--limit", type=click.IntRange(min=1), default=500, help="Most questions of a task. Default: 500.")
@click.option("--max-bytes", type=click.IntRange(min=1), default=1_000_000, help="Most text scored. Default: 1000000.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps. Default: the fastest one here.")
@click.pass_obj
def command(
    beside: dict[str, Any] | None,
    model: str,
    text: Path | None,
    tasks: tuple[str, ...],
    limit: int,
    max_bytes: int,
    as_json: bool,
    device: str | None,
) -> None:
    """Measure bits per byte on TEXT, or on the held-out text of a run, and ask the questions of tasks.

    MODEL is a run, a model directory, a .gguf file or a pulled name.
    """
    from smidgen.journey.assess import Asked, assess

    results = assess(Asked(model, text, tasks, limit, max_bytes, **(beside or {})), device)
    if as_json:
        click.echo(json.dumps(results))
        return
    if results["validation"]:
        _show_bits_per_byte(results["validation"], results["text"])
    for task in results["tasks"]:
        strict, lenient, form = (task[name]["value"] for name in ("strict", "lenient", "format"))
        interval = f"[{task['strict']['low']:.1%}, {task['strict']['high']:.1%}]"
        click.echo(
            f"{task['name']:<15} {strict:.1%} strict {interval}, {lenient:.1%} lenient, {form:.1%} in the asked form, "
            f"chance {task['chance']:.1%}, majority {task['majority']:.1%}, {task['n']} questions"
        )


def _show_bits_per_byte(measured: dict[str, Any], text: str) -> None:
    protocol = measured["protocol"]
    error = f" ± {measured['standard_error']:.3f}" if measured["standard_error"] else ""
    click.echo(f"bits per byte   {measured['bits_per_byte']:.4f}{error} (standard error)")
    click.echo(f"on              {measured['bytes']:,} bytes of {text}, {measured['documents']:,} documents")
    click.echo(f"protocol        context {protocol['context']}, stride {protocol['stride']}, each document alone")
