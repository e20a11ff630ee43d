"""SciQ: questions of science, after a passage that may help. Source: Welbl et al. 2017, arXiv 1707.06209."""

from smidgen.tasks.choice import ChoiceItem
from smidgen.tasks.suite.build import BOTH, ChoiceSet
from smidgen.tasks.suite.row import Row, among
from smidgen.tasks.suite.shelf import PublishedSet

_COLUMNS = ("distractor1", "distractor2", "distractor3", "correct_answer")


def _item(row: Row) -> ChoiceItem:
    context = f"{row.text('support', may_be_empty=True).lstrip()}\nQuestion: {row.text('question')}\nAnswer:"
    return among(row, context, [row.text(column) for column in _COLUMNS], _COLUMNS.index("correct_answer"))


_PUBLISHED = PublishedSet("sciq", "test", 1000, "allenai/sciq", instead=("validation",))

SCIQ = ChoiceSet("sciq", "1.0", "sciq/sciq.yaml", _PUBLISHED, BOTH, _item)
