"""SST-2: is a phrase of a film review positive or negative? Source: Socher et al. 2013, aclanthology.org/D13-1170."""

from smidgen.tasks.choice import ChoiceItem
from smidgen.tasks.suite.build import ACCURACY, ChoiceSet
from smidgen.tasks.suite.row import Row, among
from smidgen.tasks.suite.shelf import PublishedSet


def _item(row: Row) -> ChoiceItem:
    context = f"{row.text('sentence')}\nQuestion: Is this sentence positive or negative?\nAnswer:"
    return among(row, context, ("negative", "positive"), row.index("label", 2))


_PUBLISHED = PublishedSet("sst2", "validation", 872, "nyu-mll/glue", "sst2")

SST2 = ChoiceSet("sst2", "1.0", "glue/sst2/default.yaml", _PUBLISHED, ACCURACY, _item)
