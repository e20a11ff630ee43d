"""Translation of image captions, from local files: each graded by chrF, all together measured by BLEU and chrF.

chrF compares character n-grams, so it sees progress where a tiny model gets word stems right and endings wrong, and
needs no tokenizer. The mean over sentences is some points from the chrF of the whole corpus, which is what papers
report, as they do BLEU; a sentence alone has no BLEU worth the name.
Source: Popovic 2015, doi 10.18653/v1/W15-3049; Papineni et al. 2002, aclanthology.org/P02-1040; Post 2018, arXiv
1804.08771 (sacrebleu); Elliott et al. 2016, arXiv 1605.00459 (Multi30k).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from smidgen.config import Config
from smidgen.errors import ConfigError, MissingExtraError
from smidgen.tasks.base import Example, Grade
from smidgen.tasks.files import Files, read_rows, text_of
from smidgen.tasks.grading import grade_likeness, said_line
from smidgen.tasks.options import full_name, read_options
from smidgen.tasks.question import Measure, QuestionTask
from smidgen.tasks.sources import Listed

LANGUAGES: Mapping[str, str] = {"en": "English", "de": "German", "fr": "French", "cs": "Czech"}
"""The languages of Multi30k."""

Language = Literal["en", "de", "fr", "cs"]

_ASKING = "Translate into {language}: {{question}}\n\nAnswer with the translation alone, on one line."


class TranslationConfig(Config):
    """From which language into which."""

    source: Language = "en"
    """What is translated."""
    target: Language = "de"
    """Into what."""
    test: str = "test_2016_flickr"
    """The split that is the test set."""


def make_translation(options: str, files: Files) -> QuestionTask:
    """Make the task from `multi30k/train.jsonl` and the test split; English into German if nothing is said."""
    presets = {name: {"target": name} for name in LANGUAGES}
    config = read_options("translation", options, TranslationConfig, presets)
    if config.source == config.target:
        raise ConfigError(
            f"--task translation: from {config.source} into {config.target} there is nothing to translate."
        )
    name = full_name("translation", options)
    train, test = (files.find("translation", "multi30k", (split,)) for split in ("train", config.test))
    source = Listed(name, partial(_read, train, config), partial(_read, test, config), files.say)
    return QuestionTask(
        name, _ASKING.format(language=LANGUAGES[config.target]), source, chrf_grader(), measurer=measure_translations
    )


def chrf_grader() -> Callable[[Example, str], Grade]:
    """Return a grader by chrF, best over the references. Raises MissingExtraError without the extra `tasks`."""
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise MissingExtraError("Grading by chrF", "tasks") from None
    chrf = CHRF()

    def grade(example: Example, answer: str) -> Grade:
        references = example.extra.get("references", [example.answer])
        return grade_likeness(answer, lambda said: chrf.sentence_score(said, references).score / 100)

    return grade


def measure_translations(examples: Sequence[Example], answers: Sequence[str]) -> list[Measure]:
    """Return BLEU and chrF of the corpus, with sacrebleu's signatures; of each answer the line counts that grades do.

    Raises MissingExtraError without the extra `tasks`.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise MissingExtraError("Measuring by BLEU and chrF", "tasks") from None
    said = [said_line(answer) for answer in answers]
    # One list a reference, as sacrebleu wants them; an example may have fewer than another, which is None there.
    references = list(zip_longest(*(example.extra.get("references", [example.answer]) for example in examples)))
    measures = []
    for name, metric in (("BLEU", BLEU()), ("chrF", CHRF())):
        value = metric.corpus_score(said, references).score
        measures.append(Measure(name, value, str(metric.get_signature())))
    return measures


def _read(path: Path, config: TranslationConfig) -> Iterator[Example]:
    for number, row in enumerate(read_rows(path)):
        texts = text_of(row, path, config.source), text_of(row, path, config.target)
        yield Example(f"translation/{path.name.partition('.')[0]}/{number}", *texts, kind=config.target)
