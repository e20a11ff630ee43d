"""Sorting: numbers from the smallest to the largest, or words by the alphabet."""

import re
from functools import partial
from math import factorial
from random import Random
from typing import Literal

from pydantic import Field

from smidgen.config import Config
from smidgen.tasks.base import Example, Grade, half_credit
from smidgen.tasks.files import Files
from smidgen.tasks.letters import plain_words
from smidgen.tasks.options import full_name, read_options
from smidgen.tasks.question import QuestionTask
from smidgen.tasks.sources import Drawn

LEVELS = {
    "easy": {"items": 3, "digits": 1},
    "medium": {"items": 4, "digits": 2},
    "hard": {"items": 6, "digits": 3},
    "words": {"items": 4, "of": "words"},
}
"""From the easiest to the hardest."""

PARTLY = 0.25
"""Reward of an answer with every item, were each at its place; in proportion to those that are."""

_ASKING = "Sort these {of} {order}: {{question}}. Answer with the sorted {of} alone, separated by commas."


class SortingConfig(Config):
    """What is sorted."""

    of: Literal["numbers", "words"] = "numbers"
    """Numbers by size, or words by the alphabet."""
    items: int = Field(default=4, ge=2, le=20)
    """How many of them."""
    digits: int = Field(default=2, ge=1, le=9)
    """Most digits of a number."""
    n: int = Field(default=1000, ge=1)
    """Most questions of the test set."""


def make_sorting(options: str, files: Files) -> QuestionTask:
    """Make the task of a level or of settings; `medium` if nothing is said."""
    config = read_options("sorting", options or "medium", SortingConfig, LEVELS)
    name = full_name("sorting", options)
    order = "from smallest to largest" if config.of == "numbers" else "in alphabetical order"
    asking = _ASKING.format(of=config.of, order=order)
    return QuestionTask(name, asking, Drawn(name, partial(_draw, config), config.n), grade, reward)


def grade(example: Example, answer: str) -> Grade:
    """Grade the sorted list; leniently it may be written in any way, and be the end of a longer answer."""
    given = answer.strip()
    right = example.answer.split(", ")
    return Grade(
        strict=float(given == example.answer),
        lenient=float(_items(example, answer) == right),
        formatted=re.fullmatch(rf"\w+(?:, ?\w+){{{len(right) - 1}}}", given) is not None,
    )


def reward(example: Example, answer: str, grade: Grade) -> float:
    """Return half the lenient or all of the strict score; of a wrong order, a quarter of the share at its place."""
    right, found = example.answer.split(", "), _items(example, answer)
    if sorted(found) != sorted(right):
        return half_credit(grade)
    in_place = sum(said == item for said, item in zip(found, right, strict=True))
    return max(half_credit(grade), PARTLY * in_place / len(right))


def _items(example: Example, answer: str) -> list[str]:
    """Return the last items in an answer, as many as were given."""
    right = example.answer.split(", ")
    return re.findall("[0-9]+" if right[0].isdecimal() else "[a-z]+", answer.lower())[-len(right) :]


def _draw(config: SortingConfig, rng: Random) -> Example | None:
    """Draw different items in an order that is not the right one."""
    if config.of == "numbers":
        population = range(10**config.digits)
        if len(population) < config.items:
            return None
        ordered = [str(number) for number in sorted(rng.sample(population, config.items))]
    else:
        ordered = sorted(rng.sample(plain_words(), config.items))
    given = rng.sample(ordered, len(ordered))
    if given == ordered:
        return None
    return Example(
        id="",
        question=", ".join(given),
        answer=", ".join(ordered),
        kind=f"{config.items} {config.of}",
        chance=1 / (factorial(config.items) - 1),
        extra={"key": " ".join(ordered)},
    )
