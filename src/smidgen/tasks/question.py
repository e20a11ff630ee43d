"""A task put together from parts: where its examples come from, how it asks, how it grades, what it rewards."""

from collections.abc import Callable, Iterable, Iterator
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
    """Return `half_credit`: all of the strict score, or half of the lenient one."""
    return half_credit(grade)


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

    def few_shot(self, example: Example, k: int) -> list[Message]:
        """Return the prompt with `k` worked training examples in front."""
        return show_worked(self, example, k, self._worked)

    @cached_property
    def _worked(self) -> list[Example]:
        return list(islice(self.source.train(0), WORKED_FROM))
