"""OpenBookQA: elementary science that takes a fact and common sense; the sentence is gone on with, without a prompt.

Source: Mihaylov et al. 2018, arXiv 1809.02789.
"""

from smidgen.tasks.choice import ChoiceItem
from smidgen.tasks.suite.build import BOTH, ChoiceSet
from smidgen.tasks.suite.row import Row, among
from smidgen.tasks.suite.shelf import PublishedSet


def _item(row: Row) -> ChoiceItem:
    texts, labels = row.labelled("choices")
    return among(row, row.text("question_stem"), texts, row.position("answerKey", labels, strip=True))


_PUBLISHED = PublishedSet("openbookqa", "test", 500, "allenai/openbookqa", "main")

OPENBOOKQA = ChoiceSet("openbookqa", "1.0", "openbookqa/openbookqa.yaml", _PUBLISHED, BOTH, _item)
