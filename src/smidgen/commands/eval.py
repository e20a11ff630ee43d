"""`smidgen eval MODEL [TEXT]`: what a model costs per byte of text it has not seen, and what it answers."""

import json
from pathlib import Path

import click


@click.command()
@click.argument("model")
@click.argument("text", required=False, type=click.Path(path_type=Path))
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="Ask the questions of a task, too: village.")
@click.option("--limit", type=click.IntRange(min=1), default=500, help="Most questions of a task. Default: 500.")
@click.option("--max-bytes", type=click.IntRange(min=1), default=1_000_000, help="Most text scored. Default: 1000000.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps. Default: the fastest one here.")
def command(
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
    from smidgen.journey.assess import assess

    results = assess(model, text, tasks, limit, max_bytes, device)
    if as_json:
        click.echo(json.dumps(results))
        return
    measured = results["validation"]
    protocol = measured["protocol"]
    error = f" ± {measured['standard_error']:.3f}" if measured["standard_error"] else ""
    click.echo(f"bits per byte   {measured['bits_per_byte']:.4f}{error} (standard error)")
    click.echo(f"on              {measured['bytes']:,} bytes of {results['text']}, {measured['documents']:,} documents")
    click.echo(f"protocol        context {protocol['context']}, stride {protocol['stride']}, each document alone")
    for task in results["tasks"]:
        click.echo(
            f"{task['name']:<16}{task['strict']['value']:.1%} exact, {task['lenient']['value']:.1%} lenient, "
            f"chance {task['chance']:.1%}, majority {task['majority']:.1%}, {task['n']} questions"
        )
