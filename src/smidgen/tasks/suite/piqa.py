"""PIQA: which of two ways to reach an everyday goal works? Source: Bisk et al. 2019, arXiv 1911.11641."""

from smidgen.tasks.choice import ChoiceItem
from smidgen.tasks.suite.build import BOTH, ChoiceSet
from smidgen.tasks.suite.row import Row, among
from smidgen.tasks.suite.shelf import PublishedSet


def _item(row: Row) -> ChoiceItem:
    return among(
        row, f"Question: {row.text('goal')}\nAnswer:", [row.text("sol1"), row.text("sol2")], row.index("label", 2)
    )


_PUBLISHED = PublishedSet("piqa", "validation", 1838, "baber/piqa")

PIQA = ChoiceSet("piqa", "1.0", "piqa/piqa.yaml", _PUBLISHED, BOTH, _item)
