"""The same exam before and after: the base, the base shown worked examples, and the adapted model.

What form alone gains is in the second; what is claimed for the third is its difference from the first on the very same
items, with an exact test. An exam is questions (here) or matches of a game (`selfplay.Games`). Results are kept as they
come, so that a run that goes on asks nothing twice.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from smidgen.errors import DataError
from smidgen.evaluation.discordance import discordance_p
from smidgen.evaluation.intervals import Estimate, estimate_difference, estimate_share
from smidgen.evaluation.runner import run_task
from smidgen.inference import Engine, SamplingParams
from smidgen.runs import atomic_write
from smidgen.tasks import Example, Grade, Task
from smidgen.tokenizers.chat import Message

BASE, CONTROL, ADAPTED = "base", "base, shown examples", "adapted"
ROWS = 32
"""Questions under way at once."""


class Marks(NamedTuple):
    """What one model made of an exam."""

    figures: dict[str, Any]
    """For `metrics.json`; `seconds` among them."""
    grades: Mapping[str, list[float]]
    """Of every item, by score."""


class Exam(Protocol):
    """What is measured before and after: the same items in the same order, whoever sits it."""

    @property
    def name(self) -> str:
        """Return what is asked, or played."""
        ...

    @property
    def parts(self) -> Mapping[str, str]:
        """Return what is scored apart and how a table calls it; one part without a name is the whole."""
        ...

    @property
    def scores(self) -> Mapping[str, str]:
        """Return what each part is scored by and how a table calls it, what matters most first."""
        ...

    @property
    def rows(self) -> int:
        """Return how many items are under way at once."""
        ...

    def why_no_control(self, shots: int) -> str | None:
        """Return why nobody can be shown so many worked examples; None: it can be done."""
        ...

    def sit(self, engine: Engine, shots: int) -> Marks:
        """Let a model sit the exam, shown as many worked examples; grades are named by `score_name`."""
        ...


def score_name(score: str, part: str) -> str:
    """Return the name of a part's score: `wins against random`."""
    return f"{score} {part}".strip()


@dataclass(frozen=True)
class Questions:
    """The test set of a task, or its beginning, answered greedily."""

    task: Task
    limit: int | None
    """Most questions; None: all."""
    symbols: int | None
    """Longest answer; None: what the longest right one takes, and some."""

    @property
    def name(self) -> str:
        """The name of the task."""
        return self.task.name

    @property
    def parts(self) -> Mapping[str, str]:
        """All questions together."""
        return {"": "questions"}

    @property
    def scores(self) -> Mapping[str, str]:
        """What `Grade` tells."""
        return {"strict": "strict", "lenient": "lenient", "format": "format"}

    @property
    def rows(self) -> int:
        """No more than there are questions."""
        return ROWS if self.limit is None else min(ROWS, self.limit)

    def why_no_control(self, shots: int) -> str | None:
        """Return why a question cannot have so many worked examples in front, or None: a task need not have any."""
        try:
            for example in islice(self.task.examples(), self.limit):
                self.task.few_shot(example, shots)
        except DataError as error:
            return str(error)
        return None

    def sit(self, engine: Engine, shots: int) -> Marks:
        """Ask all questions."""
        task = Shown(self.task, shots) if shots else self.task
        options = None if self.symbols is None else SamplingParams(max_symbols=self.symbols)
        result = run_task(task, engine, self.limit, options)
        graded = [item.grade for item in result.items]
        grades = {
            "strict": [grade.strict for grade in graded],
            "lenient": [grade.lenient for grade in graded],
            "format": [float(grade.formatted) for grade in graded],
        }
        return Marks(result.as_dict(), grades)


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
    """What one model made of the exam."""

    who: str
    figures: Mapping[str, Any]
    """For `metrics.json`."""
    grades: Mapping[str, list[float]]
    """Of every item, by score."""

    @property
    def n(self) -> int:
        """Items of each score."""
        return len(next(iter(self.grades.values())))

    def estimate(self, score: str) -> Estimate:
        """Return a score with its interval."""
        return estimate_share(self.grades[score])


@dataclass(frozen=True)
class Gain:
    """How much better one is than another on the same items."""

    score: str
    difference: Estimate
    p: float

    def __str__(self) -> str:
        points = [100 * value for value in (self.difference.value, self.difference.low, self.difference.high)]
        told = f"p = {self.p:.2g}" if self.p >= 1e-4 else "p < 0.0001"
        return f"{points[0]:+.1f} points [{points[1]:+.1f}, {points[2]:+.1f}], {told}"


def compare(ours: Examined, theirs: Examined, score: str, seed: int = 0) -> Gain:
    """Return how much better one is: paired over items, bootstrap interval and exact test."""
    pair = ours.grades[score], theirs.grades[score]
    return Gain(score, estimate_difference(*pair, seed=seed), discordance_p(*pair))


class Examination:
    """Everything asked in one run, kept in one file."""

    def __init__(self, path: Path, exam: Exam) -> None:
        self.exam = exam
        self._path = path
        self._kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def find(self, who: str) -> Examined | None:
        """Return what was measured before, if it was."""
        found = self._kept.get(who)
        return Examined(who, found["figures"], found["grades"]) if found else None

    def ask(self, who: str, engine: Callable[[], Engine], shots: int = 0) -> Examined:
        """Let a model sit the exam, unless this one did before; `engine` is called only if it did not."""
        found = self.find(who)
        if found is not None:
            return found
        figures, grades = self.exam.sit(engine(), shots)
        self._kept[who] = {"figures": {**figures, "name": f"{self.exam.name}, {who}"}, "grades": grades}
        atomic_write(self._path, json.dumps(self._kept) + "\n")
        return Examined(who, **self._kept[who])

    @property
    def figures(self) -> list[Mapping[str, Any]]:
        """Return all results, for `metrics.json`."""
        return [kept["figures"] for kept in self._kept.values()]
