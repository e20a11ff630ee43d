"""Predict the next symbol and, in a share of the rows that are read both ways, symbols that were masked.

Masked symbols are predicted one position early, as the next symbol always is, so that one head serves both.
Source: Charpentier and Samuel 2024 (GPT-BERT), arXiv 2410.24159.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from smidgen.config import Config
from smidgen.data.batch import Batch
from smidgen.data.scored import ScoredBytes
from smidgen.models import Model
from smidgen.tokenizers.base import Tokenizer
from smidgen.training.objectives import LossSum
from smidgen.training.objectives.cross_entropy import CrossEntropy, cross_entropy_sums
from smidgen.training.objectives.next_token import next_token_loss


class MaskedConfig(Config):
    """Predict the next symbol in some rows and masked symbols in the others."""

    type: Literal["masked"] = "masked"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of the rows that are read both ways, with symbols masked."""
    mask_rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of their symbols that is masked and predicted."""


def masked(model: Model, batch: Batch, sums: CrossEntropy = cross_entropy_sums) -> LossSum:
    """Return the summed loss of causal rows and of masked symbols; `nll` is that of the causal rows.

    The first rows are read both ways from `batch.extra["masked_ids"]`; without it, all rows are causal.
    """
    hidden = batch.extra.get("masked_ids", batch.ids[:0])
    n_masked = len(hidden)
    causal = Batch(batch.ids[n_masked:], batch.targets[n_masked:], batch.weights[n_masked:])
    guessed = Batch(hidden, batch.targets[:n_masked], batch.weights[:n_masked])
    nll, loss = (torch.zeros((), device=batch.ids.device) for _ in range(2))
    if len(causal.ids):
        nll = next_token_loss(model, model.features(causal.ids), causal, sums)
    if n_masked:
        loss = next_token_loss(model, model.features(hidden, causal=False), guessed, sums)
    return LossSum(nll + loss, nll.detach(), {"masked": loss.detach()})


@dataclass(frozen=True)
class MaskRows:
    """Chooses what is masked; a step's draws decide which of its symbols."""

    config: MaskedConfig
    mask_id: int
    eot_id: int
    scored: ScoredBytes

    def __call__(self, batch: Batch, draw: np.random.Generator) -> Batch:
        """Return the batch with its first rows' masked symbols in `extra`; only these are supervised there."""
        rows, length = batch.ids.shape
        n_masked = int(self.config.share * rows + draw.random())
        chosen = torch.from_numpy(draw.random((n_masked, length)) < self.config.mask_rate)
        # Position 0 has no position before it to be predicted from; boundaries stay, so that documents can be told.
        chosen[:, 1:] &= (batch.weights[:n_masked, :-1] > 0) & (batch.ids[:n_masked, 1:] != self.eot_id)
        chosen[:, 0] = False
        weights = batch.weights.clone()
        weights[:n_masked, :-1] *= chosen[:, 1:]
        weights[:n_masked, -1] = 0
        hidden = batch.ids[:n_masked].masked_fill(chosen, self.mask_id)
        causal = (part[n_masked:].numpy() for part in (batch.ids, batch.targets, batch.weights))
        scored = self.scored(*causal) if batch.bytes_scored else 0
        return Batch(batch.ids, batch.targets, weights, scored, {**batch.extra, "masked_ids": hidden})


def mask_rows(config: MaskedConfig, tokenizer: Tokenizer) -> MaskRows:
    """Make the change of batches that `masked` needs. Raises TokenizerError if there is no mask symbol."""
    return MaskRows(config, tokenizer.special_id("<|mask|>"), tokenizer.eot_id, ScoredBytes(tokenizer))
