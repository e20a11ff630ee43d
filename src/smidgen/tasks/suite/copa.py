"""COPA: which is the cause, or the effect? Source: Roemmele et al. 2011, AAAI Spring Symposium; SuperGLUE's rows."""

from smidgen.tasks.choice import ChoiceItem
from smidgen.tasks.suite.build import ACCURACY, ChoiceSet
from smidgen.tasks.suite.row import Row, among
from smidgen.tasks.suite.shelf import PublishedSet

_QUESTIONS = ("cause", "effect")
_CONNECTORS = ("because", "therefore")


def _item(row: Row) -> ChoiceItem:
    """Make the item. Its continuations begin with two spaces: the harness's choices have one, its delimiter another."""
    connector = _CONNECTORS[row.position("question", _QUESTIONS)]
    context = f"{row.text('premise').strip()[:-1]} {connector}"
    choices = [row.text(column) for column in ("choice1", "choice2")]
    texts = [f" {choice[0].lower()}{choice[1:]}" for choice in choices]
    # The harness looks for the right text, and of two equal ones finds the first.
    return among(row, context, texts, texts.index(texts[row.index("label", 2)]))


_PUBLISHED = PublishedSet("copa", "validation", 100, "aps/super_glue", "copa")

COPA = ChoiceSet("copa", "1.0", "super_glue/copa/default.yaml", _PUBLISHED, ACCURACY, _item)
