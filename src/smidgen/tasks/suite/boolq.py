"""BoolQ: yes or no, after a passage. Source: Clark et al. 2019, arXiv 1905.10044."""

from smidgen.tasks.choice import ChoiceItem
from smidgen.tasks.suite.build import ACCURACY, ChoiceSet
from smidgen.tasks.suite.row import Row, among
from smidgen.tasks.suite.shelf import PublishedSet


def _item(row: Row) -> ChoiceItem:
    context = f"{row.text('passage')}\nQuestion: {row.text('question')}?\nAnswer:"
    return among(row, context, ("no", "yes"), row.index("label", 2))


def _remark(row: Row) -> tuple[str, ...]:
    """Tell SuperGLUE's passages, which the harness reads, from the same ones as google/boolq has them."""
    return () if " -- " in row.text("passage") else ("passages without the titles that SuperGLUE's begin with",)


_PUBLISHED = PublishedSet("boolq", "validation", 3270, "aps/super_glue", "boolq")

BOOLQ = ChoiceSet("boolq", "2.0", "super_glue/boolq/default.yaml", _PUBLISHED, ACCURACY, _item, _remark)
