"""Graders that several tasks share: numbers, choices, likeness to a reference. An answer is any text; none raises."""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from smidgen.tasks.base import Grade, exact_match

MARK = "####"
"""Stands before the final number where working is shown. Source: Cobbe et al. 2021, arXiv 2110.14168 (GSM8K)."""

_NUMBER = re.compile(r"-?[0-9][0-9,]*(?:\.[0-9]+)?")
_WHOLE_NUMBER = re.compile(r"(-?[0-9]+)")
_MARKED_NUMBER = re.compile(rf"(?:.*\n)?{MARK} (-?[0-9]+)", re.DOTALL)
_LONGEST_NUMBER = 40


def last_number(text: str) -> Fraction | None:
    """Return the last number written in digits, thousands separators or not; None if there is none."""
    found = _NUMBER.findall(text)
    return parse_number(found[-1]) if found else None


def parse_number(text: str) -> Fraction | None:
    """Return the value of a decimal number such as `-1,234.50`; None if it is none, or absurdly long."""
    text = text.strip()
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return None
    return Fraction(text.replace(",", ""))


def grade_number(answer: str, right: str, marked: bool = False) -> Grade:
    """Grade an answer whose right form is a whole number alone or, if `marked`, `#### number` as the only marked line.

    Leniently its last number counts, which is what `flexible-extract` of lm-eval looks at.
    """
    given = answer.strip()
    form = _MARKED_NUMBER if marked else _WHOLE_NUMBER
    whole = form.fullmatch(given) if given.count(MARK) == int(marked) else None
    said = whole[1] if whole else None
    found = last_number(given)
    is_right = said == right or (found is not None and found == parse_number(right))
    return Grade(strict=float(said == right), lenient=float(is_right), formatted=whole is not None)


def grade_choice(answer: str, right: str, choices: Sequence[str]) -> Grade:
    """Grade an answer that should be one of some words; leniently it may say more, but only one of them."""
    given = answer.strip()
    said = {choice for choice in choices if re.search(rf"\b{re.escape(choice)}\b", given, re.IGNORECASE)}
    return Grade(strict=float(given == right), lenient=float(said == {right}), formatted=given in choices)


def grade_any(answer: str, rights: Sequence[str], max_words: int) -> Grade:
    """Grade an answer against several right ones: the best grade counts."""
    grades = [exact_match(answer, right, max_words) for right in rights]
    return max(grades, key=lambda grade: (grade.strict, grade.lenient))


def grade_likeness(answer: str, score: Callable[[str], float]) -> Grade:
    """Grade an answer that should be one line of text by its likeness to a reference, from 0 to 1.

    Leniently what `said_line` finds counts; an answer that has more than the one line scores nothing strictly.
    """
    formatted = len([line for line in answer.splitlines() if line.strip()]) == 1
    said = said_line(answer)
    lenient = min(1.0, score(said)) if said else 0.0  # a mean of equal shares may round to 1 + 2e-16
    return Grade(strict=lenient if formatted else 0.0, lenient=lenient, formatted=formatted)


def said_line(answer: str) -> str:
    """Return the first line of an answer; one that only announces it (`Here is the summary:`) is passed over."""
    lines = [line.strip() for line in answer.strip().splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0] if lines else ""
