"""Batches of answers for policy gradients: a row an answer, or one row in which the answers to a prompt share it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from smidgen.data.batch import Batch
from smidgen.data.branches import lay_out, padded


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
    groups: Sequence[Sequence[Answered]], advantages: Float[Tensor, "G n"], micro_symbols: int, branching: bool = False
) -> list[Batch]:
    """Return micro-batches of answers, the longest first, so that memory runs out at once.

    A row is an answer; or, `branching`, all answers of a micro-batch are one row in which those of a group share their
    prompt, which is the work of an answer's symbols and not of the prompt's again. Every symbol of an answer has
    weight 1, the one that ended it too. `extra` has `advantages`, of each answer, and `rollout_log_probs` (B, T), 0
    outside the answers. A micro-batch has at most `micro_symbols`, padding included, or one answer.
    """
    rated = [list(zip(group, own, strict=True)) for group, own in zip(groups, advantages.tolist(), strict=True)]
    if branching:
        return [_tree(parts) for parts in _gather(_cut(rated, micro_symbols), micro_symbols)]
    answers = sorted((one for group in rated for one in group), key=lambda pair: -_length(pair[0]))
    batches = []
    while answers:
        n_rows = max(1, micro_symbols // padded(_length(answers[0][0])))
        batches.append(_batch(answers[:n_rows]))
        answers = answers[n_rows:]
    return batches


Rated = tuple[Answered, float]
"""An answer and its advantage."""


def _cut(groups: Sequence[Sequence[Rated]], most: int) -> Iterator[list[Rated]]:
    """Yield groups, those that are longer than `most` in several parts."""
    for group in groups:
        part: list[Rated] = []
        for one in sorted(group, key=lambda pair: -_length(pair[0])):
            if part and padded(_size([*part, one])) > most:
                yield part
                part = []
            part.append(one)
        yield part


def _gather(parts: Iterable[list[Rated]], most: int) -> Iterator[list[list[Rated]]]:
    """Yield parts together that have `most` symbols or less, the longest first."""
    together: list[list[Rated]] = []
    for part in sorted(parts, key=_size, reverse=True):
        if together and padded(sum(map(_size, together)) + _size(part)) > most:
            yield together
            together = []
        together.append(part)
    yield together


def _size(part: Sequence[Rated]) -> int:
    """Return the symbols of a prompt but its last, and of its answers, each opened by that one and without its end."""
    return len(part[0][0].prompt) - 1 + sum(len(answer.symbols) for answer, _ in part)


def _length(answer: Answered) -> int:
    return len(answer.prompt) + len(answer.symbols) - 1


def _batch(rated: Sequence[Rated]) -> Batch:
    shape = len(rated), padded(max(_length(answer) for answer, _ in rated))
    ids, targets = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    weights, log_probs = torch.zeros(shape), torch.zeros(shape)
    for row, (answer, _) in enumerate(rated):
        symbols, end = torch.tensor([*answer.prompt, *answer.symbols]), _length(answer)
        answered = slice(len(answer.prompt) - 1, end)
        ids[row, :end], targets[row, :end] = symbols[:-1], symbols[1:]
        weights[row, answered], log_probs[row, answered] = 1.0, torch.tensor(answer.log_probs)
    advantages = torch.tensor([advantage for _, advantage in rated])
    return Batch(ids, targets, weights, extra={"advantages": advantages, "rollout_log_probs": log_probs})


def _tree(parts: Sequence[Sequence[Rated]]) -> Batch:
    shape = 1, padded(sum(map(_size, parts)))
    ids, targets = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    weights, log_probs = torch.zeros(shape), torch.zeros(shape)
    at = 0
    for part in parts:
        trunk, opening = part[0][0].prompt[:-1], part[0][0].prompt[-1]
        ids[0, at : at + len(trunk)] = torch.tensor(trunk, dtype=torch.long)
        at += len(trunk)
        for answer, _ in part:
            here = slice(at, at + len(answer.symbols))
            ids[0, here] = torch.tensor([opening, *answer.symbols[:-1]])
            targets[0, here] = torch.tensor(answer.symbols)
            weights[0, here], log_probs[0, here] = 1.0, torch.tensor(answer.log_probs)
            at = here.stop
    advantages = torch.tensor([advantage for part in parts for _, advantage in part])
    trunks = [len(part[0][0].prompt) - 1 for part in parts]
    branches = lay_out(trunks, [[len(answer.symbols) for answer, _ in part] for part in parts], shape[1])
    extra = {"advantages": advantages, "rollout_log_probs": log_probs}
    return Batch(ids, targets, weights, extra=extra, branches=branches)
