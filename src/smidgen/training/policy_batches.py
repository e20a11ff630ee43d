"""Batches of answers for policy gradients: a row an answer, those of like length together."""

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from smidgen.data.batch import Batch

PADDING = 8
"""Rows are padded to a multiple of this: few distinct lengths, and matrix products whose sides divide evenly."""


class Answered(Protocol):
    """What batches are made of."""

    @property
    def prompt(self) -> list[int]:
        """What it answers."""
        ...

    @property
    def symbols(self) -> list[int]:
        """The answer, the symbol that ended it included."""
        ...

    @property
    def log_probs(self) -> list[float]:
        """Of each symbol, by what answered."""
        ...


def policy_batches(
    groups: Sequence[Sequence[Answered]], advantages: Float[Tensor, "G n"], micro_symbols: int
) -> list[Batch]:
    """Return micro-batches of answers of like length, one a row, the longest first, so that memory runs out at once.

    Every symbol of an answer has weight 1, the one that ended it too. `extra` has `advantages` (B,) and
    `rollout_log_probs` (B, T), 0 outside the answers. A micro-batch has at most `micro_symbols`, padding included, or
    one row.
    """
    answers = [answer for group in groups for answer in group]
    rated = sorted(zip(answers, advantages.flatten().tolist(), strict=True), key=lambda pair: -_length(pair[0]))
    batches = []
    while rated:
        n_rows = max(1, micro_symbols // _padded(_length(rated[0][0])))
        batches.append(_batch(rated[:n_rows]))
        rated = rated[n_rows:]
    return batches


def _length(answer: Answered) -> int:
    return len(answer.prompt) + len(answer.symbols) - 1


def _padded(length: int) -> int:
    return -(-length // PADDING) * PADDING


def _batch(rated: Sequence[tuple[Answered, float]]) -> Batch:
    shape = len(rated), _padded(max(_length(answer) for answer, _ in rated))
    ids, targets = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    weights, log_probs = torch.zeros(shape), torch.zeros(shape)
    for row, (answer, _) in enumerate(rated):
        symbols, end = torch.tensor([*answer.prompt, *answer.symbols]), _length(answer)
        answered = slice(len(answer.prompt) - 1, end)
        ids[row, :end], targets[row, :end] = symbols[:-1], symbols[1:]
        weights[row, answered], log_probs[row, answered] = 1.0, torch.tensor(answer.log_probs)
    advantages = torch.tensor([advantage for _, advantage in rated])
    return Batch(ids, targets, weights, extra={"advantages": advantages, "rollout_log_probs": log_probs})
