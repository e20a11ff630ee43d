"""Before hours are spent: can this model learn at all, and is what it reads what was meant?

TinyLlama lost months to a wrong learning rate, a missing BOS and a loader bug (facts.md §1); each of these checks
would have shown one of them in seconds.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from smidgen.data.batch import Batch
from smidgen.errors import TrainingError
from smidgen.models import Model
from smidgen.runtime import Runtime
from smidgen.tokenizers.base import Tokenizer
from smidgen.training.objectives import Objective

ROWS, SYMBOLS, STEPS = 2, 64, 30
"""Small enough for seconds at 100M parameters, long enough that any sound model memorises it."""
KNOWN_BY_HEART = 0.5
"""Nats a symbol below which there is nothing left to prove: a trained model may know its text already."""


@dataclass(frozen=True)
class Preflight:
    """What was seen before training."""

    first_loss: float
    """Nats per symbol of the untouched model on real data."""
    overfit_loss: float
    """Nats per symbol on one small batch after a few steps on it."""
    text: str
    """A row of the first batch, decoded, document boundaries shown as ⏎."""
    boundaries: int
    """Documents that begin in the first batch."""
    supervised: float
    """Share of its targets that are supervised."""


def check_before_training(
    model: Model, batch: Batch, objective: Objective, tokenizer: Tokenizer, runtime: Runtime
) -> Preflight:
    """Overfit a corner of a batch with a copy of the model, decode a row, and check the document boundaries.

    Raises TrainingError if the model cannot memorise two short rows, starts far above ln(vocab), or a supervised
    target crosses from one document into another.
    """
    supervised = float((batch.weights > 0).float().mean())
    if not supervised:
        raise TrainingError("nothing is supervised in the first batch: every weight is 0. Check the data's chat mask.")
    boundaries = _check_boundaries(batch, tokenizer.eot_id)
    corner = _corner(batch).to(runtime.device)
    first, last = _overfit(model, corner, objective, runtime)
    limit = math.log(tokenizer.vocab_size) + 3
    if not first < limit:
        raise TrainingError(
            f"the model starts at {first:.2f} nats a symbol, far above ln(vocabulary) = {limit - 3:.2f}: "
            "its initialisation or its tokenizer does not fit."
        )
    if not last < max(0.7 * first, KNOWN_BY_HEART):
        raise TrainingError(
            f"the model cannot memorise {ROWS} rows of {SYMBOLS} symbols: loss {first:.2f} -> {last:.2f} after {STEPS} "
            "steps. Check what is frozen and the objective."
        )
    return Preflight(first, last, _show(batch.ids[0], tokenizer), boundaries, supervised)


def _corner(batch: Batch) -> Batch:
    rows = slice(0, ROWS), slice(0, SYMBOLS)
    return Batch(batch.ids[rows], batch.targets[rows], batch.weights[rows], extra=batch.extra)


def _overfit(model: Model, corner: Batch, objective: Objective, runtime: Runtime) -> tuple[float, float]:
    trial = copy.deepcopy(model)
    trial.compute_dtype = runtime.dtype if runtime.dtype != torch.float16 else torch.float32
    weights = [weight for weight in trial.parameters() if weight.requires_grad]
    # 3e-3 at width 256 and less above: at 3e-3 a 576-wide pretrained model is thrown off before it memorises.
    rate = 3e-3 * min(1.0, 256 / trial.head_weight().shape[1])
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
    supervised = float(corner.weights.sum()) or 1.0
    losses = []
    for _ in range(STEPS):
        out = objective(trial, corner)
        losses.append(float((out.loss if out.nll is None else out.nll).detach()) / supervised)
        optimizer.zero_grad()
        (out.loss / supervised).backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    return losses[0], losses[-1]


def _check_boundaries(batch: Batch, eot_id: int) -> int:
    """Count documents that begin here; the start of a document must never be a supervised target of another."""
    starts = (batch.ids == eot_id) & (batch.targets != eot_id)
    # Two boundaries in a row are the end of one document and the start of the next: nothing to predict between them.
    between = (batch.ids == eot_id) & (batch.targets == eot_id) & (batch.weights > 0)
    if between.any():
        row, at = between.nonzero()[0].tolist()
        raise TrainingError(f"row {row}, symbol {at}: the start of a document is supervised after the end of another.")
    return int(starts.sum())


def _show(ids: torch.Tensor, tokenizer: Tokenizer) -> str:
    pieces: list[list[int]] = [[]]
    for symbol in ids.tolist():
        if symbol == tokenizer.eot_id:
            pieces.append([])
        else:
            pieces[-1].append(symbol)
    return " ⏎ ".join(tokenizer.decode(piece) for piece in pieces).strip()


def describe(seen: Preflight) -> Sequence[str]:
    """Return the preflight in lines for the terminal."""
    return (
        f"memorises: {seen.first_loss:.2f} -> {seen.overfit_loss:.2f} nats a symbol in {STEPS} steps on two short rows",
        f"{seen.boundaries} documents begin in the first batch; {seen.supervised:.1%} of its targets are supervised",
        f"it reads: {seen.text[:160]!r}",
    )
