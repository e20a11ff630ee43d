"""What a cleaning step is: a document goes in, it comes out kept (mended, masked, cut) or dropped with a reason.

Two kinds. A `Step` looks at one document. A `CorpusStep` has to see all of them first (duplicates, lines repeated in
many documents) and is written as two halves and a verdict, so that any executor can run it: `collect` turns one part of
the corpus into small arrays, `decide` reduces the arrays of all parts, in the order of the parts, to one verdict, and
`judge` applies that to every document. The arrays of a large corpus are larger than memory, so `decide` is given tables
that read a column when it is asked for, goes through them as often as it likes and holds what `held` promises. Both
kinds are pure and deterministic and are built in each worker from their config
alone; a library that a step needs is loaded there once, with the first document. Reading, running, counting and
keeping samples of what was dropped are the executor's.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

Columns = Mapping[str, np.ndarray]
"""A table: arrays by name. Its columns need not be equally long, and none holds Python objects."""


class Table(Protocol):
    """A table whose columns may be on disk until they are asked for."""

    def __getitem__(self, name: str, /) -> np.ndarray:
        """Return a column, to be looked at and never written to."""
        ...


@dataclass(frozen=True, slots=True)
class Record:
    """A document on its way through the pipeline."""

    id: str
    """Unique in the corpus and the same in every run: the source's name, the file below it, the line."""
    text: str
    source: str = ""
    """The name of its source, as the pipeline file gives it."""
    license: str = ""

    @property
    def key(self) -> int:
        """The 64 bits that stand for the id in tables: among 10^9 documents, one chance in 37 that two share theirs."""
        return hash64(self.id)


@dataclass(frozen=True, slots=True)
class Kept:
    """A document that goes on, and how often what was changed in it."""

    text: str
    changes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A document that goes no further."""

    reason: str
    """Short and the same for all its kind, to be counted by: `gopher:mean_word_length`."""
    detail: str = ""
    """What was found in this one: `11.3, over 10`."""


Verdict = Kept | Dropped


class Step(Protocol):
    """Judges one document by its text alone."""

    name: str

    def __call__(self, text: str) -> Verdict:
        """Return the text as it goes on, or why it does not."""
        ...


@runtime_checkable
class CorpusStep(Protocol):
    """Judges documents by all the others."""

    name: str

    def collect(self, records: Sequence[Record]) -> Columns:
        """Return what one part of the corpus has to say; `decide` gets the tables in the order of the parts.

        The first column has an entry for each row.
        """
        ...

    def decide(self, tables: Sequence[Table]) -> Columns:
        """Return the decision about the whole corpus as a table, to be written down and handed to all workers."""
        ...

    def held(self, rows: int) -> int:
        """Return the bytes of memory that deciding takes, of tables with so many rows (`rows_of`) in all."""
        ...

    def judge(self, decision: Columns) -> Callable[[Record], Verdict]:
        """Return the function that applies the decision to one document, exactly as `collect` saw it."""
        ...


def rows_of(columns: Columns) -> int:
    """Return the rows of a table: the length of its first column."""
    return len(next(iter(columns.values()), ()))


def hash64(text: str) -> int:
    """Return a hash of a text that is the same in every process: the first eight bytes of its blake2b."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
