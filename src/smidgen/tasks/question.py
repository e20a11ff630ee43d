"""A task put together from parts: where its examples come from, how it asks, how it grades, what it rewards."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Protocol

from smidgen.tasks.base import WORKED_FROM, Example, Grade, half_credit, show_worked
from smidgen.tokenizers.chat import Message


class Source(Protocol):
    """Where examples come from: a test set, and training examples without end that are not of it."""

    def test(self) -> Iterable[Example]:
        """Yield the test set."""
        ...

    def train(self, seed: int) -> Iterator[Example]:
        """Yield training examples, without end."""
        ...


def reward_of_grade(example: Example, answer: str, grade: Grade) -> float:
    """Return all of the strict score, or of the lenient one a quarter, and up to a half the shorter the answer is.

    Without that slope nothing leads from "4 * 6 = 24, as I said" to the bare number, which a tiny model says too rarely
    to find it by chance (LOG.md, 2026-11-22).
    """
    brevity = min(1.0, len(example.answer) / max(1, len(answer.strip())))
    return max(grade.strict, half_credit(grade) * (0.5 + 0.5 * brevity))


def reward_strictly(example: Example, answer: str, grade: Grade) -> float:
    """Return the strict score: nothing for what is right in another form, which would be learned instead."""
    return grade.strict


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure of all answers together, as papers report it."""

    name: str
    """`BLEU`, `ROUGE-L`."""
    value: float
    """From 0 to 100."""
    how: str
    """What another one must have done the same way to be compared: sacrebleu's signature, the scorer's version."""


@dataclass(frozen=True)
class QuestionTask:
    """A task that asks one question at a time in one user message."""

    name: str
    """How it is called on the command line, options included."""
    asking: str
    """The message, with `{question}` where the question goes; it says in which form to answer."""
    source: Source
    """Where the examples come from."""
    grader: Callable[[Example, str], Grade]
    """Grades an answer; never raises, whatever the answer."""
    rewarder: Callable[[Example, str, Grade], float] = reward_of_grade
    """Rewards an answer, given its grade."""
    measurer: Callable[[Sequence[Example], Sequence[str]], list[Measure]] | None = None
    """Measures all answers together, where the literature does."""

    def examples(self) -> Iterable[Example]:
        """Yield the test set."""
        return self.source.test()

    def training_examples(self, seed: int) -> Iterator[Example]:
        """Yield training examples, without end."""
        return self.source.train(seed)

    def prompt(self, example: Example) -> list[Message]:
        """Return one user message."""
        return [Message("user", self.asking.replace("{question}", example.question))]

    def grade(self, example: Example, answer: str) -> Grade:
        """Grade an answer."""
        return self.grader(example, answer)

    def reward(self, example: Example, answer: str) -> float:
        """Reward an answer, from 0 to 1."""
        return self.rewarder(example, answer, self.grade(example, answer))

    def measures(self, examples: Sequence[Example], answers: Sequence[str]) -> list[Measure]:
        """Return the measures of all answers together; none where grades say it all."""
        return self.measurer(examples, answers) if self.measurer and examples else []

    def few_shot(self, example: Example, k: int) -> list[Message]:
        """Return the prompt with `k` worked training examples in front."""
        return show_worked(self, example, k, self._worked)

    @cached_property
    def _worked(self) -> list[Example]:
        return list(islice(self.source.train(0), WORKED_FROM))
