"""What a model remembers while it decodes: keys and values per depth, one position per row.

The state belongs to the caller (the engine), not to the model: modules stay free of caches, and shared blocks work
because memory is indexed by depth, not by block. Rows move independently, so ragged batches need no padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smidgen.errors import SmidgenError
from smidgen.models.layers import Rotation


class DecodeState(Protocol):
    """What a model remembers of a fixed number of rows, each up to a fixed greatest length, whatever it is made of."""

    lengths: list[int]
    """Symbols each row has seen; host-side, because the engine reads them at every step."""

    @property
    def max_len(self) -> int:
        """Symbols a row can hold."""
        ...

    def is_heavy(self, row: int, symbol: int) -> bool:
        """Whether this next symbol of a row sets a part of the model to work that most symbols leave alone.

        A hint for whoever runs many rows: what is heavy costs little more for many rows than for one.
        """
        ...

    def carry(self, carried: Float[Tensor, "rows C"] | None) -> None:
        """Let every row bring its own numbers into each forward, for maps that read them (None: no row does).

        They are not memory: whoever moves rows gives them anew.
        """
        ...

    def truncate(self, row: int, length: int) -> None:
        """Forget everything after the first `length` symbols of a row; 0 frees the row."""
        ...

    def copy_row(self, source: int, target: int, length: int | None = None) -> None:
        """Give `target` the first `length` symbols of `source` (None: all): a shared prefix."""
        ...

    def swap_rows(self, first: int, second: int) -> None:
        """Exchange what two rows remember, so that running rows can stay together and nothing is forgotten."""
        ...

    def adopt(self, other: Self) -> None:
        """Take over all that a smaller state of the same model remembers, row by row: how memory grows."""
        ...


class StackState:
    """Key/value memory of one Stack."""

    def __init__(
        self,
        keys: Float[Tensor, "L rows H S K"],
        values: Float[Tensor, "L rows H S K"],
        table: Rotation,
        theta: float,
        window: int | None = None,
    ) -> None:
        self.keys = keys
        self.values = values
        self.depths = list(zip(keys, values, strict=True))
        """Keys and values of each depth, views taken once: a forward asks for every depth."""
        self.table = table
        """Rotary angles of every position up to the greatest length."""
        self.theta = theta
        """Base of their frequencies."""
        self.window = window
        """Symbols a position sees, itself included; None: all of the past."""
        self.lengths = [0] * keys.shape[1]
        """Symbols each row has seen."""
        self.symbols: list[list[int]] = [[] for _ in self.lengths]
        """What they were, where the model notes them because it looks back at symbols and not only at keys."""
        self.carried: Tensor | None = None
        """What each row brings of its own, (rows, C): a row may have its own adapter."""

    @property
    def max_len(self) -> int:
        """Symbols a row can hold."""
        return self.keys.shape[3]

    def extend(self, rows: Sequence[int] | None, n_new: int) -> "Recall":
        """Make room for `n_new` symbols in `rows` (None: all rows) and return the view one forward works on.

        The rows' lengths advance at once; use `truncate` to take symbols back.
        Raises SmidgenError if a row would outgrow the memory.
        """
        chosen = list(range(len(self.lengths))) if rows is None else list(rows)
        starts = [self.lengths[row] for row in chosen]
        if max(starts) + n_new > self.max_len:
            raise SmidgenError(f"a sequence of {max(starts) + n_new} symbols does not fit a memory of {self.max_len}.")
        for row in chosen:
            self.lengths[row] += n_new
        return _recall(self, chosen, starts, n_new)

    def moves_like(self, other: "StackState") -> bool:
        """Whether the same symbols would be turned and see alike in both: what one forward needs, the other has."""
        mine, theirs = ((s.theta, s.window, s.keys.shape[3:], s.keys.dtype, s.lengths) for s in (self, other))
        return mine == theirs

    def extend_like(self, recall: "Recall") -> "Recall":
        """Make the room that another memory, which moves like this one, has just made, and return the same view.

        What a view is made of costs 15 small calls, as much as a narrow layer for a handful of rows.
        """
        self.lengths[:] = recall.state.lengths
        return replace(recall, state=self)

    def before(self, rows: Sequence[int] | None, n: int) -> Int[Tensor, "B n"]:
        """Return the last `n` symbols noted of `rows` (None: all rows); -1 where a row begins."""
        past = [self.symbols[row][-n:] for row in (range(len(self.symbols)) if rows is None else rows)]
        return torch.tensor([[-1] * (n - len(ids)) + ids for ids in past], device=self.keys.device)

    def note(self, rows: Sequence[int] | None, ids: list[list[int]]) -> None:
        """Note new symbols of `rows` (None: all rows)."""
        for row, new in zip(range(len(self.symbols)) if rows is None else rows, ids, strict=True):
            self.symbols[row] += new

    def carry(self, carried: Float[Tensor, "rows C"] | None) -> None:
        """Let every row bring its own numbers into each forward, for maps that read them (None: no row does)."""
        self.carried = carried

    def is_heavy(self, row: int, symbol: int) -> bool:
        """Return False: one symbol is as much work as another."""
        return False

    def truncate(self, row: int, length: int) -> None:
        """Forget everything after the first `length` symbols of a row; 0 frees the row."""
        self.lengths[row] = min(self.lengths[row], length)
        del self.symbols[row][length:]

    def copy_row(self, source: int, target: int, length: int | None = None) -> None:
        """Give `target` the first `length` symbols of `source` (None: all): a shared prefix."""
        length = self.lengths[source] if length is None else min(length, self.lengths[source])
        if source != target:
            self.keys[:, target, :, :length] = self.keys[:, source, :, :length]
            self.values[:, target, :, :length] = self.values[:, source, :, :length]
        self.lengths[target] = length
        self.symbols[target] = self.symbols[source][:length]

    def swap_rows(self, first: int, second: int) -> None:
        """Exchange what two rows remember, so that running rows can stay together and nothing is forgotten."""
        if first == second:
            return
        end = max(self.lengths[first], self.lengths[second])
        for memory in (self.keys, self.values):
            kept = memory[:, first, :, :end].clone()
            memory[:, first, :, :end] = memory[:, second, :, :end]
            memory[:, second, :, :end] = kept
        self.lengths[first], self.lengths[second] = self.lengths[second], self.lengths[first]
        self.symbols[first], self.symbols[second] = self.symbols[second], self.symbols[first]

    def adopt(self, other: "StackState") -> None:
        """Take over all that a smaller state remembers, row by row: how memory grows."""
        rows, end = len(other.lengths), max(other.lengths)
        self.keys[:, :rows, :, :end] = other.keys[:, :, :, :end]
        self.values[:, :rows, :, :end] = other.values[:, :, :, :end]
        self.lengths[:rows] = other.lengths
        self.symbols[:rows] = map(list, other.symbols)


@dataclass(frozen=True)
class Recall:
    """What one forward with state needs, computed once for all depths: where to write, what to see, how to turn."""

    state: StackState
    rows: slice | Tensor
    """The rows of this forward; a slice when they are neighbours, which costs no copy of their memory."""
    at: slice | tuple[Tensor, Tensor]
    """Where new symbols go: one slice when all rows stand at the same length, else rows (B, 1) and positions (B, T)."""
    begin: int
    """First position that any new symbol sees: attention reads the memory from here."""
    end: int
    """Greatest length after this forward: attention reads the memory up to here."""
    mask: Float[Tensor, "B 1 T S"] | None
    """0 where a new symbol may look and -inf elsewhere; None when every row may see all of its memory."""
    turn: Rotation
    from_empty: bool
    """Every row was empty: plain causal attention over the new symbols alone."""
    carried: Float[Tensor, "B C"] | None = None
    """What each row of this forward brings of its own; None: nothing."""

    def of(self, places: Sequence[int]) -> "Recall":
        """Return the same for some of the rows of this forward, given by their places in it."""
        device = self.state.keys.device
        chosen = torch.tensor(list(places), device=device)
        if isinstance(self.rows, slice):
            rows = torch.arange(self.rows.start, self.rows.stop, device=device)[chosen]
        else:
            rows = self.rows[chosen]
        if isinstance(self.at, slice):
            at: slice | tuple[Tensor, Tensor] = self.at
        else:
            at = self.at[0][chosen], self.at[1][chosen]
        shared = self.turn.cos.ndim == 2
        turn = self.turn if shared else Rotation(self.turn.cos[chosen], self.turn.sin[chosen])
        mask = self.mask if self.mask is None or self.mask.shape[0] == 1 else self.mask[chosen]
        carried = None if self.carried is None else self.carried[chosen]
        return replace(self, rows=rows, at=at, mask=mask, turn=turn, carried=carried)

    def remember(
        self, depth: int, keys: Float[Tensor, "B H T K"], values: Float[Tensor, "B H T K"]
    ) -> tuple[Float[Tensor, "B H S K"], Float[Tensor, "B H S K"]]:
        """Store the new keys and values of one depth and return all that the rows remember there."""
        seen = []
        for memory, new in zip(self.state.depths[depth], (keys, values), strict=True):
            if isinstance(self.at, slice):
                memory[self.rows, :, self.at] = new
            else:
                rows, positions = self.at
                memory[rows, :, positions] = new.transpose(1, 2)
            seen.append(memory[self.rows, :, self.begin : self.end])
        return seen[0], seen[1]


def _recall(state: StackState, rows: list[int], starts: list[int], n_new: int) -> Recall:
    device, dtype = state.keys.device, state.keys.dtype
    neighbours = rows == list(range(rows[0], rows[0] + len(rows)))
    chosen = slice(rows[0], rows[0] + len(rows)) if neighbours else torch.tensor(rows, device=device)
    end = max(starts) + n_new
    level = min(starts) == max(starts)
    if level:
        at: slice | tuple[Tensor, Tensor] = slice(starts[0], end)
        turn = Rotation(state.table.cos[at], state.table.sin[at])
        positions = torch.arange(starts[0], end, device=device)[None]
    else:
        positions = torch.tensor(starts, device=device)[:, None] + torch.arange(n_new, device=device)
        at = torch.tensor(rows, device=device)[:, None], positions
        turn = Rotation(state.table.cos[positions][:, None], state.table.sin[positions][:, None])
    from_empty = max(starts) == 0
    begin = 0 if state.window is None else max(0, min(starts) - state.window + 1)
    mask = None
    if not from_empty and not (level and n_new == 1):
        at_memory = torch.arange(begin, end, device=device)
        hidden = at_memory > positions[..., None]
        if state.window is not None:
            hidden |= at_memory <= positions[..., None] - state.window
        # Additive and in the dtype of the scores: a boolean mask is converted again at every depth.
        mask = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, -torch.inf)[:, None]
    carried = None if state.carried is None else state.carried[chosen]
    return Recall(state, chosen, at, begin, end, mask, turn, from_empty, carried)
