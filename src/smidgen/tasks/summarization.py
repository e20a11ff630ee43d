"""Summaries in one sentence, of everyday dialogues or of scientific abstracts, from local files, graded by ROUGE-L.

The F-measure, best over the references: recall alone would reward copying the whole text.
Source: Lin 2004, aclanthology.org/W04-1013; Chen et al. 2021, arXiv 2105.06762 (DialogSum); Cachola et al. 2020,
arXiv 2004.15011 (SciTLDR).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from smidgen.config import Config
from smidgen.errors import DataError, MissingExtraError
from smidgen.tasks.base import Example, Grade
from smidgen.tasks.files import Files, Record, field_of, read_rows, text_of
from smidgen.tasks.grading import grade_likeness, said_line
from smidgen.tasks.options import full_name, read_options
from smidgen.tasks.question import Measure, QuestionTask
from smidgen.tasks.sources import Listed

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

_ASKING = "{{question}}\n\nSummarize this {what} in one sentence. Answer with the sentence alone."


class SummarizationConfig(Config):
    """What is summarized."""

    set: Literal["dialogsum", "scitldr"] = "dialogsum"
    """The data set, and the folder it is in."""


def make_summarization(options: str, files: Files) -> QuestionTask:
    """Make the task; dialogues if nothing is said."""
    config = read_options("summarization", options, SummarizationConfig, {name: {"set": name} for name in SETS})
    name = full_name("summarization", options)
    what, read = SETS[config.set]
    train = files.find_training("summarization", config.set)
    test = files.find("summarization", config.set, ("test",))
    source = Listed(name, partial(_read, train, read), partial(_read, test, read), files.say)
    return QuestionTask(name, _ASKING.format(what=what), source, rouge_grader(), measurer=measure_summaries)


def rouge_grader() -> Callable[[Example, str], Grade]:
    """Return a grader by ROUGE-L, best over the references. Raises MissingExtraError without the extra `tasks`."""
    scorer = _rouge("rougeL")

    def grade(example: Example, answer: str) -> Grade:
        references = example.extra.get("references", [example.answer])
        return grade_likeness(answer, lambda said: scorer.score_multi(references, said)["rougeL"].fmeasure)

    return grade


def measure_summaries(examples: Sequence[Example], answers: Sequence[str]) -> list[Measure]:
    """Return mean ROUGE-1, ROUGE-2 and ROUGE-L; of each answer the line counts that grades do.

    Raises MissingExtraError without the extra `tasks`.
    """
    names = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
    scorer = _rouge(*names)
    how = f"rouge-score {version('rouge-score')}, F-measure, stemmed, best of the references"
    totals = dict.fromkeys(names, 0.0)
    for example, answer in zip(examples, answers, strict=True):
        scores = [scorer.score(right, said_line(answer)) for right in example.extra.get("references", [example.answer])]
        for name in names:
            totals[name] += max(score[name].fmeasure for score in scores)
    return [Measure(names[name], 100 * total / len(examples), how) for name, total in totals.items()]


def _rouge(*names: str) -> "RougeScorer":
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise MissingExtraError("Grading by ROUGE", "tasks") from None
    return RougeScorer(list(names), use_stemmer=True)


def _read(path: Path, read: Callable[[Record, Path], tuple[str, list[str]]]) -> Iterator[Example]:
    for number, row in enumerate(read_rows(path)):
        text, references = read(row, path)
        name = f"summarization/{path.name.partition('.')[0]}/{number}"
        yield Example(name, text, references[0], extra={"references": references})


def _read_dialogue(row: Record, path: Path) -> tuple[str, list[str]]:
    """Read a dialogue, a line a turn, and its one or three summaries."""
    columns = [name for name in ("summary", "summary1", "summary2", "summary3") if name in row.fields]
    return str(field_of(row, path, "dialogue")).strip(), [text_of(row, path, name) for name in columns or ["summary"]]


def _read_abstract(row: Record, path: Path) -> tuple[str, list[str]]:
    """Read the sentences of an abstract and its one-sentence summaries."""
    sentences, summaries = (field_of(row, path, name) for name in ("source", "target"))
    if not (isinstance(sentences, list) and isinstance(summaries, list) and sentences and summaries):
        raise DataError(f"{path.parent / row.where}: columns 'source' and 'target' must be lists of sentences.")
    return " ".join(" ".join(map(str, sentences)).split()), [" ".join(str(summary).split()) for summary in summaries]


SETS: Mapping[str, tuple[str, Callable[[Record, Path], tuple[str, list[str]]]]] = {
    "dialogsum": ("dialogue", _read_dialogue),
    "scitldr": ("abstract", _read_abstract),
}
"""What the texts of a set are, and how a row of it is read."""
