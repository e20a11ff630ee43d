"""CommonsenseQA: five answers are shown with letters, and a letter is the answer.

Source: Talmor et al. 2018, arXiv 1811.00937.
"""

from smidgen.tasks.choice import ChoiceItem
from smidgen.tasks.suite.build import ACCURACY, ChoiceSet
from smidgen.tasks.suite.row import Row, among
from smidgen.tasks.suite.shelf import PublishedSet

_LETTERS = "ABCDE"


def _item(row: Row) -> ChoiceItem:
    texts, _ = row.labelled("choices")
    if len(texts) != len(_LETTERS):
        raise row.error("choices", f"must hold {len(_LETTERS)} answers, not {len(texts)}")
    shown = "\n".join(f"{letter}. {text}" for letter, text in zip(_LETTERS, texts, strict=True))
    context = f"Question: {row.text('question').strip()}\n{shown}\nAnswer:"
    return among(row, context, tuple(_LETTERS), row.position("answerKey", tuple(_LETTERS)))


_PUBLISHED = PublishedSet("commonsense_qa", "validation", 1221, "tau/commonsense_qa")

# The harness gives this task no number; `Yaml` is what it prints.
COMMONSENSE_QA = ChoiceSet("commonsense_qa", "Yaml", "commonsense_qa/default.yaml", _PUBLISHED, ACCURACY, _item)
