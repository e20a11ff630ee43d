"""`smidgen compare A B`: whether B is better than A at what both were asked, item by item."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from smidgen.journey.comparison import ModelComparison, TaskComparison

_COLUMNS = ["task", "A", "B", "B - A [95%]", "items", "p", "shown"]


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--task", "tasks", multiple=True, metavar="NAME", help="Compare this task alone; may be given several times."
)
@click.option("--metric", metavar="NAME", help="Another metric than the task's own: accuracy, normalized, ...")
@click.option("--seed", type=int, default=0, help="Of the bootstrap. Default: 0.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(first: str, second: str, tasks: tuple[str, ...], metric: str | None, seed: int, as_json: bool) -> None:
    """Compare two models that were evaluated, on the very items both were asked.

    A and B are runs, model directories, adapters, .gguf files or pulled names. A difference is called one only if its
    95% interval leaves out 0 (paired bootstrap over items) and the items where they differ lean to one side (exact
    sign test).
    """
    from smidgen.journey.comparison import compare_models

    compared = compare_models(first, second, tasks, metric, seed)
    if as_json:
        click.echo(json.dumps(compared.as_dict()))
        return
    click.echo(f"A  {first}\nB  {second}")
    rows = [_COLUMNS, *(_row(task) for task in compared.tasks)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for line in _sentences(compared):
        click.echo(line)


def _row(task: "TaskComparison") -> list[str]:
    found, score = task.found, task.score
    return [
        score.name.replace("bits_per_byte:", "bits: ") + ("*" if task.unequal or task.part else ""),
        score.told(task.shown(found.theirs)),
        score.told(task.shown(found.ours)),
        f"{_signed(task, found.difference.value)} [{_signed(task, found.difference.low)}, "
        f"{_signed(task, found.difference.high)}]",
        f"{found.difference.n:,}",
        f"{found.p:.2g}" if found.p >= 1e-4 else "<.0001",
        task.verdict("A", "B").replace("no difference shown", "no"),
    ]


def _signed(task: "TaskComparison", value: float) -> str:
    """Return a difference: of shares in points of a hundred."""
    is_share = task.score.told(task.score.value).endswith("%")
    return f"{100 * value:+.1f}" if is_share else f"{value:+.3f}"


def _sentences(compared: "ModelComparison") -> list[str]:
    told, metrics = [], dict[str, list[str]]()
    if compared.mean is not None:
        value, low, high = (100 * one for one in (compared.mean.value, compared.mean.low, compared.mean.high))
        shown = "no difference shown" if low <= 0 <= high else "B better" if value > 0 else "A better"
        told.append(f"Mean over tasks, B - A: {value:+.1f} points [{low:+.1f}, {high:+.1f}]: {shown}.")
    for task in compared.tasks:
        metrics.setdefault(task.score.metric.replace("_", " "), []).append(task.score.name)
    told.append("Metrics: " + "; ".join(f"{metric} ({', '.join(names)})" for metric, names in metrics.items()) + ".")
    if any(task.unit == "nats" for task in compared.tasks):
        told.append("The difference of perplexities is in nats: of their logarithms.")
    told.append("p is of the exact sign test over the items at which one did better than the other.")
    told += [
        f"No difference shown at {task.score.name}: {task.found.why}." for task in compared.tasks if _is_close(task)
    ]
    parts = [f"{task.score.name} {task.part}" for task in compared.tasks if task.part]
    unequal = {task.score.name: task.unequal for task in compared.tasks if task.unequal}
    told += [f"* Not asked the same items, {why}: {names}." for why, names in _by_reason(unequal)]
    told += [f"* A part of the set only, which says little of the rest: {', '.join(parts)}."] * bool(parts)
    told += [f"Not compared, {why}: {names}." for why, names in _by_reason(compared.left_out)]
    return told + list(compared.notes)


def _by_reason(reasons: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return every reason with the tasks it holds for."""
    tasks: dict[str, list[str]] = {}
    for name, why in reasons.items():
        tasks.setdefault(why, []).append(name)
    return [(why, ", ".join(names)) for why, names in tasks.items()]


def _is_close(task: "TaskComparison") -> bool:
    """Whether one of the two tests alone would have called it a difference: then it is said why it is none."""
    inside = task.found.difference.low <= 0 <= task.found.difference.high
    return task.found.verdict == "no difference shown" and (not inside or task.found.p < 0.05)
