"""A task made of a person's own table: a column of questions and a column of answers."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from smidgen.config import Config
from smidgen.data.formats import Record
from smidgen.errors import DataError
from smidgen.tasks.base import Example, Grade, normalize_answer
from smidgen.tasks.files import Files, field_of, read_rows, shown
from smidgen.tasks.grading import grade_any, grade_number, last_number
from smidgen.tasks.options import full_name, read_options
from smidgen.tasks.question import QuestionTask
from smidgen.tasks.sources import TEST_SHARE, Listed, is_for_test
from smidgen.tasks.summarization import measure_summaries, rouge_grader
from smidgen.tasks.translation import chrf_grader, measure_translations

QUESTIONS = ("question", "prompt", "input", "instruction", "text", "sentence", "source")
"""Columns that are taken for the question, the first there is."""
ANSWERS = ("answer", "answers", "response", "output", "target", "completion", "label", "summary")
"""Columns that are taken for the answer, the first there is."""

_MORE_WORDS = 4
"""An answer with so many words more than the longest right one is no answer in the asked form."""


class TableConfig(Config):
    """Which columns a task is made of, and how it grades."""

    question: str | None = None
    """Column of the questions; None: the first of the usual names."""
    answer: str | None = None
    """Column of the answers: text, a number, or a list of texts that are all right; None: as for the questions."""
    grade: Literal["exact", "number", "chrf", "rouge"] | None = None
    """How answers are graded; None: as numbers if every answer is a whole number, else by exact match."""
    test: Path | None = None
    """File of the test set; None: a quarter of the questions is kept for it, decided by their text."""


def make_table(path: Path, options: str, files: Files) -> QuestionTask:
    """Make a task of a .jsonl, .json, .csv, .tsv or .parquet file.

    Raises DataError for a file that cannot be read, is empty, or lacks a column or an answer, with the place.
    """
    config = read_options(str(path), options, TableConfig)
    examples = read_examples(path, config)
    tested = read_examples(config.test, config) if config.test else []
    kind = config.grade or ("number" if all(map(_is_whole_number, [*examples, *tested])) else "exact")
    change = {"number": _with_number, "chrf": _on_one_line, "rouge": _on_one_line}.get(kind)
    if change:
        examples, tested = list(map(change, examples)), list(map(change, tested))
    grader = _grader(kind, [*examples, *tested])
    if not tested:
        kept = [is_for_test(normalize_answer(example.question)) for example in examples]
        tested = [example for example, test in zip(examples, kept, strict=True) if test]
        examples = [example for example, test in zip(examples, kept, strict=True) if not test]
        if not (tested and examples):
            raise DataError(
                f"{path}: questions: {len(kept)}, too few to keep one in {TEST_SHARE} for the test. "
                f"Add some, or name a test file: {path}:test=FILE"
            )
    name = full_name(path.name, options)
    measurer = {"chrf": measure_translations, "rouge": measure_summaries}.get(kind)
    source = Listed(name, lambda: examples, lambda: tested, files.say)
    return QuestionTask(name, "{question}", source, grader, measurer=measurer)


def read_examples(path: Path, config: TableConfig) -> list[Example]:
    """Read the questions and answers of a table."""
    examples: list[Example] = []
    names: tuple[str, str] | None = None
    for row in read_rows(path):
        names = names or (
            _column("question", config.question, QUESTIONS, row, path),
            _column("answer", config.answer, ANSWERS, row, path),
        )
        question = field_of(row, path, names[0])
        if not isinstance(question, str) or not question.strip():
            raise DataError(f"{path.parent / row.where}: question '{names[0]}' must be text, not {shown(question)}.")
        rights = _rights(field_of(row, path, names[1]))
        if not rights:
            found = shown(row.fields[names[1]])
            raise DataError(f"{path.parent / row.where}: answer '{names[1]}' must be text or a number, not {found}.")
        name = f"{path.name}/{len(examples)}"
        extra = {"references": rights, "where": str(path.parent / row.where)}
        examples.append(Example(name, question.strip(), rights[0], extra=extra))
    if not examples:
        raise DataError(f'{path}: is empty. Each line should be like {{"question": "...", "answer": "..."}}.')
    return examples


def _column(what: str, asked: str | None, usual: Sequence[str], row: Record, path: Path) -> str:
    found = asked if asked in row.fields else None if asked else next((c for c in usual if c in row.fields), None)
    if found is None:
        missing = f"no column '{asked}'" if asked else f"no column for the {what} ({', '.join(usual)})"
        columns = ", ".join(map(str, row.fields)) or "none"
        raise DataError(f"{path}: {missing}; its columns: {columns}. Name it: {path}:{what}=COLUMN")
    return found


def _rights(value: Any) -> list[str]:
    """Return the right answers of a cell; none if it holds no answer."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(v, str | int | float) for v in values):
        return []
    # As JSON writes them: true, not True.
    texts = [str(v).lower() if isinstance(v, bool) else str(v).strip() for v in values]
    return texts if all(texts) else []


def _grader(kind: str, examples: Sequence[Example]) -> Callable[[Example, str], Grade]:
    longest = max(len(right.split()) for example in examples for right in example.extra["references"])
    graders: Mapping[str, Callable[[], Callable[[Example, str], Grade]]] = {
        "number": lambda: lambda example, answer: grade_number(answer, example.answer),
        "exact": lambda: lambda example, answer: grade_any(answer, example.extra["references"], longest + _MORE_WORDS),
        "chrf": chrf_grader,
        "rouge": rouge_grader,
    }
    return graders[kind]()


def _is_whole_number(example: Example) -> bool:
    """Tell whether the answer is a number as one would write it; 007 is a name, and 1 or `one` is no number alone."""
    return len(example.extra["references"]) == 1 and re.fullmatch("0|-?[1-9][0-9]{0,39}", example.answer) is not None


def _with_number(example: Example) -> Example:
    """Return the example with the last number of its answer as the answer."""
    number = last_number(example.answer)
    if number is None or number.denominator > 1:
        said = f"answer {shown(example.answer)} is no whole number, and it should be graded as one"
        raise DataError(f"{example.extra['where']}: {said}.")
    return replace(example, answer=str(number))


def _on_one_line(example: Example) -> Example:
    """Return the example with each reference on one line, which is the form likeness is graded in."""
    references = [" ".join(right.split()) for right in example.extra["references"]]
    return replace(example, answer=references[0], extra=example.extra | {"references": references})
