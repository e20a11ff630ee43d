"""GSM8K as base models are asked it: five worked problems in front, the solution generated.

The chat form of the same problems, with rewards, is `tasks/gsm8k.py`. Source: Cobbe et al. 2021, arXiv 2110.14168.
"""

import re
from collections.abc import Iterator
from functools import partial
from random import Random

from smidgen.errors import DataError
from smidgen.tasks.base import Example, Grade
from smidgen.tasks.completion import CompletionItem, CompletionTask
from smidgen.tasks.suite.build import source_of
from smidgen.tasks.suite.row import Row
from smidgen.tasks.suite.shelf import OpenedSplit, PublishedSet, Shelf

SHOTS = 5
STOPS = ("Question:", "</s>", "<|im_end|>")
MAX_SYMBOLS = 256
"""What the harness allows where a task says nothing."""
FEW_SHOT_SEED = 1234
"""The harness's default. One generator draws for the whole set, so the examples of an item follow from its place."""

_TEST = PublishedSet("gsm8k", "test", 1319, "openai/gsm8k", "main")
_TRAIN = PublishedSet("gsm8k", "train", 7473, "openai/gsm8k", "main")

_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_IGNORED = tuple(map(re.compile, (",", r"\$", r"(?s).*#### ", r"\.$")))


def make_gsm8k(shelf: Shelf) -> CompletionTask:
    """Make the task from the test split, with worked examples of the training split."""
    test, train = (shelf.open("gsm8k", split) for split in (_TEST, _TRAIN))
    return CompletionTask(
        name="gsm8k",
        version="3.0",
        source=source_of("gsm8k/gsm8k.yaml"),
        shots=SHOTS,
        published=_TEST.rows,
        read=partial(_read, test, train),
        grader=grade,
        notes=test.notes,
    )


def grade(example: Example, text: str) -> Grade:
    """Grade by the first number behind #### (strict-match) and by the last number there is (flexible-extract).

    Both filters as the harness runs them, apart from each other: a text whose first marked number is right and whose
    last number is another one is right strictly and wrong leniently.
    """
    marked, found = _STRICT.findall(text), _FLEXIBLE.findall(text)
    right = _plain(example.answer)
    strict, lenient = (bool(said) and _plain(said[place]) == right for said, place in ((marked, 0), (found, -1)))
    return Grade(float(strict), float(lenient), formatted=bool(marked))


def _plain(said: str) -> str:
    for pattern in _IGNORED:
        said = pattern.sub("", said)
    return said.lower()


def _read(test: OpenedSplit, train: OpenedSplit) -> Iterator[CompletionItem]:
    pool = [f"{_asked(row)} {_solution(row)}\n\n" for row in train.rows()]
    if len(pool) < SHOTS:
        raise DataError(f"{train.paths[0]}: has {len(pool)} rows, and {SHOTS} worked examples are shown.")
    rng = Random(FEW_SHOT_SEED)
    for row in test.rows():
        context = "".join(rng.sample(pool, SHOTS)) + _asked(row)
        example = Example(row.id, row.text("question"), _solution(row))
        yield CompletionItem(row.id, context, STOPS, MAX_SYMBOLS, example)


def _asked(row: Row) -> str:
    return f"Question: {row.text('question')}\nAnswer:"


def _solution(row: Row) -> str:
    answer = row.text("answer")
    if not _STRICT.search(answer):
        raise row.error("answer", "must end with a line `#### number`")
    return answer
