"""LAMBADA: the last word of a passage of a novel, which the last sentence alone does not tell. A cloze.

Source: Paperno et al. 2016, arXiv 1606.06031; the form with line breaks and quotes is OpenAI's.
"""

from smidgen.tasks.choice import Choice, ChoiceItem
from smidgen.tasks.suite.build import CLOZE, ChoiceSet
from smidgen.tasks.suite.row import Row
from smidgen.tasks.suite.shelf import PublishedSet


def _item(row: Row) -> ChoiceItem:
    before, _, word = row.text("text").rpartition(" ")
    if not word:
        raise row.error("text", "ends with a space, so there is no last word to ask for")
    return ChoiceItem(row.id, "", (Choice(before, f" {word}"),), 0, (len(word),))


_PUBLISHED = PublishedSet("lambada_openai", "test", 5153, "EleutherAI/lambada_openai", "default")

LAMBADA_OPENAI = ChoiceSet("lambada_openai", "1.0", "lambada/lambada_openai.yaml", _PUBLISHED, CLOZE, _item)
