"""Dialogue: which of four replies is the one that was really given? From local files of everyday conversations.

Choosing, not writing: there are many good replies, so likeness to the one that was given says next to nothing about
the quality of another (Liu et al. 2016, arXiv 1603.08023), and a reward made of it teaches `I don't know`. A choice has
an exact grade and a known chance, and cannot be won without reading the conversation.
Source: Lowe et al. 2015, arXiv 1506.08909 (choosing the next turn); Li et al. 2017, arXiv 1710.03957 (DailyDialog).
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

from pydantic import Field

from smidgen.config import Config
from smidgen.errors import DataError
from smidgen.tasks.base import Example, Grade, normalize_answer
from smidgen.tasks.files import Files, field_of, read_rows
from smidgen.tasks.options import full_name, read_options
from smidgen.tasks.question import QuestionTask
from smidgen.tasks.sources import Listed

_ASKING = "{question}\n\nWhich reply comes next? Answer with one letter: {letters}."
_LETTERS = "ABCDEFGH"
_LEADING_LETTER = re.compile(r"([A-H])(?:[).:,]|$)")
_ANY_LETTER = re.compile(r"\b(?:[B-H]\b|A\b(?!\s+(?!(?:and|or|is|because|comes)\b)[a-z]))")
"""A letter on its own; an A before a word is an article, unless the word goes on about the letter."""


class DialogueConfig(Config):
    """How a conversation is asked about."""

    replies: int = Field(default=4, ge=2, le=8)
    """Replies to choose from; all but one are of other conversations."""
    turns: int = Field(default=6, ge=1)
    """Most turns shown before the reply."""


def make_dialogue(options: str, files: Files) -> QuestionTask:
    """Make the task from `daily_dialog`."""
    config = read_options("dialogue", options, DialogueConfig)
    name = full_name("dialogue", options)
    train = files.find_training("dialogue", "daily_dialog")
    test = files.find("dialogue", "daily_dialog", ("test",))
    letters = ", ".join(_LETTERS[: config.replies - 1]) + f" or {_LETTERS[config.replies - 1]}"
    source = Listed(name, partial(_read, train, config), partial(_read, test, config), files.say)
    return QuestionTask(name, _ASKING.replace("{letters}", letters), source, grade)


def grade(example: Example, answer: str) -> Grade:
    """Grade the letter; leniently it may be followed by the reply, be the only one in a sentence, or be the reply."""
    given = answer.strip()
    leading = _LEADING_LETTER.match(given)
    letters = {leading[1]} if leading else set(_ANY_LETTER.findall(given))
    quoted = given != "" and normalize_answer(given) == normalize_answer(example.extra["reply"])
    lenient = letters == {example.answer} or quoted
    return Grade(float(given == example.answer), float(lenient), given in example.extra["letters"])


def _read(path: Path, config: DialogueConfig) -> Iterator[Example]:
    conversations = list(_conversations(path))
    split = path.name.partition(".")[0]
    for index, turns in enumerate(conversations):
        rng = Random(f"{split}/{index}")
        at = rng.randrange(1, len(turns))
        replies = {normalize_answer(turns[at]): turns[at]}
        for other in rng.sample(range(len(conversations)), len(conversations)):
            if len(replies) == config.replies:
                break
            reply = rng.choice(conversations[other][1:])
            replies.setdefault(normalize_answer(reply), reply)
        if len(replies) < config.replies:
            raise DataError(f"{path}: has not {config.replies} different replies to choose from.")
        order = rng.sample(list(replies.values()), len(replies))
        start = max(0, at - config.turns)
        lines = [f"Speaker {(start + n) % 2 + 1}: {turn}" for n, turn in enumerate(turns[start:at])]
        choices = [f"{letter}) {reply}" for letter, reply in zip(_LETTERS, order, strict=False)]
        yield Example(
            id=f"dialogue/{split}/{index}",
            question="\n".join([*lines, "", *choices]),
            answer=_LETTERS[order.index(turns[at])],
            kind=f"{len(lines)} turn{'s' * (len(lines) > 1)}",
            chance=1 / config.replies,
            extra={"reply": turns[at], "letters": tuple(_LETTERS[: config.replies]), "key": " ".join(turns)},
        )


def _conversations(path: Path) -> Iterator[list[str]]:
    for row in read_rows(path):
        turns = field_of(row, path, "dialog")
        if not (isinstance(turns, list) and len(turns) > 1 and all(isinstance(turn, str) for turn in turns)):
            raise DataError(f"{path.parent / row.where}: column 'dialog' must be a list of two turns or more.")
        yield [_join_tokens(turn) for turn in turns]


def _join_tokens(turn: str) -> str:
    """Undo the spaces that the data set puts before punctuation and around apostrophes."""
    turn = re.sub(r"\s+([,.!?;:%)])", r"\1", " ".join(turn.split()))
    return re.sub(r"(\w)\s*['’]\s*(s|t|m|d|re|ve|ll)\b", r"\1'\2", turn)
