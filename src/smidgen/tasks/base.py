"""What a task is: examples, how each is asked, how an answer is graded. Pure text; no model, no tokenizer, no torch.

The same object serves supervised training (examples with their right answers), evaluation (grades) and reinforcement
learning (the reward is the grade unless a task says otherwise).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from smidgen.tokenizers.chat import Message


@dataclass(frozen=True, slots=True)
class Example:
    """One thing asked, with what is needed to grade it."""

    id: str
    """Names the example in logs and per-example results; stable across runs."""
    question: str
    """What is asked, whole."""
    answer: str
    """The right answer in its canonical form."""
    kind: str = ""
    """The group it is reported under."""
    chance: float = 0.0
    """The probability that a guess among the plausible candidates is right."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Whatever else the task's grader needs."""


@dataclass(frozen=True, slots=True)
class Grade:
    """How good an answer is."""

    strict: float
    """1 if the answer is exactly the canonical one, else 0."""
    lenient: float
    """1 if it is right but for case, punctuation and articles, else 0."""
    formatted: bool
    """Whether the answer has the asked form at all, right or wrong."""


class Task(Protocol):
    """A task; `name` is how it is called on the command line."""

    name: str

    def examples(self) -> Iterable[Example]:
        """Yield the examples, the same ones in the same order every time."""
        ...

    def prompt(self, example: Example) -> list[Message]:
        """Return the conversation to be continued by the model."""
        ...

    def grade(self, example: Example, answer: str) -> Grade:
        """Grade the model's continuation."""
        ...

    def reward(self, example: Example, answer: str) -> float:
        """Return the reward for reinforcement learning; `default_reward` unless the task knows better."""
        ...


def default_reward(grade: Grade) -> float:
    """Return the reward that follows from a grade: the strict one."""
    return grade.strict


def normalize_answer(text: str) -> str:
    """Return the answer without case, punctuation, articles and extra spaces, as SQuAD does.

    Source: Rajpurkar et al. 2016, arXiv 1606.05250 (evaluation script).
    """
    words = re.sub(r"[^\w\s]", " ", text.lower()).split()
    return " ".join(word for word in words if word not in ("a", "an", "the"))


def exact_match(answer: str, right: str, max_words: int) -> Grade:
    """Grade an answer against the only right one; more than `max_words` words is not in the asked form."""
    given = answer.strip()
    return Grade(
        strict=float(given == right),
        lenient=float(normalize_answer(given) == normalize_answer(right)),
        formatted=0 < len(given.split()) <= max_words,
    )
