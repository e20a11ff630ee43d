"""GSM8K: word problems of grade-school mathematics, from local files, graded as lm-eval-harness grades them.

Source: Cobbe et al. 2021, arXiv 2110.14168; the two extractions are `strict-match` and `flexible-extract` of
github.com/EleutherAI/lm-evaluation-harness, lm_eval/tasks/gsm8k/gsm8k.yaml (version 3).
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from smidgen.config import Config
from smidgen.errors import DataError
from smidgen.tasks.base import Example, Grade
from smidgen.tasks.files import Files, field_of, read_rows
from smidgen.tasks.grading import MARK
from smidgen.tasks.options import full_name, read_options
from smidgen.tasks.question import QuestionTask
from smidgen.tasks.sources import Listed

_ASKING = f"{{question}}\n\nWork it out step by step, then end with a line of {MARK} and the number."
_STRICT = re.compile(rf"{MARK} (-?[0-9.,]+)")
_FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_CALCULATOR = re.compile(r"<<[^<>]*>>")
"""Notes for a calculator inside the solutions, `48/2 = <<48/2=24>>24`: no model here has one."""


class Gsm8kConfig(Config):
    """GSM8K has no options."""


def make_gsm8k(options: str, files: Files) -> QuestionTask:
    """Make the task from `gsm8k/train.jsonl` and `gsm8k/test.jsonl`."""
    read_options("gsm8k", options, Gsm8kConfig)
    name = full_name("gsm8k", options)
    train, test = (files.find("gsm8k", "gsm8k", (split,)) for split in ("train", "test"))
    source = Listed(name, partial(_read, train, "train"), partial(_read, test, "test"), files.say)
    return QuestionTask(name, _ASKING, source, grade)


def grade(example: Example, answer: str) -> Grade:
    """Grade the number after the first ####; leniently the last number of the answer."""
    marked = _STRICT.search(answer)
    found = _FLEXIBLE.findall(answer)
    right = example.extra["number"]
    strict = marked is not None and _plain(marked[1]) == right
    return Grade(float(strict), float(strict or bool(found and _plain(found[-1]) == right)), marked is not None)


def _read(path: Path, split: str) -> Iterator[Example]:
    for number, row in enumerate(read_rows(path)):
        question, answer = (str(field_of(row, path, name)).strip() for name in ("question", "answer"))
        marked = _STRICT.search(answer)
        if marked is None:
            raise DataError(f"{path.parent / row.where}: the answer has no line `{MARK} number`.")
        solution = _CALCULATOR.sub("", answer)
        yield Example(f"gsm8k/{split}/{number}", question, solution, extra={"number": _plain(marked[1])})


def _plain(number: str) -> str:
    """Return a number without what lm-eval ignores: commas, dollar signs, a full stop at the end."""
    return re.sub(r"[,$]", "", number).removesuffix(".")
