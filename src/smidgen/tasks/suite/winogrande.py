"""WinoGrande: whom does the sentence mean? Both names are put in the gap, and what follows the gap is scored.

"Partial evaluation": the candidates differ in the context and share the continuation.
Source: Sakaguchi et al. 2019, arXiv 1907.10641; Trinh and Le 2018, arXiv 1806.02847 (partial scoring).
"""

from smidgen.tasks.choice import Choice, ChoiceItem
from smidgen.tasks.suite.build import ACCURACY, ChoiceSet
from smidgen.tasks.suite.row import Row
from smidgen.tasks.suite.shelf import PublishedSet


def _item(row: Row) -> ChoiceItem:
    before, gap, after = row.text("sentence").partition("_")
    if not gap or not after.strip():
        raise row.error("sentence", "must have a gap _ and something behind it")
    contexts = [before + row.text(option) for option in ("option1", "option2")]
    choices = tuple(Choice(context, f" {after.strip()}") for context in contexts)
    return ChoiceItem(row.id, "", choices, row.position("answer", ("1", "2")), tuple(map(len, contexts)))


_PUBLISHED = PublishedSet("winogrande", "validation", 1267, "allenai/winogrande", "winogrande_xl")

WINOGRANDE = ChoiceSet("winogrande", "1.0", "winogrande/default.yaml", _PUBLISHED, ACCURACY, _item)
