"""One evaluation as a table for a terminal or a file: a line for each task, what has to be known below."""

from collections.abc import Mapping, Sequence
from typing import Any

from smidgen.reports.quantities import count, duration, number, share, size

_COLUMNS = ("task", "version", "metric", "score", "95% interval", "chance", "corrected", "items", "beside it")
_TO_THE_LEFT = {0, 2, 8}
_LENIENT_PASS = "lenient pass@"
_LARGE = 1e9
"""From here on a number says more by its exponent: the perplexity of an untrained model."""
_NO_SHARES = frozenset({"bits_per_byte", "perplexity"})


def evaluation_lines(record: Mapping[str, Any], skipped: Sequence[tuple[str, str]] = ()) -> list[str]:
    """Return the table of an entry of `evals.json`, its notes, what was not asked, and how all of it was asked."""
    tasks = record["tasks"]
    rows = [_COLUMNS, *(_row(task) for task in tasks)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = [_aligned(row, widths) for row in rows]
    lines += [f"{task['name']}: {note}." for task in tasks for note in _notes(task)]
    lines += [f"not asked: {name}: {reason}" for name, reason in skipped]
    lines += [f"a part (--limit): {told}." for told in _parts(tasks)]
    if clean := [task["name"] for task in tasks if task.get("contamination") and not task["contamination"]["touched"]]:
        where = next(task["contamination"]["in"] for task in tasks if task.get("contamination"))
        lines.append(f"no item was found in {where} of {', '.join(clean)}.")
    return [*lines, *_protocol(record)]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (
        text.ljust(width) if column in _TO_THE_LEFT else text.rjust(width)
        for column, (text, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(cells).rstrip()


def _row(task: Mapping[str, Any]) -> tuple[str, ...]:
    metric = task["metric"]
    low, high = (_told(metric, task.get(key)) for key in ("low", "high"))
    return (
        task["name"],
        str(task["version"]),
        metric.replace("_", " "),
        _told(metric, task["value"]),
        f"[{low}, {high}]" if task.get("low") is not None else "",
        "" if task["chance"] is None else share(task["chance"]),
        "" if task["corrected"] is None else number(task["corrected"], 3),
        _asked(task),
        _beside(task),
    )


def _told(metric: str, value: float | None) -> str:
    if value is None:
        return ""
    if metric == "bits_per_byte":
        return f"{value:.4f}"
    return _plain(value) if metric in _NO_SHARES else share(value)


def _plain(value: float) -> str:
    return number(value, 4) if abs(value) < _LARGE else f"{value:.3e}"


def _asked(task: Mapping[str, Any]) -> str:
    of = task.get("of")
    return f"{task['n']:,} of {of:,}" if of is not None and task["n"] < of else f"{task['n']:,}"


def _beside(task: Mapping[str, Any]) -> str:
    """Return the other metrics, shortly."""
    if task["metric"] == "bits_per_byte":
        return _counted(task["metrics"]["bytes"], "byte")
    told = []
    for name, found in task["metrics"].items():
        if name == task["metric"] or name.startswith(_LENIENT_PASS):
            continue
        value = found["value"]
        in_percent = name not in _NO_SHARES and "how" not in found
        leniently = task["metrics"].get(f"lenient {name}")
        also = f" (lenient {share(leniently['value'])})" if leniently else ""
        told.append(f"{name} {share(value) if in_percent else _plain(value)}{also}")
    if task.get("majority"):
        told.append(f"majority {share(task['majority'])}")
    if "mean_of_kinds" in task:
        told.append(f"mean of {len(task['kinds'])} kinds {share(task['mean_of_kinds'])}")
    return ", ".join(told)


def _notes(task: Mapping[str, Any]) -> list[str]:
    """Say what limits a number: the part asked, what did not fit, what was found in training text."""
    notes = []
    of = task.get("of")
    if of is not None and task.get("rows", of) < of:
        notes.append(f"the files hold {task['rows']:,} of the {of:,} published items")
    notes += task.get("notes", [])
    if task.get("cut"):
        notes.append(f"{_items(task['cut'])} did not fit the context and lost the beginning")
    if task.get("unfit"):
        treated = "counted as wrong" if task["metric"] == "strict" else "left out"
        notes.append(f"{_items(task['unfit'])} did not fit the context: {treated}")
    if task.get("unended"):
        notes.append(f"answers without an end at {task['options']['max_symbols']:,} symbols: {task['unended']:,}")
    if task.get("contamination") and task["contamination"]["touched"]:
        notes.append(_exposed(task))
    return notes


def _items(n: int) -> str:
    return _counted(n, "item")


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def _parts(tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which items a limit has left of each set: the first, or of a set of several kinds the first of each."""
    asked: dict[str, list[str]] = {}
    for task in tasks:
        if task.get("limit") and task["n"] + task.get("unfit", 0) * _is_choice(task) < task.get("rows", 0):
            of_each = ", of each of its kinds as many" if _is_choice(task) and task.get("kinds") else ""
            asked.setdefault(f"the first {task['limit']:,} items{of_each}", []).append(task["name"])
    return [f"{told}: {', '.join(names)}" for told, names in asked.items()]


def _is_choice(task: Mapping[str, Any]) -> bool:
    """Whether candidates were compared: then kinds are asked evenly, and what does not fit is left out of `n`."""
    return task["metric"] != "strict"


def _exposed(task: Mapping[str, Any]) -> str:
    found = task["contamination"]
    scores = [
        f"{_told(task['metric'], found[key]['value'])} {word}"
        for key, word in (("score_touched", "on those"), ("score_clean", "without them"))
        if found[key]
    ]
    some = f"found in {found['in']}: {_items(found['touched'])} ({share(found['share'])}), {found['whole']:,} whole"
    return f"{some}; score {', '.join(scores)}"


def _prompts(record: Mapping[str, Any]) -> str:
    """Say whose prompts were asked: the harness's, and by name of which tasks not."""
    harness = record["protocol"]["prompts"]
    asked = [task for task in record["tasks"] if task["metric"] != "bits_per_byte"]
    own = [task for task in asked if "prompts" in task]
    if not own:
        return harness
    (whose,) = {task["prompts"] for task in own}
    return whose if own == asked else f"{harness} ({', '.join(task['name'] for task in own)}: of {whose})"


def _protocol(record: Mapping[str, Any]) -> list[str]:
    """Say how everything was asked, in a line, and what it took."""
    said, lines = record["protocol"], []
    texts = [task for task in record["tasks"] if task["metric"] == "bits_per_byte"]
    for task in texts:
        windows = task["metrics"]["protocol"]
        own = f"context {windows['context']}, stride {windows['stride']}, {task['protocol']['precision']}"
        own += f", each of {_counted(task['n'], 'document')} alone"
        lines.append(f"protocol: {task['name']}: {own}; an interval is over documents.")
    if said:
        begins = "nothing" if said["begins_with"] is None else f"symbol {said['begins_with']}"
        parts = [
            f"prompts of {_prompts(record)}",
            f"context {said['context']}",
            said["precision"],
            f"{begins} before a text, symbol {said['empty_context']} for an empty context",
            "answers decoded greedily",
        ]
        if "sampled" in said:
            drawn = said["sampled"]
            how = f"temperature {drawn['temperature']}, top_p {drawn['top_p']}, seed {drawn['seed']}"
            parts.append(f"{drawn['n']} more sampled for pass@k ({how})")
        lines.append(f"protocol: {', '.join(parts)}.")
    weights = f"{count(record['parameters'])} parameters, {size(record['file_bytes'])}"
    lines.append(f"model {record['model']}: {weights}; {duration(record['seconds'])}.")
    return lines
