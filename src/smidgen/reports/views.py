"""What a report says, section by section, as plain values for the template: no HTML and no files here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from smidgen.reports.quantities import count, duration, number, share, size
from smidgen.reports.records import Record, RunRecord, as_rows, as_table, plain


@dataclass(frozen=True)
class Tile:
    """One headline number."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """One planned quantity beside what happened."""

    name: str
    planned: str
    happened: str
    difference: str
    within: bool | None
    """Whether it came out as planned or better; None where nothing can be said."""


@dataclass(frozen=True)
class SampleTrail:
    """One prompt and what the model made of it at successive steps, the newest first."""

    prompt: str
    temperature: str
    texts: tuple[tuple[int, str], ...]


_QUANTITIES: tuple[tuple[str, str, Callable[[float], str], float], ...] = (
    ("bits_per_byte", "Validation bits per byte", lambda value: number(value, 4), 0.03),
    ("seconds", "Time, from start to report", duration, 0.05),
    ("tokens", "Tokens trained on", count, 0.10),
    ("epochs", "Passes over the data", number, 0.10),
    ("memory_bytes", "Peak memory", size, 0.10),
    ("file_bytes", "File to ship", size, 0.02),
)
"""Key, name, form, and the share by which a result may be worse than planned and still count as planned."""


def status(run: RunRecord) -> str:
    """Say in one sentence how far the run came."""
    if run.final is not None and run.final.get("finished", True):
        seconds = run.figure("seconds")
        return f"Finished in {duration(seconds)} of training." if seconds else "Finished."
    done = run.last("train", "share")
    if done is None:
        return "Not trained yet: no step has been logged."
    return f"Unfinished: {share(done)} of the budget is used, step {run.last('train', 'step'):,}."


def tiles(run: RunRecord) -> list[Tile]:
    """Return the headline numbers that are known."""
    found = [_quality(run), *_scores(run)]
    parameters = run.figure("parameters") or run.part("model").get("parameters")
    file_bytes = run.figure("file_bytes")
    if parameters:
        found.append(Tile("parameters", count(parameters), f"{size(file_bytes)} file" if file_bytes else ""))
    tokens = run.figure("tokens", "symbols")
    if tokens:
        epochs = run.figure("epochs")
        found.append(
            Tile("tokens trained on", count(tokens), f"{number(epochs)} passes over the data" if epochs else "")
        )
    seconds = run.figure("seconds")
    if seconds:
        speed = run.figure("tokens_per_second")
        found.append(Tile("training time", duration(seconds), f"{count(speed)} tokens a second" if speed else ""))
    return [tile for tile in found if tile is not None]


def _quality(run: RunRecord) -> Tile | None:
    measured = run.validation()
    if measured.get("bits_per_byte") is None:
        return None
    error = measured.get("standard_error")
    note = f"± {number(1.96 * error, 2)} (95%), held-out text" if error else "held-out text"
    return Tile("bits per byte", number(measured["bits_per_byte"], 4), note)


def _scores(run: RunRecord) -> list[Tile]:
    tasks = as_rows((run.final or {}).get("tasks"))
    return [
        Tile(f"exact answers, {task.get('name', 'task')}", share(task["strict"]["value"]), _beside(task))
        for task in tasks[:2]
        if as_table(task.get("strict")).get("value") is not None
    ]


def _beside(task: Record) -> str:
    told = [f"{name} {share(task[name])}" for name in ("chance", "majority") if task.get(name) is not None]
    return ", ".join(told)


def comparisons(run: RunRecord) -> list[Comparison]:
    """Return every planned quantity beside what happened."""
    expected = as_table(run.part("plan").get("expected"))
    happened: dict[str, Any] = {key: run.figure(key) for key, *_ in _QUANTITIES}
    happened["bits_per_byte"] = run.validation().get("bits_per_byte")
    happened["tokens"] = run.figure("tokens", "symbols")
    # A plan is for the whole journey; an unfinished run only knows its training so far.
    happened["seconds"] = run.figure("total_seconds") or happened["seconds"]
    return [
        _compare(name, float(expected[key]), happened[key], form, tolerance)
        for key, name, form, tolerance in _QUANTITIES
        if expected.get(key)  # endless data has no passes to plan: 0
    ]


def _compare(
    name: str, planned: float, happened: float | None, form: Callable[[float], str], tolerance: float
) -> Comparison:
    if happened is None:
        return Comparison(name, form(planned), "not measured", "", None)
    relative = happened / planned - 1 if planned else 0.0
    # More tokens than planned is no failure; of everything else less is better.
    worse = -relative if name.startswith(("Tokens", "Passes")) else relative
    change = "as planned" if abs(relative) < 5e-4 else f"{100 * relative:+.1f}%"
    return Comparison(name, form(planned), form(happened), change, worse <= tolerance)


def decisions(run: RunRecord) -> list[Record]:
    """Return what the plan decided, each with its rule and source."""
    return [row | {"value": plain(row.get("value"))} for row in map(dict, as_rows(run.part("plan").get("decisions")))]


def findings(run: RunRecord) -> list[Record]:
    """Return the health findings, worst first."""
    health = as_table((run.final or {}).get("health"))
    order = ["bad", "watch", "good", "unknown"]
    rows = as_rows(health.get("findings"))
    return sorted(rows, key=lambda row: order.index(row["verdict"]) if row.get("verdict") in order else len(order))


def sample_trails(run: RunRecord, most_steps: int = 6) -> list[SampleTrail]:
    """Return samples by prompt: the first and last step and evenly chosen ones between."""
    by_prompt: dict[str, dict[Any, Record]] = {}
    for record in run.samples:
        # The last step is sampled twice, in training and from the file that ships: the later one stays.
        by_prompt.setdefault(str(record.get("prompt") or ""), {})[record.get("step")] = record
    trails = []
    for prompt, by_step in by_prompt.items():
        records = list(by_step.values())
        wanted = min(most_steps, len(records))
        chosen = {round(i * (len(records) - 1) / max(1, wanted - 1)) for i in range(wanted)} | {len(records) - 1}
        texts = [(int(records[i].get("step") or 0), _continuation(prompt, records[i])) for i in sorted(chosen)]
        temperature = records[-1].get("temperature")
        trails.append(SampleTrail(prompt, plain(temperature) if temperature is not None else "", tuple(texts[::-1])))
    return trails


def _continuation(prompt: str, record: Record) -> str:
    """Return what the model wrote; some writers store the prompt in front of it."""
    text = str(record.get("text") or "")
    return text.removeprefix(prompt) if prompt else text


def notes(run: RunRecord) -> list[tuple[str, str]]:
    """Return what happened on the way: spikes, rollbacks, repeats, decisions, and at which step."""
    return [(f"{int(r.get('step') or 0):,}", str(r.get("text") or "")) for r in run.of_kind("note")]


def facts(run: RunRecord) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the tables of flat facts: data, model, validation protocol, machine, versions."""
    protocol = as_table(run.validation().get("protocol"))
    validation = {
        key: run.validation().get(key) for key in ("documents", "bytes", "symbols", "bits_per_byte_with_marks")
    }
    code = dict(run.part("versions")) | {
        "commit": run.resolved.get("git_commit"),
        "started": run.resolved.get("started"),
    }
    tables = {
        "Data": run.part("data"),
        "Model": run.part("model"),
        "How bits per byte was measured": {**protocol, **validation},
        "Machine": run.part("hardware"),
        "Versions": code,
    }
    rows = {title: _flat(table) for title, table in tables.items()}
    return [(title, table) for title, table in rows.items() if table]


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in table.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            rows += _flat(value, f"{name} › ")
        elif value is not None:
            is_size = isinstance(value, int | float) and not isinstance(value, bool) and key.endswith("bytes")
            rows.append((name, f"{size(value)} ({plain(value)})" if is_size and value >= 1000 else plain(value)))
    return rows
