"""Sentiment: is a sentence of a film review positive or negative? From local files."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from smidgen.config import Config
from smidgen.errors import DataError
from smidgen.tasks.base import Example, Grade
from smidgen.tasks.files import Files, field_of, read_rows, shown, text_of
from smidgen.tasks.grading import grade_choice
from smidgen.tasks.options import full_name, read_options
from smidgen.tasks.question import QuestionTask
from smidgen.tasks.sources import Listed

LABELS = ("negative", "positive")
"""The answer for the labels 0 and 1."""

_ASKING = "Review: {question}\n\nIs this review positive or negative? Answer with one word: positive or negative."


class Set(NamedTuple):
    """A data set: the column with the sentence, and the split that is the test."""

    column: str
    test: str


SETS: Mapping[str, Set] = {
    "sst2": Set("sentence", "validation"),  # the labels of its test split are not published
    "sentence_polarity": Set("text", "test"),
}
"""Socher et al. 2013 (SST-2 of GLUE); Pang and Lee 2005, arXiv cs/0506075."""


class SentimentConfig(Config):
    """Which reviews."""

    set: Literal["sst2", "sentence_polarity"] = "sst2"
    """The data set, and the folder it is in."""


def make_sentiment(options: str, files: Files) -> QuestionTask:
    """Make the task; sst2 if nothing is said."""
    config = read_options("sentiment", options, SentimentConfig, {name: {"set": name} for name in SETS})
    name = full_name("sentiment", options)
    column, split = SETS[config.set]
    train, test = (files.find("sentiment", config.set, (part,)) for part in ("train", split))
    source = Listed(name, partial(_read, train, column), partial(_read, test, column), files.say)
    return QuestionTask(name, _ASKING, source, _grade)


def _grade(example: Example, answer: str) -> Grade:
    return grade_choice(answer, example.answer, LABELS)


def _read(path: Path, column: str) -> Iterator[Example]:
    for number, row in enumerate(read_rows(path)):
        label = field_of(row, path, "label")
        if str(label) not in ("0", "1"):
            raise DataError(
                f"{path.parent / row.where}: label must be 0 (negative) or 1 (positive), not {shown(label)}."
            )
        answer = LABELS[int(label)]
        split = path.name.partition(".")[0]
        yield Example(f"sentiment/{split}/{number}", text_of(row, path, column), answer, kind=answer, chance=0.5)
