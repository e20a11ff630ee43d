"""What a set of the suite is before its files are looked for: where it is published, what makes an item of a row."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from smidgen.tasks.choice import ChoiceItem, ChoiceTask, Metric
from smidgen.tasks.suite.row import Row
from smidgen.tasks.suite.shelf import PublishedSet, Shelf

HARNESS = "lm-eval 0.4.13"
"""The harness whose prompts these are, string for string; tests/test_tasks_suite_parity.py compares them."""

ACCURACY: tuple[Metric, ...] = ("accuracy",)
BOTH: tuple[Metric, ...] = ("accuracy", "normalized")
CLOZE: tuple[Metric, ...] = ("greedy", "perplexity")


def source_of(file: str) -> str:
    """Return how a task says where its prompt comes from; `file` is one among the harness's tasks."""
    return f"{HARNESS}, {file}"


@dataclass(frozen=True, slots=True)
class ChoiceSet:
    """A set whose every row is one item."""

    name: str
    """The harness's name of the task."""
    version: str
    """The harness's version of it."""
    file: str
    """Its file among the harness's tasks."""
    published: PublishedSet
    """Where the rows are."""
    metrics: tuple[Metric, ...]
    """What the harness reports."""
    item: Callable[[Row], ChoiceItem]
    """Makes the item of a row."""
    remark: Callable[[Row], tuple[str, ...]] = lambda row: ()
    """Tells by the first row what a reader of the number must know, where a set goes about in more than one form."""

    def make(self, shelf: Shelf) -> ChoiceTask:
        """Make the task; its files are looked for now, and read when first needed but for their first row."""
        split = shelf.open(self.name, self.published)
        remarks = tuple(note for row in islice(split.rows(), 1) for note in self.remark(row))
        for note in remarks:
            shelf.say(f"task {self.name}: {note}.")
        return ChoiceTask(
            name=self.name,
            version=self.version,
            source=source_of(self.file),
            metrics=self.metrics,
            # As published tables of tiny models do, TinyLlama's EVAL.md among them.
            main="normalized" if "normalized" in self.metrics else self.metrics[0],
            published=self.published.rows,
            read=lambda: map(self.item, split.rows()),
            notes=split.notes + remarks,
        )
