"""Choice tasks put to a model: which candidate it finds likeliest, with intervals, ties and chance told honestly.

What is measured is the harness's; what is added costs nothing: a tie among n candidates earns 1/n, since a model that
finds all alike knows nothing (a constant one has led a leaderboard where ties counted as right), and every score
stands beside what guessing would earn. Items whose text does not fit the context are counted.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from smidgen.errors import ConfigError, DataError
from smidgen.evaluation.intervals import Estimate, estimate_difference, estimate_share
from smidgen.evaluation.kept import Answer, Kept, item_key, items_hash
from smidgen.evaluation.likelihood import Likelihood, Progress, Scorer
from smidgen.tasks.choice import ChoiceItem, ChoiceTask, Metric

WINDOW_ITEMS = 1024
"""Items whose batches are planned together: enough for batches of equal lengths, and the first batch comes soon."""

TIE = 1e-6
"""Scores that differ by less than this share of them are equal: the sums of fp32 numbers cannot tell."""

LARGEST_NATS = 709.0
"""A perplexity stays at exp of this, 8.2e307: the next is no double any more, and infinity is no number of JSON."""


@dataclass(frozen=True, slots=True)
class ItemScore:
    """One item, answered and scored."""

    id: str
    """The item's."""
    kind: str
    """The group it is reported under."""
    answer: Answer
    """What the model said."""
    scores: Mapping[Metric, float]
    """By metric: 0 to 1, or for perplexity the nats that the continuation cost."""
    chance: float
    """What a guess would earn."""


@dataclass(frozen=True)
class ChoiceResult:
    """A task's scores for one model."""

    task: ChoiceTask
    """What was asked."""
    protocol: Mapping[str, Any]
    """How it was asked."""
    items: tuple[ItemScore, ...]
    """Every item that was scored, in the task's order."""
    unfit: tuple[str, ...]
    """Items that were not scored because a candidate alone is longer than the context."""
    limit: int | None
    """Most items that were asked for; None: all there are."""
    items_hash: str
    """Names the items that were asked, with all their strings."""
    reused: int
    """Answers that were kept from an earlier run."""

    @property
    def cut(self) -> int:
        """Items of which a context lost its beginning because it did not fit."""
        return sum(item.answer.cut > 0 for item in self.items)

    @property
    def chance(self) -> float:
        """What guessing would earn."""
        return math.fsum(item.chance for item in self.items) / len(self.items)

    @property
    def kinds(self) -> dict[str, Estimate]:
        """The main metric within each group of items; empty if there is only one."""
        groups: dict[str, list[ItemScore]] = defaultdict(list)
        for item in self.items:
            groups[item.kind].append(item)
        main = self.task.main
        return {kind: _estimate(main, group) for kind, group in groups.items()} if len(groups) > 1 else {}

    @property
    def metrics(self) -> dict[Metric, Estimate]:
        """Every metric over all items, with its interval."""
        return {metric: _estimate(metric, self.items) for metric in self.task.metrics}

    def corrected(self, metric: Metric, value: float) -> float | None:
        """Return a score on the scale where guessing is 0 and knowing 1; None for a perplexity, which has neither."""
        if metric == "perplexity":
            return None
        chance = 0.0 if metric == "greedy" else self.chance
        return (value - chance) / (1 - chance)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `evals.json`."""
        metrics, kinds = self.metrics, self.kinds
        main = metrics[self.task.main]
        record = {
            "name": self.task.name,
            "version": self.task.version,
            "metric": self.task.main,
            "value": main.value,
            "low": main.low,
            "high": main.high,
            "n": main.n,
            "of": self.task.published,
            "rows": self.task.rows,
            "chance": 0.0 if self.task.main == "greedy" else self.chance,
            "corrected": self.corrected(self.task.main, main.value),
            "limit": self.limit,
            "items_hash": self.items_hash,
            "metrics": {
                name: found.as_dict() | {"corrected": self.corrected(name, found.value)}
                for name, found in metrics.items()
            },
            "cut": self.cut,
            "unfit": len(self.unfit),
            "notes": list(self.task.notes),
            "contamination": None,
        }
        if kinds:
            record["kinds"] = {kind: found.as_dict() for kind, found in kinds.items()}
            record["mean_of_kinds"] = math.fsum(found.value for found in kinds.values()) / len(kinds)
        return record

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield plain values of every item, for comparisons that pair them."""
        for item in self.items:
            yield {
                "id": item.id,
                "kind": item.kind,
                "score": item.scores[self.task.main],
                "scores": dict(item.scores),
                "nats": list(item.answer.nats),
                "cut": item.answer.cut,
            }


def run_choices(
    task: ChoiceTask,
    scorer: Scorer,
    *,
    limit: int | None = None,
    kept: Kept | None = None,
    progress: Progress | None = None,
) -> ChoiceResult:
    """Put the items of a task to a model and score what it says.

    `limit` takes the first items of the file, of each group as many. `kept` is asked first and told every batch; what
    is resumed with as many threads gives bit for bit what an uninterrupted run gives. `progress` counts items.
    Raises DataError for an item that cannot be asked (an empty candidate, no candidate) or if none fits the context.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit {limit} leaves no item of task {task.name}. Give at least 1, or none for all.")
    items = _first_of_each_kind(list(task.items()), limit)
    for item in items:
        _check(item, task)
    keys = [item_key(item) for item in items]
    answers = {key: answer for key in keys if kept and (answer := kept.find(key))}
    reused, unfit = len(answers), []
    for start in range(0, len(items), WINDOW_ITEMS):
        window = slice(start, start + WINDOW_ITEMS)
        for found in _answer(scorer, items[window], keys[window], answers, unfit):
            answers |= found
            if kept is not None:
                kept.add(found)
            if progress is not None:
                progress(len(answers) + len(unfit), len(items))
    if not answers:
        raise DataError(f"task {task.name}: no item fits a context of {scorer.max_len} symbols.")
    answered = ((item, answers[key]) for item, key in zip(items, keys, strict=True) if key in answers)
    scored = tuple(score_item(item, answer, task) for item, answer in answered)
    return ChoiceResult(task, scorer.protocol, scored, tuple(unfit), limit, items_hash(keys), reused)


def _answer(
    scorer: Scorer, items: Sequence[ChoiceItem], keys: Sequence[str], known: Mapping[str, Answer], unfit: list[str]
) -> Iterator[dict[str, Answer]]:
    """Yield the answers of a window, batch by batch; note what does not fit.

    Batches are planned over all items, known or not: a resumed run computes what it still has to in the same batches,
    of the same shapes, as one without interruption.
    """
    unknown = {key for key in keys if key not in known}
    if not unknown:
        return
    encoded = scorer.encode([choice for item in items for choice in item.choices])
    owners = [n for n, item in enumerate(items) for _ in item.choices]
    groups: dict[int, list[int]] = defaultdict(list)
    for pair, owner in enumerate(owners):
        groups[owner].append(pair)
    misfits = {owners[pair] for pair, one in enumerate(encoded) if not one.fits}
    unfit += [items[owner].id for owner in sorted(misfits)]
    found: dict[int, Likelihood] = {}
    batches = scorer.batches(encoded, [group for owner, group in groups.items() if owner not in misfits])
    wanted = ([pair for pair in batch if keys[owners[pair]] in unknown] for batch in batches)
    todo = [fresh for fresh in wanted if fresh]
    asked = scorer.score_each([[encoded[pair] for pair in fresh] for fresh in todo], len(batches))
    for fresh, likelihoods in zip(todo, asked, strict=True):
        found |= zip(fresh, likelihoods, strict=True)
        complete = {owners[pair] for pair in fresh if all(other in found for other in groups[owners[pair]])}
        yield {keys[owner]: _said([found.pop(pair) for pair in groups[owner]]) for owner in sorted(complete)}


def _said(likelihoods: Sequence[Likelihood]) -> Answer:
    return Answer(
        tuple(one.nats for one in likelihoods),
        tuple(one.greedy for one in likelihoods),
        tuple(one.symbols for one in likelihoods),
        max(one.cut for one in likelihoods),
    )


def score_item(item: ChoiceItem, answer: Answer, task: ChoiceTask) -> ItemScore:
    """Return what an answer is worth by each metric of the task; candidates that are alike share the point."""
    scores: dict[Metric, float] = {}
    for metric in task.metrics:
        if metric == "accuracy":
            scores[metric] = share_of_best(answer.nats, item.right)
        elif metric == "normalized":
            per_character = [nats / length for nats, length in zip(answer.nats, item.lengths, strict=True)]
            scores[metric] = share_of_best(per_character, item.right)
        else:
            scores[metric] = float(answer.greedy[item.right]) if metric == "greedy" else -answer.nats[item.right]
    return ItemScore(item.id, item.kind, answer, scores, task.chance(item))


def share_of_best(scores: Sequence[float], right: int) -> float:
    """Return 1 if the right candidate scores best, its share if several do, else 0."""
    best = max(scores)
    ties = [i for i, score in enumerate(scores) if math.isclose(score, best, rel_tol=TIE)]
    return (right in ties) / len(ties)


def _estimate(metric: Metric, items: Sequence[ItemScore]) -> Estimate:
    values = [item.scores[metric] for item in items]
    if metric != "perplexity":
        return estimate_share(values)
    nats = estimate_difference(values, [0.0] * len(values), seed=0)  # the bootstrap of a mean
    ends = {name: min(getattr(nats, name), LARGEST_NATS) for name in ("value", "low", "high")}
    return replace(nats, **{name: math.exp(end) for name, end in ends.items()})


def _first_of_each_kind(items: Sequence[ChoiceItem], limit: int | None) -> list[ChoiceItem]:
    """Return the first items, of each kind as many: BLiMP's file is one paradigm behind the other."""
    seen: Counter[str] = Counter()
    ranks = []
    for item in items:
        ranks.append(seen[item.kind])
        seen[item.kind] += 1
    chosen = sorted(range(len(items)), key=lambda i: (ranks[i], i))[:limit]
    return [items[i] for i in sorted(chosen)]


def _check(item: ChoiceItem, task: ChoiceTask) -> None:
    """Raise DataError for an item that cannot be asked."""
    where = f"task {task.name}: item {item.id}"
    if not item.choices:
        raise DataError(f"{where} has no candidate. Remove the row, or complete it.")
    if len(item.choices) < 2 and {"accuracy", "normalized"} & set(task.metrics):
        raise DataError(f"{where} has one candidate, and nothing to choose from. Remove the row, or complete it.")
    empty = [number for number, choice in enumerate(item.choices, 1) if not choice.continuation.strip()]
    if empty:
        raise DataError(
            f"{where}: candidate {empty[0]} of {len(item.choices)} is empty. Remove the row, or complete it."
        )
    if not 0 <= item.right < len(item.choices):
        raise DataError(f"{where}: the right candidate is number {item.right + 1} of {len(item.choices)}.")
    if "normalized" in task.metrics and (len(item.lengths) != len(item.choices) or min(item.lengths) < 1):
        raise DataError(f"{where}: lengths {item.lengths} do not fit its {len(item.choices)} candidates.")
