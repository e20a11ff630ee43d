"""What a byte model with pooling remembers while it decodes: three stacks, and where each row's patches ended.

The trunk's memory holds patches, not symbols, and grows as they come. Which symbols ended a patch is known on the
host, for the engine runs the trunk only for rows that have a new patch to think about.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smidgen.models.state import Recall, StackState

FIRST_PATCHES = 64
"""Patches a row's trunk memory holds at first; doubled when a row has more."""
NO_PATCH = 1 << 30
"""Owner of what belongs to no patch."""


class PatchState:
    """Memory of a number of rows; implements DecodeState."""

    def __init__(
        self,
        encoder: StackState,
        others: Sequence[StackState],
        make_trunk: Callable[[int], StackState],
        widths: tuple[int, int],
        ends_patch: Callable[[int, int, int], bool],
    ) -> None:
        """Take the memory of the encoder, that of decoder and patcher where they have any, and how to make a trunk's.

        `make_trunk` is given a number of patches; `widths` are those of the encoder and of all contexts of one patch;
        `ends_patch` says of the symbol before, a symbol and the length of the open patch whether it will end there,
        as far as that is known beforehand.
        """
        d_local, d_context = widths
        self._ends_patch = ends_patch
        self.encoder, self.others = encoder, others
        self.trunk = make_trunk(min(FIRST_PATCHES, encoder.max_len))
        self._make_trunk = make_trunk
        n_rows, keys = len(encoder.lengths), encoder.keys
        self.encoded = keys.new_zeros(n_rows, encoder.max_len, d_local)
        """The encoder's outputs: an open patch is pooled when it ends."""
        self.contexts = keys.new_zeros(n_rows, 1 + self.trunk.max_len, d_context)
        """What the decoder reads: at 0 while no patch has ended, at n after the n-th."""
        self.symbols = encoder.symbols
        """Symbols of each row."""
        self.ended: list[list[int]] = [[] for _ in range(n_rows)]
        """How many patches had ended with each symbol of each row."""
        self.lengths = encoder.lengths
        """Symbols each row has seen."""

    @property
    def max_len(self) -> int:
        """Symbols a row can hold."""
        return self.encoder.max_len

    def n_patches(self, row: int) -> int:
        """Return how many patches of a row have ended."""
        return self.ended[row][-1] if self.ended[row] else 0

    def n_open(self, row: int) -> int:
        """Return how many symbols the open patch of a row has."""
        ended = self.ended[row]
        return len(ended) - 1 - bisect_left(ended, ended[-1]) if ended and ended[-1] else len(ended)

    def is_heavy(self, row: int, symbol: int) -> bool:
        """Whether this next symbol of a row will end its patch, and so set the trunk to work."""
        ids = self.symbols[row]
        return self._ends_patch(ids[-1] if ids else -1, symbol, self.n_open(row))

    def carry(self, carried: Float[Tensor, "rows C"] | None) -> None:
        """Let every row bring its own numbers into each forward of every part, for maps that read them."""
        for part in (self.encoder, *self.others, self.trunk):
            part.carry(carried)

    def reserve_patches(self, n: int) -> None:
        """Make sure that every row can hold `n` patches."""
        have = self.trunk.max_len
        if n <= have:
            return
        while have < n:
            have *= 2
        larger = self._make_trunk(have)
        larger.adopt(self.trunk)
        larger.carry(self.trunk.carried)
        self.trunk = larger
        contexts = self.contexts.new_zeros(len(self.symbols), 1 + have, self.contexts.shape[2])
        contexts[:, : self.contexts.shape[1]] = self.contexts
        self.contexts = contexts

    def truncate(self, row: int, length: int) -> None:
        """Forget everything after the first `length` symbols of a row; 0 frees the row."""
        for part in (self.encoder, *self.others):
            part.truncate(row, length)
        del self.ended[row][length:]
        self.trunk.truncate(row, self.n_patches(row))

    def copy_row(self, source: int, target: int, length: int | None = None) -> None:
        """Give `target` the first `length` symbols of `source` (None: all): a shared prefix."""
        if source != target:
            for part in (self.encoder, *self.others):
                part.copy_row(source, target, length)
            self.ended[target] = self.ended[source][:length]
            n_symbols, n_patches = len(self.ended[target]), self.n_patches(target)
            self.trunk.copy_row(source, target, n_patches)
            self.encoded[target, :n_symbols] = self.encoded[source, :n_symbols]
            self.contexts[target, : n_patches + 1] = self.contexts[source, : n_patches + 1]
        elif length is not None:
            self.truncate(target, length)

    def swap_rows(self, first: int, second: int) -> None:
        """Exchange what two rows remember, so that running rows can stay together and nothing is forgotten."""
        if first == second:
            return
        ends = {
            "encoded": max(self.lengths[first], self.lengths[second]),
            "contexts": max(self.n_patches(first), self.n_patches(second)) + 1,
        }
        for name, end in ends.items():
            memory: Tensor = getattr(self, name)
            memory[[first, second], :end] = memory[[second, first], :end]
        for part in (self.encoder, *self.others, self.trunk):
            part.swap_rows(first, second)
        self.ended[first], self.ended[second] = self.ended[second], self.ended[first]

    def adopt(self, other: "PatchState") -> None:
        """Take over all that a smaller state of the same model remembers, row by row: how memory grows."""
        rows, n_symbols, n_patches = (
            len(other.ended),
            max(other.lengths),
            max(map(other.n_patches, range(len(other.ended)))),
        )
        self.reserve_patches(n_patches)
        for mine, theirs in zip((self.encoder, *self.others), (other.encoder, *other.others), strict=True):
            mine.adopt(theirs)
        self.trunk.adopt(other.trunk)
        self.encoded[:rows, :n_symbols] = other.encoded[:, :n_symbols]
        self.contexts[:rows, : n_patches + 1] = other.contexts[:, : n_patches + 1]
        self.ended[:rows] = map(list, other.ended)

    def extend(self, rows: Sequence[int] | None, ids: Int[Tensor, "B T"]) -> "PatchRecall":
        """Make room for new symbols in `rows` (None: all rows) and return the view one forward works on."""
        chosen = list(range(len(self.ended))) if rows is None else list(rows)
        starts = [self.lengths[row] for row in chosen]
        alike = [part.moves_like(self.encoder) for part in self.others]
        first = self.encoder.extend(chosen, ids.shape[1])
        recalls = [first] + [
            part.extend_like(first) if same else part.extend(chosen, ids.shape[1])
            for part, same in zip(self.others, alike, strict=True)
        ]
        index = torch.tensor(chosen, device=ids.device)[:, None]
        return PatchRecall(self, chosen, index, starts, ids.tolist(), recalls)


@dataclass(frozen=True)
class PatchRecall:
    """What one forward with state needs: which rows, what they remember, and where the new goes."""

    state: PatchState
    rows: list[int]
    index: Int[Tensor, "B 1"]
    """The rows, to be read by."""
    starts: list[int]
    """Symbols of each row before."""
    ids: list[list[int]]
    """The new symbols."""
    recalls: list[Recall]
    """Of the encoder, then of decoder and patcher where they remember."""

    def before(self, n: int) -> Int[Tensor, "B n"]:
        """Return the `n` symbols before the new ones; -1 where a row begins."""
        return self.state.encoder.before(self.rows, n)

    def foreseen(self) -> list[list[bool]]:
        """Return whether the one new symbol of each row ends its patch, by a rule that needs nothing but symbols."""
        return [[self.state.is_heavy(row, ids[0])] for row, ids in zip(self.rows, self.ids, strict=True)]

    def n_open(self) -> Int[Tensor, "B 1"]:
        """Return how many symbols each row's open patch had before."""
        return torch.tensor([[self.state.n_open(row)] for row in self.rows], device=self.state.encoded.device)

    def encoded_before(self) -> Float[Tensor, "B 1 D"]:
        """Return the encoder's output of each row's last symbol before; anything where a row begins."""
        last = torch.tensor([[max(0, start - 1)] for start in self.starts], device=self.state.encoded.device)
        return self.state.encoded[self.index, last]

    def record(self, encoded: Float[Tensor, "B T D"], ends: list[list[bool]]) -> None:
        """Remember the new symbols: their ids, what the encoder says of them, and which ended a patch."""
        state, at = self.state, self.recalls[0].at
        if isinstance(at, slice):
            state.encoded[self.recalls[0].rows, at] = encoded
        else:
            state.encoded[at] = encoded
        state.encoder.note(self.rows, self.ids)
        for row, marks in zip(self.rows, ends, strict=True):
            count, ended = state.n_patches(row), state.ended[row]
            for mark in marks:
                count += mark
                ended.append(count)

    def unpooled(self, chosen: list[int], n_before: list[int]) -> tuple[Float[Tensor, "b W D"], Int[Tensor, "b W"]]:
        """Return the encoder's outputs from each chosen row's open patch on, and the new patch each belongs to.

        `chosen` are places among this forward's rows, `n_before` how many patches each of them had before.
        """
        state, device = self.state, self.state.encoded.device
        owners = []
        for place, had in zip(chosen, n_before, strict=True):
            row, start = self.rows[place], self.starts[place]
            opened = bisect_left(state.ended[row], had) + 1 if had else 0
            owners.append([0] * (start - opened + 1) + [count - had for count in state.ended[row][start:-1]])
        width = max(map(len, owners))
        owner = torch.tensor([own + [NO_PATCH] * (width - len(own)) for own in owners], device=device)
        ends = [self.starts[place] + len(self.ids[0]) for place in chosen]
        if len(chosen) == 1:
            row = self.rows[chosen[0]]
            return state.encoded[row : row + 1, ends[0] - width : ends[0]], owner
        firsts = torch.tensor([end - len(own) for end, own in zip(ends, owners, strict=True)], device=device)
        at = (firsts[:, None] + torch.arange(width, device=device)).clamp_max(state.max_len - 1)
        return state.encoded[self.index[chosen], at], owner
