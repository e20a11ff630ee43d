"""Countdown: make a number from given numbers with the four operations, each given number used exactly once.

There are many right answers; whatever expression keeps the rule and comes to the number is right.
Source: Gandhi et al. 2024, arXiv 2404.03683 (the task for language models); the reward for a rule kept in vain is that
of TinyZero (github.com/Jiayi-Pan/TinyZero).
"""

from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from math import factorial
from random import Random
from typing import Any

from pydantic import Field

from smidgen.config import Config
from smidgen.tasks.arithmetic import OPERATIONS
from smidgen.tasks.base import Example, Grade, half_credit
from smidgen.tasks.expressions import Worked, find_expression, work_out_expression
from smidgen.tasks.files import Files
from smidgen.tasks.options import full_name, read_options
from smidgen.tasks.question import QuestionTask
from smidgen.tasks.sources import Drawn

LEVELS: Mapping[str, Mapping[str, Any]] = {
    "easiest": {"numbers": 2, "operations": "+", "largest": 50},
    "easy": {"numbers": 2, "operations": "+-", "largest": 50},
    "medium": {"numbers": 3, "operations": "+-", "largest": 20},
    "hard": {"numbers": 3, "operations": "+-*", "largest": 20},
    "expert": {"numbers": 4, "operations": "+-*/", "largest": 50},
}
"""From the easiest to the hardest."""

RULE_KEPT = 0.1
"""Reward of an expression of exactly the given numbers that comes to another number."""

_ASKING = (
    "Make {question}. Use each of these numbers exactly once. "
    "Answer with one arithmetic expression alone, such as (1 + 2) * 3."
)
_LARGEST_TARGET = 100


class CountdownConfig(Config):
    """Which numbers are given and how the target came about."""

    numbers: int = Field(default=3, ge=2, le=6)
    """Numbers given."""
    largest: int = Field(default=20, ge=2, le=99)
    """Largest of them."""
    operations: str = Field(default="+-*", pattern=r"^[-+*/]+$")
    """Operations the target is made with; the answer may use all four."""
    n: int = Field(default=1000, ge=1)
    """Most questions of the test set."""


def make_countdown(options: str, files: Files) -> QuestionTask:
    """Make the task of a level or of settings; `medium` if nothing is said."""
    config = read_options("countdown", options or "medium", CountdownConfig, LEVELS)
    name = full_name("countdown", options)
    return QuestionTask(name, _ASKING, Drawn(name, partial(_draw, config), config.n), grade, reward)


def grade(example: Example, answer: str) -> Grade:
    """Grade an expression: strictly the whole answer, leniently the last expression in it, followed by = or not."""
    worked = work_out_expression(answer)
    strict = _is_right(example, worked)
    return Grade(float(strict), float(strict or _is_right(example, find_expression(answer))), worked is not None)


def reward(example: Example, answer: str, grade: Grade) -> float:
    """Return half the lenient or all of the strict score, and a tenth for the right numbers and the wrong result."""
    found = find_expression(answer)
    kept = found is not None and found.numbers == tuple(example.extra["numbers"])
    return max(half_credit(grade), RULE_KEPT * kept)


def _is_right(example: Example, worked: Worked | None) -> bool:
    if worked is None:
        return False
    return worked.value == example.extra["target"] and worked.numbers == tuple(example.extra["numbers"])


def _draw(config: CountdownConfig, rng: Random) -> Example | None:
    """Draw numbers and join them from left to right; None if a result on the way is broken, negative or too large."""
    numbers = [rng.randint(1, config.largest) for _ in range(config.numbers)]
    signs = rng.choices(config.operations, k=config.numbers - 1)
    value, solution = Fraction(numbers[0]), str(numbers[0])
    for position, (sign, number) in enumerate(zip(signs, numbers[1:], strict=True)):
        value = OPERATIONS[sign](value, Fraction(number))
        solution = f"({solution}) {sign} {number}" if position else f"{solution} {sign} {number}"
        if value.denominator > 1 or value < 1:
            return None
    if value > _LARGEST_TARGET or value in numbers:
        return None
    given = rng.sample(numbers, len(numbers))
    return Example(
        id="",
        question=f"{value} from the numbers {', '.join(map(str, given))}",
        answer=solution,
        kind=f"{config.numbers} numbers",
        # One of the ways to join them from left to right is right at least.
        chance=1 / (factorial(config.numbers) * len(set(config.operations)) ** (config.numbers - 1)),
        extra={"target": int(value), "numbers": sorted(numbers), "key": f"{value} {sorted(numbers)}"},
    )
