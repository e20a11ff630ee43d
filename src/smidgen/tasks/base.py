"""What a task is: examples, how each is asked, how an answer is graded. Pure text; no model, no tokenizer, no torch.

The same object serves supervised training (examples with their right answers), evaluation (grades) and reinforcement
learning (rewards). What is trained on is never what is asked in the test.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from smidgen.errors import DataError
from smidgen.tokenizers.chat import Message

WORKED_FROM = 64
"""Worked examples are chosen among this many training examples."""


@dataclass(frozen=True, slots=True)
class Example:
    """One thing asked, with what is needed to grade it."""

    id: str
    """Names the example in logs and per-example results; stable across runs."""
    question: str
    """What is asked, without the instruction that the task puts around it."""
    answer: str
    """The right answer in its canonical form: graded 1, and what supervised training teaches."""
    kind: str = ""
    """The group it is reported under."""
    chance: float = 0.0
    """The probability that a guess among the plausible candidates is right; 0 where there are none to guess among."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Whatever else the task's grader needs."""


@dataclass(frozen=True, slots=True)
class Grade:
    """How good an answer is; both scores are 0 or 1 unless the task measures likeness to a reference."""

    strict: float
    """The score of the answer as it stands: right, and nothing but the answer in the asked form."""
    lenient: float
    """The score of what can be found in the answer, whatever its form; at least the strict one."""
    formatted: bool
    """Whether the answer has the asked form at all, right or wrong."""


class Task(Protocol):
    """A task: the contract between those who write questions and those who train and measure."""

    @property
    def name(self) -> str:
        """How it is called on the command line."""
        ...

    def examples(self) -> Iterable[Example]:
        """Yield the test set, the same examples in the same order every time."""
        ...

    def training_examples(self, seed: int) -> Iterator[Example]:
        """Yield examples to train on, none of them of the test set, without end; a finite source is gone through anew.

        The seed decides the order, and of an unlimited source the examples too.
        """
        ...

    def prompt(self, example: Example) -> list[Message]:
        """Return the conversation to be continued by the model."""
        ...

    def grade(self, example: Example, answer: str) -> Grade:
        """Grade the model's continuation, whatever it is."""
        ...

    def reward(self, example: Example, answer: str) -> float:
        """Return the reward for reinforcement learning, from 0 to 1; 1 for the canonical answer."""
        ...

    def few_shot(self, example: Example, k: int) -> list[Message]:
        """Return the prompt with `k` worked training examples in front, for the format-only control."""
        ...


def default_reward(grade: Grade) -> float:
    """Return the reward that follows from a grade where form and answer are one: the strict score."""
    return grade.strict


def half_credit(grade: Grade) -> float:
    """Return the strict score, or half of the lenient one if that is more: right in another form is half right.

    A lenient reward lets the asked form drift (a 3B model went from 70% strict to 22% at equal lenient score); a strict
    one gives a tiny model that rarely keeps to the form nothing to start from (docs/notes/facts.md, section 3).
    """
    return max(grade.strict, 0.5 * grade.lenient)


def worked_prompt(task: Task, example: Example, k: int) -> list[Message]:
    """Return `task.prompt(example)` with `k` worked examples in front: the first training examples of seed 0.

    All examples of a task are shown the same ones, so that an engine reads them once; answers not yet seen come first,
    so that they do not suggest one answer. Raises DataError if there are not `k` of them.
    """
    return show_worked(task, example, k, list(islice(task.training_examples(0), WORKED_FROM)))


def show_worked(task: Task, example: Example, k: int, candidates: Sequence[Example]) -> list[Message]:
    """Return the prompt of an example with `k` of the candidates, asked and answered, in front."""
    others = list({c.question: c for c in candidates if c.question != example.question}.values())
    if not 0 <= k <= len(others):
        raise DataError(f"task {task.name}: {k} worked examples asked for, and {len(others)} are there to choose from.")
    seen: dict[str, int] = {}
    ranked: list[tuple[int, Example]] = []
    for other in others:
        seen[other.answer] = seen.get(other.answer, 0) + 1
        ranked.append((seen[other.answer], other))
    ranked.sort(key=lambda pair: pair[0])
    messages: list[Message] = []
    for _, other in ranked[:k]:
        messages += [*task.prompt(other), Message("assistant", other.answer)]
    return [*messages, *task.prompt(example)]


def normalize_answer(text: str) -> str:
    """Return the answer without case, punctuation, articles and extra spaces, as SQuAD does.

    Source: Rajpurkar et al. 2016, arXiv 1606.05250 (evaluation script).
    """
    words = re.sub(r"[^\w\s]", " ", text.lower()).split()
    return " ".join(word for word in words if word not in ("a", "an", "the"))


def exact_match(answer: str, right: str, max_words: int) -> Grade:
    """Grade an answer against the only right one; more than `max_words` words is not in the asked form."""
    given = answer.strip()
    plain = normalize_answer(right)
    same = normalize_answer(given) == plain if plain else given.lower() == right.lower()
    return Grade(
        strict=float(given == right),
        lenient=float(same or given == right),
        formatted=0 < len(given.split()) <= max_words,
    )
