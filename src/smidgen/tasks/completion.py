"""Text in, text out: tasks of lm-evaluation-harness that are answered by generating, with its prompt and its filters.

Unlike `base.Task` there is no conversation: the context is one plain text that the model goes on with, few-shot
examples included, as the harness gives it to base models.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from smidgen.errors import DataError
from smidgen.tasks.base import Example, Grade


@dataclass(frozen=True, slots=True)
class CompletionItem:
    """One text to go on with."""

    id: str
    """Names the item in logs and per-item results, `gsm8k/test/17`; the row of the file, from 0."""
    context: str
    """What the model is given, worked examples included; it ends without a space."""
    stops: tuple[str, ...]
    """The answer ends before the first of these; the model's own end symbol ends it too."""
    max_symbols: int
    """Most symbols of an answer."""
    example: Example
    """The question alone and its right answer, for reports and for `CompletionTask.grade`."""


@dataclass(frozen=True)
class CompletionTask:
    """A set of texts to go on with, with what is needed to say what was measured."""

    name: str
    """How it is called on the command line; the harness calls it the same."""
    version: str
    """The harness's version of the task, as it prints it."""
    source: str
    """Where prompt and filters come from: the file among the harness's tasks."""
    shots: int
    """Worked examples in each context."""
    published: int
    """Rows of the published test set; a file may hold fewer."""
    read: Callable[[], Iterable[CompletionItem]]
    """Reads the items, the same in the same order every time."""
    grader: Callable[[Example, str], Grade]
    """Grades what the model said up to the stop: `strict-match` and `flexible-extract` of the harness."""
    notes: tuple[str, ...] = ()
    """What a reader of the number must know, a phrase each."""

    def items(self) -> Iterator[CompletionItem]:
        """Yield the test set, the same items in the same order every time.

        Raises DataError for a row that is no item, with its place, and where there is no row at all.
        """
        return iter(self._items)

    @property
    def rows(self) -> int:
        """Items there are; `published` where the set is complete."""
        return len(self._items)

    def grade(self, item: CompletionItem, text: str) -> Grade:
        """Grade what the model said; what stands behind a stop does not count."""
        for stop in item.stops:
            text = text.partition(stop)[0]
        return self.grader(item.example, text)

    @cached_property
    def _items(self) -> tuple[CompletionItem, ...]:
        items = tuple(self.read())
        if not items:
            raise DataError(f"task {self.name}: its file has no row.")
        return items
