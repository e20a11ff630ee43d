"""Choosing among continuations by their likelihood: what lm-evaluation-harness calls multiple choice, and its cloze.

Pure text. An item holds the very strings the harness would score, down to the spaces; who scores them, and how symbols
are counted, is not decided here. The suite's tasks are made in `suite/`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from smidgen.errors import DataError

Metric = Literal["accuracy", "normalized", "greedy", "perplexity"]
"""`acc` and `acc_norm` of the harness; for a cloze `acc` (the continuation is the likeliest, greedy) and `perplexity`.

accuracy: the right continuation has the largest log-probability. normalized: the same after each was divided by its
`ChoiceItem.lengths`. greedy: every symbol of the continuation is the likeliest at its place. perplexity: exp of the
mean over items of minus the log-probability of the continuation, in nats, per item and not per symbol.
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """One continuation whose likelihood is asked."""

    context: str
    """What stands before it; empty where nothing does."""
    continuation: str
    """What is scored, with its leading space where there is one."""


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """One question: its candidates and which of them is right."""

    id: str
    """Names the item in logs and per-item results, `arc_easy/test/17`; the row of the file, from 0."""
    kind: str
    """The group it is reported under: BLiMP's paradigm, otherwise empty."""
    choices: tuple[Choice, ...]
    """The candidates in the order of the file: two or more, or one for a cloze."""
    right: int
    """Index of the right candidate."""
    lengths: tuple[int, ...]
    """What each log-probability is divided by for the normalized score: characters of the choice without delimiter."""


@dataclass(frozen=True)
class ChoiceTask:
    """A set of items, with what is needed to say what was measured."""

    name: str
    """How it is called on the command line; the harness calls it the same."""
    version: str
    """The harness's version of the task, as it prints it."""
    source: str
    """Where prompt and normalization come from: the file among the harness's tasks."""
    metrics: tuple[Metric, ...]
    """What the harness reports."""
    main: Metric
    """The one that stands in a table of one number a task."""
    published: int
    """Rows of the published test set; a file may hold fewer."""
    read: Callable[[], Iterable[ChoiceItem]]
    """Reads the items, the same in the same order every time."""
    notes: tuple[str, ...] = ()
    """What a reader of the number must know, a phrase each: another split, paradigms that are missing."""

    def items(self) -> Iterator[ChoiceItem]:
        """Yield the test set, the same items in the same order every time.

        Raises DataError for a row that is no item, with its place, and where there is no row at all.
        """
        return iter(self._items)

    @property
    def rows(self) -> int:
        """Items there are; `published` where the set is complete."""
        return len(self._items)

    def chance(self, item: ChoiceItem) -> float:
        """Return the probability that a guess is right: 0 for a cloze, where there is nothing to guess among."""
        return 1 / len(item.choices) if len(item.choices) > 1 else 0.0

    @cached_property
    def _items(self) -> tuple[ChoiceItem, ...]:
        items = tuple(self.read())
        if not items:
            raise DataError(f"task {self.name}: its file has no row.")
        return items
