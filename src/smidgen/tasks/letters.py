"""Letter counting: how often a letter stands in a word. Models that read tokens never see the letters."""

import re
from functools import cache, partial
from random import Random

from pydantic import Field

from smidgen.config import Config
from smidgen.data.village.words import lists, vocabulary
from smidgen.tasks.base import Example, Grade
from smidgen.tasks.files import Files
from smidgen.tasks.grading import grade_number
from smidgen.tasks.options import full_name, read_options
from smidgen.tasks.question import QuestionTask
from smidgen.tasks.sources import Drawn

_ASKING = "How many times does {question}? Answer with the number alone."
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class LettersConfig(Config):
    """How long the text is in which letters are counted."""

    words: int = Field(default=1, ge=1, le=8)
    """Words of it."""
    n: int = Field(default=1000, ge=1)
    """Most questions of the test set."""


def make_letters(options: str, files: Files) -> QuestionTask:
    """Make the task; one word if nothing is said."""
    config = read_options("letters", options, LettersConfig)
    name = full_name("letters", options)
    return QuestionTask(name, _ASKING, Drawn(name, partial(_draw, config), config.n), _grade)


def _grade(example: Example, answer: str) -> Grade:
    return grade_number(answer, example.answer)


def _draw(config: LettersConfig, rng: Random) -> Example:
    """Draw words, then a count that some letter has in them, then such a letter: so that every count is as likely."""
    text = " ".join(rng.choice(plain_words()) for _ in range(config.words))
    by_count: dict[int, list[str]] = {}
    for letter in _LETTERS:
        by_count.setdefault(text.count(letter), []).append(letter)
    count = rng.choice(sorted(by_count))
    where = f'the word "{text}"' if config.words == 1 else f'the text "{text}"'
    return Example(
        id="",
        question=f'the letter "{rng.choice(by_count[count])}" occur in {where}',
        answer=str(count),
        kind=f"{config.words} word{'s' * (config.words > 1)}",
        chance=1 / len(by_count),
        extra={"key": text},  # words of the test are never trained on, whichever the letter
    )


@cache
def plain_words() -> tuple[str, ...]:
    """Return about 1,200 ordinary words of the village's lists, lower-case letters only."""
    named = [word.text for word in vocabulary().by_text.values() if word.role != "person"]
    described = [word for words in lists("lexicon.txt").values() for word in words]
    return tuple(sorted({word for word in (*named, *described) if re.fullmatch("[a-z]{3,}", word)}))
