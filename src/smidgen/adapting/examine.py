"""The same questions before and after: the base, the base shown worked examples, and the adapted model.

What form alone gains is in the second; what is claimed for the third is its difference from the first on the very same
questions, with an exact test. Results are kept as they come, so that a run that goes on asks nothing twice.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from smidgen.errors import DataError
from smidgen.evaluation.discordance import discordance_p
from smidgen.evaluation.intervals import Estimate, estimate_difference
from smidgen.evaluation.runner import TaskResult, run_task
from smidgen.inference import Engine, SamplingParams
from smidgen.runs import atomic_write
from smidgen.tasks import Example, Grade, Task
from smidgen.tokenizers.chat import Message

BASE, CONTROL, ADAPTED = "base", "base, shown examples", "adapted"
SCORES = ("strict", "lenient", "formatted")


@dataclass(frozen=True)
class Shown:
    """A task whose prompts have worked examples in front: the format-only control."""

    task: Task
    shots: int

    @property
    def name(self) -> str:
        """The name of the task."""
        return self.task.name

    def examples(self) -> Iterable[Example]:
        """Yield the task's own."""
        return self.task.examples()

    def training_examples(self, seed: int) -> Iterator[Example]:
        """Yield the task's own."""
        return self.task.training_examples(seed)

    def prompt(self, example: Example) -> list[Message]:
        """Return the prompt with worked examples in front."""
        return self.task.few_shot(example, self.shots)

    def grade(self, example: Example, answer: str) -> Grade:
        """Grade as the task does."""
        return self.task.grade(example, answer)

    def reward(self, example: Example, answer: str) -> float:
        """Reward as the task does."""
        return self.task.reward(example, answer)

    def few_shot(self, example: Example, k: int) -> list[Message]:
        """Return the task's own prompt with `k` worked examples."""
        return self.task.few_shot(example, k)


@dataclass(frozen=True)
class Examined:
    """What one model made of the test set."""

    who: str
    figures: Mapping[str, Any]
    """As `TaskResult.as_dict` tells it."""
    grades: Mapping[str, list[float]]
    """Of every question, by score: strict, lenient, formatted."""

    @property
    def n(self) -> int:
        """Questions asked."""
        return len(self.grades["strict"])

    def estimate(self, score: str) -> Estimate:
        """Return a score with its interval."""
        told = self.figures["format" if score == "formatted" else score]
        return Estimate(**told)


@dataclass(frozen=True)
class Gain:
    """How much better one is than another on the same questions."""

    score: str
    difference: Estimate
    p: float

    def __str__(self) -> str:
        points = [100 * value for value in (self.difference.value, self.difference.low, self.difference.high)]
        told = f"p = {self.p:.2g}" if self.p >= 1e-4 else "p < 0.0001"
        return f"{points[0]:+.1f} points [{points[1]:+.1f}, {points[2]:+.1f}], {told}"


def compare(ours: Examined, theirs: Examined, score: str, seed: int = 0) -> Gain:
    """Return how much better one is: paired over questions, bootstrap interval and exact test."""
    pair = ours.grades[score], theirs.grades[score]
    return Gain(score, estimate_difference(*pair, seed=seed), discordance_p(*pair))


class Examination:
    """Everything asked in one run, kept in one file."""

    def __init__(self, path: Path, task: Task, limit: int | None, symbols: int | None) -> None:
        self._path, self._task, self._limit = path, task, limit
        self._options = None if symbols is None else SamplingParams(max_symbols=symbols)
        self._kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def find(self, who: str) -> Examined | None:
        """Return what was measured before, if it was."""
        found = self._kept.get(who)
        return Examined(who, found["figures"], found["grades"]) if found else None

    def ask(
        self, who: str, engine: Callable[[], Engine], shots: int = 0, progress: Callable[[int, int], None] | None = None
    ) -> Examined:
        """Ask the test set, unless this one answered it before; `engine` is called only if it did not."""
        found = self.find(who)
        if found is not None:
            return found
        task = Shown(self._task, shots) if shots else self._task
        result = run_task(task, engine(), self._limit, self._options, progress)
        self._kept[who] = {"figures": {**result.as_dict(), "name": f"{task.name}, {who}"}, "grades": _grades(result)}
        atomic_write(self._path, json.dumps(self._kept) + "\n")
        return Examined(who, **self._kept[who])

    def why_no_control(self, shots: int) -> str | None:
        """Return why a question cannot have so many worked examples in front, or None: a task need not have any."""
        try:
            for example in islice(self._task.examples(), self._limit):
                self._task.few_shot(example, shots)
        except DataError as error:
            return str(error)
        return None

    @property
    def figures(self) -> list[Mapping[str, Any]]:
        """Return all results, for `metrics.json`."""
        return [kept["figures"] for kept in self._kept.values()]


def _grades(result: TaskResult) -> dict[str, list[float]]:
    return {name: [float(getattr(item.grade, name)) for item in result.items] for name in SCORES}
