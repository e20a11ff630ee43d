"""HellaSwag: which sentence goes on with a description of everyday activity?

Source: Zellers et al. 2019, arXiv 1905.07830.
"""

import re

from smidgen.tasks.choice import ChoiceItem
from smidgen.tasks.suite.build import BOTH, ChoiceSet
from smidgen.tasks.suite.row import Row, among
from smidgen.tasks.suite.shelf import PublishedSet


def _clean(text: str) -> str:
    """Remove what WikiHow's mark-up left in the rows, in the harness's order: one pass over double spaces, no more."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def _item(row: Row) -> ChoiceItem:
    beginning = row.text("ctx_a", may_be_empty=True), row.text("ctx_b", may_be_empty=True).capitalize()
    context = _clean(f"{row.text('activity_label')}: {' '.join(beginning)}")
    endings = [_clean(ending) for ending in row.texts("endings")]
    if "" in endings:
        raise row.error("endings", f"holds nothing but mark-up in number {endings.index('')}")
    return among(row, context, endings, row.index("label", len(endings)))


_PUBLISHED = PublishedSet("hellaswag", "validation", 10042, "Rowan/hellaswag")

HELLASWAG = ChoiceSet("hellaswag", "1.0", "hellaswag/hellaswag.yaml", _PUBLISHED, BOTH, _item)
