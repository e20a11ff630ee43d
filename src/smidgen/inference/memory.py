"""The engine's rows: where each sequence's keys and values live, how memory grows, and what can be used again.

Running sequences sit in rows 0..n-1, so that a forward over them reads slices. Rows behind them keep what finished
sequences left, and a new prompt that begins like any row, finished or running, starts from its memory: the next
turn of a chat, samples of one prompt, prompts with the same examples in front are prefilled only where they differ.
"""

from collections.abc import Sequence as Several

from smidgen.inference.sequence import WORTH_REUSING, Sequence
from smidgen.models import LanguageModel
from smidgen.models.state import DecodeState

FIRST_LENGTH = 256
"""Symbols a row can hold at first; doubled when a sequence needs more."""


class RowMemory:
    """A DecodeState that grows, and who wrote each of its rows."""

    def __init__(self, model: LanguageModel, max_rows: int, max_len: int) -> None:
        self.model = model
        self.max_rows = max_rows
        self.max_len = max_len
        self.state = model.init_state(1, min(FIRST_LENGTH, max_len))
        self.owners: list[Sequence | None] = [None]
        self._last_used = [0]
        self._clock = 0

    def reserve(self, rows: int, length: int) -> None:
        """Make sure that `rows` sequences of `length` symbols fit; doubles what is too small, up to the limits."""
        have_rows, have_length = len(self.owners), self.state.max_len
        if rows <= have_rows and length <= have_length:
            return
        while have_rows < rows:
            have_rows = min(2 * have_rows, self.max_rows)
        while have_length < length:
            have_length = min(2 * have_length, self.max_len)
        larger: DecodeState = self.model.init_state(have_rows, have_length)
        larger.adopt(self.state)
        self.state = larger
        added = have_rows - len(self.owners)
        self.owners += [None] * added
        self._last_used += [0] * added

    def place(self, sequence: Sequence, row: int) -> int:
        """Give the free `row` to a sequence and return how many symbols of its prompt are already remembered there.

        Rows from `row` on must be free. What is forgotten for it is the least recently used.
        """
        source, length = self.find(sequence)
        if length == 0 or source < row:
            self.swap(min(range(row, len(self.owners)), key=self._last_used.__getitem__), row)
        else:
            self.swap(source, row)
            source = row
        if length:
            self.state.copy_row(source, row, length)
        else:
            self.state.truncate(row, 0)
        self.owners[row] = sequence
        self.touch(row)
        return length

    def find(self, sequence: Sequence) -> tuple[int, int]:
        """Return the row that remembers most of a prompt's beginning, and how much; (0, 0) if too little to matter.

        The last symbol of a prompt is never taken from memory: it has to be run for the next one's logits. Nor is what
        a row with another adapter remembers.
        """
        best, most, beginning = 0, 0, sequence.prompt[:-1]
        for row, owner in enumerate(self.owners if len(beginning) >= WORTH_REUSING else ()):
            if owner is not None and owner.may_begin(sequence):
                # What left the model early remembers less than a prompt has to know.
                exact = owner.ids if owner.params.exit_confidence is None else owner.prompt
                length = min(common_prefix(beginning, exact), self.state.lengths[row])
                if length > most:
                    best, most = row, length
        return (best, most) if most >= WORTH_REUSING else (0, 0)

    def swap(self, first: int, second: int) -> None:
        """Exchange two rows."""
        self.state.swap_rows(first, second)
        self.owners[first], self.owners[second] = self.owners[second], self.owners[first]
        used = self._last_used
        used[first], used[second] = used[second], used[first]

    def touch(self, row: int) -> None:
        """Mark a row as the most recently used."""
        self._clock += 1
        self._last_used[row] = self._clock

    def forget(self, first: int) -> None:
        """Forget what rows from `first` on remember: the weights that wrote it have changed."""
        for row in range(first, len(self.owners)):
            self.state.truncate(row, 0)
            self.owners[row] = None
            self._last_used[row] = 0


def common_prefix(first: Several[int], second: Several[int]) -> int:
    """Return how many symbols two lists begin with in common, by bisection over comparisons that run in C."""
    low, high = 0, min(len(first), len(second))
    if first[:high] == second[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if first[low:middle] == second[low:middle] else (low, middle - 1)
    return low
