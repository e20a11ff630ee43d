"""Two evaluated models beside each other: their kept item scores paired, task by task, and what that shows.

Nothing is evaluated here. What cannot be compared (other items, another version of a task) is said and left out, never
compared all the same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smidgen.errors import ConfigError, RunError
from smidgen.evaluation.choices import LARGEST_NATS
from smidgen.evaluation.intervals import Estimate
from smidgen.evaluation.versus import Comparison, Item, Paired, compare_means, compare_scores, pair_items, withstands
from smidgen.journey.standing import find_evals
from smidgen.reports.standing import EvalFiles, Score, Standing, is_adapter, read_items, read_standing

_WAYS_TOLD = 4
"""Differences of protocols that are told one by one."""


@dataclass(frozen=True)
class TaskComparison:
    """One task both were asked."""

    score: Score
    """As the second did; names the task and its metric."""
    paired: Paired
    found: Comparison
    """Of the second against the first."""
    unequal: str
    """How the items they were asked differ; empty where they are the same."""
    part: str
    """How many of how many were asked; empty where that is all of them."""
    ways: tuple[str, ...] = ()
    """How the ways they were asked in differ; empty where they are the same."""

    def verdict(self, first: str, second: str) -> str:
        """Return the verdict by name."""
        return {"better": f"{second} better", "worse": f"{first} better"}.get(self.found.verdict, self.found.verdict)

    @property
    def unit(self) -> str:
        """What the difference is counted in: of perplexities, the nats whose mean they are the exponential of."""
        return "nats" if self.score.metric == "perplexity" else self.score.metric

    def shown(self, mean: float) -> float:
        """Return the metric from the mean over items."""
        return math.exp(min(mean, LARGEST_NATS)) if self.score.metric == "perplexity" else mean

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        found, paired = self.found, self.paired
        return {
            "task": self.score.name,
            "version": self.score.version,
            "metric": self.score.metric,
            "a": self.shown(found.theirs),
            "b": self.shown(found.ours),
            "difference": found.difference.as_dict(),
            "difference_in": self.unit,
            "b_wins": found.wins,
            "a_wins": found.losses,
            "p": found.p,
            "verdict": self.verdict("A", "B"),
            "why": found.why,
            "only_a": paired.only_theirs,
            "only_b": paired.only_ours,
            "changed": paired.changed,
            "part": self.part,
            "asked_differently": list(self.ways),
        }


@dataclass(frozen=True)
class ModelComparison:
    """Two models, every task both were asked."""

    first: str
    second: str
    tasks: tuple[TaskComparison, ...]
    mean: Estimate | None
    """Mean over tasks of second - first, for the metrics of which more is better; None for fewer than two."""
    left_out: Mapping[str, str]
    """The tasks that were not compared, and why."""
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "a": self.first,
            "b": self.second,
            "tasks": [task.as_dict() for task in self.tasks],
            "mean": self.mean.as_dict() if self.mean else None,
            "left_out": dict(self.left_out),
            "notes": list(self.notes),
        }


def compare_models(
    first: str, second: str, tasks: Sequence[str] = (), metric: str | None = None, seed: int = 0
) -> ModelComparison:
    """Compare what was kept of two models' evaluations; `tasks` and `metric` narrow it down.

    Raises RunError if one was never evaluated, if its files are damaged, or if nothing of them can be compared.
    """
    sides = [(source, find_evals(source)) for source in (first, second)]
    (files_a, a), (files_b, b) = ((files, _standing(source, files)) for source, files in sides)
    known = [score.name for score in (*a.scores, *b.scores)]
    if unknown := [name for name in tasks if name not in known]:
        raise ConfigError(f"task {unknown[0]}: neither model was asked it. They were asked: {_listed(known)}.")
    left_out, compared = dict[str, str](), list[TaskComparison]()
    for score in b.scores:
        other = a.find(score.name)
        if tasks and score.name not in tasks:
            continue
        why = _incomparable(other, score, metric)
        if why is None and other is not None:
            paired, why = _pair(files_a, other, files_b, score, metric)
            if paired is not None and why is None:
                compared.append(_compare(other, score, paired, metric, seed))
        if why is not None:
            left_out[score.name] = why
    only = [s.name for s in a.scores if b.find(s.name) is None and (not tasks or s.name in tasks)]
    left_out |= dict.fromkeys(only, "only A was asked")
    if not compared:
        told = "; ".join(f"{name}: {why}" for name, why in list(left_out.items())[:3])
        raise RunError(f"{first} and {second} cannot be compared: {told}.")
    return ModelComparison(first, second, tuple(compared), _mean(compared, seed), left_out, _notes(a, b, compared))


def _standing(source: str, files: EvalFiles) -> Standing:
    standing = read_standing(files)
    if standing is None or not standing.scores:
        named = f"BASE --adapter {source}" if is_adapter(files.file.parent) else source
        raise RunError(f"{source}: was never evaluated. Do that first: smidgen eval {named} --suite --data DIR")
    return standing


def _incomparable(a: Score | None, b: Score, metric: str | None) -> str | None:
    """Return why two scores of one task may not be compared, before their items are read."""
    if a is None:
        return "only B was asked"
    if a.version != b.version:
        return f"A was asked version {a.version}, B version {b.version}"
    if metric is None and a.metric != b.metric:
        return f"A was scored by {a.metric}, B by {b.metric}"
    return None


def _pair(
    files_a: EvalFiles, a: Score, files_b: EvalFiles, b: Score, metric: str | None
) -> tuple[Paired | None, str | None]:
    """Return the items both were asked, and why they may not be compared if so."""
    theirs, ours = _items(files_a, a, metric), _items(files_b, b, metric)
    if isinstance(theirs, str) or isinstance(ours, str):
        return None, theirs if isinstance(theirs, str) else str(ours)
    paired = pair_items(ours, theirs)
    if paired.ids:
        return paired, None
    if paired.changed:
        return (
            paired,
            f"the same {paired.changed:,} names stand for other items in each (other data, or another prompt)",
        )
    return paired, f"A and B were asked {a.n:,} and {b.n:,} items, none of them the same"


def _items(files: EvalFiles, score: Score, metric: str | None) -> dict[str, Item] | str:
    """Return the items by name, or why there are none by that metric."""
    rows, items = read_items(files, score), {}
    for row in rows:
        value = row["score"] if metric in (None, score.metric) else (row.get("scores") or {}).get(metric)
        if value is None:
            return f"{metric} was not kept of its items, but {_listed([score.metric, *(row.get('scores') or {})])}"
        items[row["id"]] = Item(float(value), str(row.get("hash") or ""), float(row.get("weight") or 1.0))
    return items


def _compare(a: Score, b: Score, paired: Paired, metric: str | None, seed: int) -> TaskComparison:
    score = b if metric is None else b.measured_by(metric)
    parts = [f"A alone {paired.only_theirs:,}"] * (paired.only_theirs > 0)
    parts += [f"B alone {paired.only_ours:,}"] * (paired.only_ours > 0)
    parts += [f"{paired.changed:,} are other strings under one name"] * (paired.changed > 0)
    unequal = f"compared on the {len(paired.ids):,} both were asked ({', '.join(parts)})" if parts else ""
    asked = a.asked() if a.asked() == b.asked() else f"A {a.asked()}, B {b.asked()}"
    found = compare_scores(paired.ours, paired.theirs, seed, lower_is_better=score.is_lower_better)
    keys = dict.fromkeys([*a.protocol, *b.protocol])
    differing = [key for key in keys if a.protocol.get(key) != b.protocol.get(key)]
    ways = tuple(f"{key}: A {a.protocol.get(key)}, B {b.protocol.get(key)}" for key in differing)
    return TaskComparison(score, paired, found, unequal, asked if a.is_part or b.is_part else "", ways)


def _mean(compared: Sequence[TaskComparison], seed: int) -> Estimate | None:
    rows = [task for task in compared if not task.score.is_lower_better and abs(task.score.value) <= 1]
    return compare_means([(task.paired.ours, task.paired.theirs) for task in rows], seed) if len(rows) > 1 else None


def _notes(a: Standing, b: Standing, compared: Sequence[TaskComparison]) -> tuple[str, ...]:
    """Say what limits the conclusions."""
    notes = []
    if a.model == b.model:
        notes.append("A and B have the same weights.")
    ways: dict[str, list[str]] = {}
    for task in compared:
        for way in task.ways:
            ways.setdefault(way, []).append(task.score.name)
    if ways:
        where = {way: "" if len(names) == len(compared) else f" at {_listed(names)}" for way, names in ways.items()}
        told = "; ".join(f"{way}{at}" for way, at in list(where.items())[:_WAYS_TOLD])
        more = f"; and {len(ways) - _WAYS_TOLD} more" if len(ways) > _WAYS_TOLD else ""
        notes.append(f"They were asked in different ways ({told}{more}).")
    shown = [task for task in compared if task.found.verdict != "no difference shown"]
    if len(compared) > 1 and shown:
        kept = withstands([task.found.p for task in compared])
        still = sum(keep and task in shown for keep, task in zip(kept, compared, strict=True))
        stand = f"{still} of the {len(shown)} differences stand" if len(shown) > 1 else "the difference stands" * still
        notes.append(
            f"{len(compared)} comparisons at 95%: chance alone shows a difference in one of twenty. Taken together "
            f"(Holm), {stand or 'the difference does not stand'}."
        )
    return tuple(notes)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))
