"""ARC: questions of school examinations in science, the easy ones and the challenge.

Source: Clark et al. 2018, arXiv 1803.05457.
"""

from smidgen.tasks.choice import ChoiceItem
from smidgen.tasks.suite.build import BOTH, ChoiceSet
from smidgen.tasks.suite.row import Row, among
from smidgen.tasks.suite.shelf import PublishedSet


def _item(row: Row) -> ChoiceItem:
    texts, labels = row.labelled("choices")
    return among(row, f"Question: {row.text('question')}\nAnswer:", texts, row.position("answerKey", labels))


_EASY = PublishedSet("arc_easy", "test", 2376, "allenai/ai2_arc", "ARC-Easy")
_CHALLENGE = PublishedSet("arc_challenge", "test", 1172, "allenai/ai2_arc", "ARC-Challenge")

ARC_EASY = ChoiceSet("arc_easy", "1.0", "arc/arc_easy.yaml", _EASY, BOTH, _item)
ARC_CHALLENGE = ChoiceSet("arc_challenge", "1.0", "arc/arc_challenge.yaml", _CHALLENGE, BOTH, _item)
