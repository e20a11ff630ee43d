"""Arithmetic, on a ladder from one-digit sums to chains of three-digit numbers.

The ladder is fine because reinforcement learning needs a rung on which a model is right now and then: 10 to 60% of the
time. All questions of a rung are drawn from the same numbers; a quarter of them is kept for the test, and 3 + 5 is on
the same side as 5 + 3.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import partial
from operator import add, mul, sub, truediv
from random import Random
from typing import Any, Literal

from pydantic import Field, model_validator

from smidgen.config import Config
from smidgen.tasks.base import Example, Grade
from smidgen.tasks.files import Files
from smidgen.tasks.grading import MARK, grade_number
from smidgen.tasks.options import full_name, read_options
from smidgen.tasks.question import QuestionTask, reward_of_grade, reward_strictly
from smidgen.tasks.sources import Drawn

Operation = Callable[[Any, Any], Fraction]
OPERATIONS: Mapping[str, Operation] = {"+": add, "-": sub, "*": mul, "/": truediv}
"""What a sign does to two fractions."""

LEVELS: Mapping[str, Mapping[str, Any]] = {
    "graded": {"levels": ("sums", "differences", "times-table", "1digit-2step"), "form": "equation", "n": 200},
    "sums": {"largest": 20, "operations": "+"},
    "differences": {"largest": 20, "operations": "-"},
    "times-table": {"largest": 12, "operations": "*"},
    "1digit-add": {"digits": 1, "operations": "+"},
    "2by1-add": {"digits": 2, "by": 1, "operations": "+"},
    "easy": {"digits": 2, "by": 1},
    "1digit-2step": {"digits": 1, "steps": 2},
    "2digit-add": {"operations": "+"},
    "2digit-sub": {"operations": "-"},
    "medium": {"digits": 2},
    "1digit-mul": {"digits": 1, "operations": "*"},
    "2by1-2step": {"digits": 2, "by": 1, "steps": 2},
    "3by1-add": {"digits": 3, "by": 1, "operations": "+"},
    "3by2-add": {"digits": 3, "by": 2, "operations": "+"},
    "3digit-add": {"digits": 3, "operations": "+"},
    "2digit-2step": {"digits": 2, "steps": 2},
    "2by1-mul": {"digits": 2, "by": 1, "operations": "*"},
    "hard": {"digits": 2, "by": 1, "steps": 2, "operations": "+-*"},
    "2digit-mul": {"digits": 2, "operations": "*"},
    "expert": {"digits": 3, "by": 2, "steps": 3, "operations": "+-*"},
}
"""Four rungs together, then the ladder, about from the easiest rung to the hardest. Of the four, 200 questions are a
sixth to a third of each; 628 would be two thirds of the last, because the others have no more."""

ASKINGS = {
    "number": "What is {question}? Answer with the number alone.",
    "equation": "What is {question}? Answer with the whole equation and nothing else, as in 2 + 1 = 3.",
    "working": f"What is {{question}}? Work it out step by step, then end with a line of {MARK} and the number.",
}
"""How each form of the answer is asked for. Asked for the number, SmolLM2-135M-Instruct gave no bare right one in 256
answers at temperature 1: rewards have nothing to lead by. An equation is how it answers anyway."""
_REPLACED = {
    "largest": ("digits", "by"),
    "levels": ("digits", "by", "steps", "operations", "negative", "largest"),
}
"""Settings in whose place another one stands."""
_NAMES = {"+": "addition", "-": "subtraction", "*": "multiplication", "/": "division"}


class ArithmeticConfig(Config):
    """Which numbers are reckoned with, and how often."""

    digits: int = Field(default=2, ge=1, le=9)
    """Digits of one of the numbers."""
    by: int | None = Field(default=None, ge=1, le=9)
    """Digits of the other numbers; None: the same."""
    steps: int = Field(default=1, ge=1, le=6)
    """Operations in one question."""
    operations: str = Field(default="+-", pattern=r"^[-+*/]+$")
    """Signs to draw from; one that stands twice comes twice as often. Only divisions without a rest are asked."""
    negative: bool = False
    """Whether results, and results on the way, may be negative."""
    largest: int | None = Field(default=None, ge=1, le=999)
    """Numbers are 0 to this, each as likely, in place of `digits` and `by`."""
    levels: tuple[str, ...] = ()
    """Rungs that questions are drawn from, each as often, in place of the settings above; none: the settings."""
    form: Literal["number", "equation", "working"] = "number"
    """What is asked for: the number alone; the question with its result, 3 + 5 = 8; or the working, the number then
    on a last line after ####."""
    reward: Literal["strict", "shaped"] = "shaped"
    """What an answer earns: the strict score, or something for a right number in another form, more the shorter."""
    n: int = Field(default=1000, ge=1)
    """Most questions of the test set; a rung with few different questions has fewer."""

    @model_validator(mode="after")
    def _check(self) -> "ArithmeticConfig":
        rungs = [name for name, settings in LEVELS.items() if "levels" not in settings]
        if unknown := [name for name in self.levels if name not in rungs]:
            raise ValueError(f"levels: there is no rung {unknown[0]!r}. There are: {', '.join(rungs)}.")
        instead = "levels" if self.levels else "largest" if self.largest is not None else None
        idle = [name for name in _REPLACED.get(instead or "", ()) if name in self.model_fields_set]
        if idle:
            raise ValueError(f"{idle[0]} does nothing beside {instead}, which stands in its place: leave one out.")
        return self


def make_arithmetic(options: str, files: Files) -> QuestionTask:
    """Make the task of a rung or of settings; `graded` if nothing is said."""
    config = read_options("arithmetic", options or "graded", ArithmeticConfig, LEVELS)
    name = full_name("arithmetic", options)

    def grade(example: Example, answer: str) -> Grade:
        graded = grade_number(answer, example.extra["number"], marked=config.form == "working")
        return graded if config.form != "equation" else grade_equation(example, answer, graded)

    rewarder = reward_of_grade if config.reward == "shaped" else reward_strictly
    return QuestionTask(name, ASKINGS[config.form], Drawn(name, partial(_draw_from, config), config.n), grade, rewarder)


def grade_equation(example: Example, answer: str, number: Grade) -> Grade:
    """Grade an answer that should be the question, an equals sign and its result; a full stop does not count."""
    left, equals, right = "".join(answer.split()).removesuffix(".").partition("=")
    formatted = bool(equals) and left == "".join(example.question.split()) and right.removeprefix("-").isdecimal()
    return Grade(float(formatted and right == example.extra["number"]), number.lenient, formatted)


def _draw_from(config: ArithmeticConfig, rng: Random) -> Example | None:
    """Draw a question of the settings, or of one of the rungs, which then is its kind."""
    if not config.levels:
        return draw_question(config, rng)
    level = rng.choice(config.levels)
    drawn = draw_question(ArithmeticConfig(**LEVELS[level], form=config.form, n=config.n), rng)
    return drawn and replace(drawn, kind=level)


def draw_question(config: ArithmeticConfig, rng: Random) -> Example | None:
    """Draw one question; None if its result is not asked for: broken, or negative where that is not allowed."""
    if config.largest is None:
        numbers = [_draw_number(rng, config.digits)]
        numbers += [_draw_number(rng, config.by or config.digits) for _ in range(config.steps)]
    else:
        numbers = [rng.randint(0, config.largest) for _ in range(config.steps + 1)]
    rng.shuffle(numbers)
    signs = rng.choices(config.operations, k=config.steps)
    question = " ".join([str(numbers[0]), *(f"{s} {n}" for s, n in zip(signs, numbers[1:], strict=True))])
    lines = work_out(question)
    results = [result for _, result in lines]
    if any(result.denominator > 1 or (result < 0 and not config.negative) for result in results):
        return None
    number = str(results[-1])
    working = "\n".join([*(f"{line} = {result}" for line, result in lines), f"{MARK} {number}"])
    digits = len(number.removeprefix("-"))
    # Terms in any order ask the same; a product's first number is a factor like the others.
    terms = zip(["*" if set(signs) == {"*"} else "+", *signs], numbers, strict=True)
    return Example(
        id="",
        question=question,
        answer={"number": number, "equation": f"{question} = {number}", "working": working}[config.form],
        kind=_NAMES[signs[0]] if config.steps == 1 else f"{config.steps} steps",
        # Among the numbers with as many digits as the right one.
        chance=1 / (10 if digits == 1 else 9 * 10 ** (digits - 1)),
        extra={"number": number, "key": " ".join(sorted(f"{sign}{n}" for sign, n in terms))},
    )


def work_out(question: str) -> list[tuple[str, Fraction]]:
    """Work out `17 + 5 * 2` one operation at a time, products first: [("5 * 2", 10), ("17 + 10", 27)]."""
    tokens = question.split()
    lines: list[tuple[str, Fraction]] = []
    while len(tokens) > 1:
        at = next((i for i, token in enumerate(tokens) if token in ("*", "/")), 1)
        left, sign, right = part = tokens[at - 1 : at + 2]
        result = OPERATIONS[sign](Fraction(left), Fraction(right))
        lines.append((" ".join(part), result))
        tokens[at - 1 : at + 2] = [str(result)]
    return lines


def _draw_number(rng: Random, digits: int) -> int:
    return rng.randrange(10 ** (digits - 1), 10**digits)
