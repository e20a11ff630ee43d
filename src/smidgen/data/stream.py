"""Rows to batches: which rows a micro-batch holds is a function of seed, step and rank, so resuming needs no state.

Every epoch is its own permutation of all rows. Nothing depends on what was read before: a batch may be asked for in
any order, by any process.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int

from smidgen.data.batch import Batch
from smidgen.data.pack import RowIndex, pack_rows
from smidgen.data.scored import ScoredBytes
from smidgen.data.shards import ShardSet
from smidgen.tokenizers.base import Tokenizer

T = TypeVar("T")


@dataclass(frozen=True)
class Layout:
    """How a step is laid out over micro-batches and ranks."""

    seq_len: int
    """Symbols a row shows the model."""
    rows: int
    """Rows of a micro-batch."""
    micros: int = 1
    """Micro-batches of a step on each rank."""
    rank: int = 0
    """Which of the processes this one is."""
    world: int = 1
    """How many processes share the step."""

    @property
    def step_rows(self) -> int:
        """Rows of a step over all ranks."""
        return self.rows * self.micros * self.world


class RowReader:
    """Packs one side of a corpus into rows and reads them as batches."""

    def __init__(
        self, split: ShardSet, tokenizer: Tokenizer, seq_len: int, seed: int = 0, answer_weight: float = 1.0
    ) -> None:
        self.split, self.seq_len = split, seq_len
        self._answers = AnswerWeights(tokenizer, answer_weight) if answer_weight != 1 else None
        self.index: RowIndex = pack_rows(split.starts, split.lengths, seq_len, seed)
        self._pad = tokenizer.eot_id
        self._scored = ScoredBytes(tokenizer)

    def batch(self, rows: Int[np.ndarray, "B"]) -> Batch:
        """Return the rows as one batch; `bytes_scored` is exact, or 0 where answers are weighted."""
        symbols = np.full((len(rows), self.seq_len + 1), self._pad, dtype=np.int64)
        weights = np.zeros((len(rows), self.seq_len), dtype=np.float32)
        starts, lengths, row_starts = self.index.starts, self.index.lengths, self.index.row_starts
        for number, row in enumerate(rows.tolist()):
            at = 0
            for segment in range(int(row_starts[row]), int(row_starts[row + 1])):
                length = int(lengths[segment])
                symbols[number, at : at + length] = self.split.read(int(starts[segment]), length)
                weights[number, at : at + length - 1] = 1
                at += length
        ids, targets = symbols[:, :-1], symbols[:, 1:]
        # A loss in which some symbols count more than others has no bits per byte.
        scored = self._scored(ids, targets, weights) if self._answers is None else 0
        if self._answers is not None:
            weights *= self._answers.of(symbols)[:, 1:]
        return Batch(torch.from_numpy(ids.copy()), torch.from_numpy(targets.copy()), torch.from_numpy(weights), scored)


class AnswerWeights:
    """Finds what assistants say in rows of ChatML, and gives it a weight of its own."""

    def __init__(self, tokenizer: Tokenizer, weight: float) -> None:
        self._weight = weight
        self._opening = np.array(tokenizer.encode_with_specials("<|im_start|>assistant\n"))
        self._end = tokenizer.special_id("<|im_end|>")

    def of(self, symbols: Int[np.ndarray, "B S"]) -> Float[np.ndarray, "B S"]:
        """Return the weight of each symbol: answers with their end symbol, against 1 for everything else."""
        width, length = len(self._opening), symbols.shape[1]
        windows = np.lib.stride_tricks.sliding_window_view(symbols, width, axis=1)
        # The latest event at or before a symbol tells whether an answer is being given: odd after an opening.
        events = np.zeros((len(symbols), length + width + 1), dtype=np.int64)
        rows, opened = np.nonzero((windows == self._opening).all(-1))
        events[rows, opened + width] = 2 * (opened + width) + 1
        rows, ended = np.nonzero(symbols == self._end)
        events[rows, ended + 1] = 2 * (ended + 1)
        inside = np.maximum.accumulate(events[:, :length], axis=1) % 2 == 1
        return np.where(inside, self._weight, 1.0).astype(np.float32)


class EpochOrder:
    """Endless places in `n` things: every epoch its own permutation of them all, which only the seed decides."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed = n, seed
        self._orders: dict[int, np.ndarray] = {}

    def at(self, first: int, count: int) -> Int[np.ndarray, "count"]:
        """Return which things stand at `count` places from `first` on, the first epoch beginning at 0."""
        places = np.arange(first, first + count)
        epochs = places // self.n
        return np.concatenate([self._order(epoch)[places[epochs == epoch] % self.n] for epoch in np.unique(epochs)])

    def _order(self, epoch: int) -> np.ndarray:
        epoch = int(epoch)
        if epoch not in self._orders:
            draw = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
            self._orders = {kept: order for kept, order in self._orders.items() if kept == epoch - 1}
            self._orders[epoch] = draw.permutation(self.n)
        return self._orders[epoch]


class PackedStream:
    """Training batches without end, in an order that only seed, step and rank decide."""

    def __init__(
        self, split: ShardSet, tokenizer: Tokenizer, layout: Layout, seed: int = 0, answer_weight: float = 1.0
    ) -> None:
        self.layout, self.seed = layout, seed
        self._reader = RowReader(split, tokenizer, layout.seq_len, seed, answer_weight)
        self.index = self._reader.index
        self._order = EpochOrder(self.index.rows, seed)

    def batch(self, step: int, micro: int = 0) -> Batch:
        """Return one micro-batch of a step, for this rank."""
        layout = self.layout
        first = ((step * layout.micros + micro) * layout.world + layout.rank) * layout.rows
        return self._reader.batch(self._order.at(first, layout.rows))

    def batches_from(self, step: int, prefetch: int = 0) -> Iterator[Sequence[Batch]]:
        """Yield the micro-batches of this step, then of every step after it; `prefetch` steps ahead in a thread."""

        def endless() -> Iterator[Sequence[Batch]]:
            at = step
            while True:
                yield [self.batch(at, micro) for micro in range(self.layout.micros)]
                at += 1

        return prefetched(endless, prefetch) if prefetch else endless()

    def epochs_at(self, step: int) -> float:
        """Return how many times the data has been read when this many steps are done."""
        return step * self.layout.step_rows / self.index.rows

    def repetition_note(self, step: int) -> str | None:
        """Return what to say, loudly, when this step is the first of a second or of a fifth reading; else None."""
        before, now = self.epochs_at(step - 1), self.epochs_at(step)
        symbols = f"its {int((self.index.lengths - 1).sum()):,} training symbols"
        # Repeating up to 4 times is nearly as good as new text, 16 is where it stops helping.
        # Source: Muennighoff et al. 2023, arXiv 2305.16264.
        if before <= 1 < now:
            return f"From here on the run repeats {symbols} (about as good as new text up to 4 times)."
        if before <= 4 < now:
            return f"The run has read {symbols} 4 times: past that each pass teaches less, and it may overfit."
        return None


def prefetched(make: Callable[[], Iterator[T]], ahead: int) -> Iterator[T]:
    """Yield what an iterator yields, made up to `ahead` items early by a thread that ends when its consumer does."""
    ready: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def offer(item: tuple[bool, T | BaseException | None]) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in make():
                if not offer((True, item)):
                    return
            offer((False, None))
        except BaseException as error:  # whatever it was belongs to the reader, who raises it
            offer((False, error))

    worker = threading.Thread(target=work, name="prefetch", daemon=True)
    worker.start()
    try:
        while True:
            alive, item = ready.get()
            if alive:
                yield item  # pyright: ignore[reportReturnType]
            elif isinstance(item, BaseException):
                raise item
            else:
                return
    finally:
        stopped.set()
        worker.join()  # a thread that still computes while the interpreter ends takes the process down with it
