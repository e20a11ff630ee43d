"""Prefer one answer to another, without a reward: direct preference optimization, and with it self-play fine-tuning.

A batch is two rows a pair, the chosen before the rejected; `extra["reference_log_probs"]` says what the model that must
not be left behind makes of each row, made once before training (`reference_log_probs`): with an adapter that is the
same model before its first step. SPIN (Chen et al. 2024, arXiv 2401.01335) is this loss with the model's own past
answers as the rejected side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from smidgen.config import Config
from smidgen.data.batch import Batch
from smidgen.errors import TrainingError
from smidgen.models import Model
from smidgen.training.objectives import LossSum
from smidgen.training.objectives.cross_entropy import CrossEntropy, cross_entropy_sums
from smidgen.training.objectives.log_probs import supervised_log_probs
from smidgen.training.objectives.next_token import with_own_losses


class PreferenceConfig(Config):
    """Prefer chosen answers to rejected ones. Source: Rafailov et al. 2023, arXiv 2305.18290."""

    type: Literal["preference"] = "preference"
    beta: Annotated[float, Field(gt=0)] = 0.1
    """How dear it is to leave the reference: nats of preference a nat of probability is worth."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of the pairs expected to be the wrong way round. Source: Mitchell 2023, ericmitchell.ai/cdpo.pdf."""


@dataclass(frozen=True)
class Preference:
    """The objective of a PreferenceConfig."""

    config: PreferenceConfig

    def __call__(self, model: Model, batch: Batch, sums: CrossEntropy = cross_entropy_sums) -> LossSum:
        """Return the summed loss of the pairs; `nll` is that of both sides, by the weights of the batch."""
        if "reference_log_probs" not in batch.extra:
            raise TrainingError("train.objective preference needs reference_log_probs with every row: score the pairs.")
        config = self.config
        said, own_losses = supervised_log_probs(model, batch)
        rows = said.sum_rows(said.log_probs, len(batch.ids))
        chosen, rejected = (rows - batch.extra["reference_log_probs"]).view(-1, 2).unbind(1)
        margin = config.beta * (chosen - rejected)
        losses = -F.logsigmoid(margin)
        if config.label_smoothing:  # -log sigmoid(-m) = -log sigmoid(m) + m
            losses = losses + config.label_smoothing * margin
        seen = {
            "margin": margin,
            "accuracy": (margin > 0).float() + 0.5 * (margin == 0).float(),
            "chosen": config.beta * chosen,
            "rejected": config.beta * rejected,
        }
        metrics = {name: value.detach().sum() for name, value in seen.items()}
        nll = -(said.log_probs.detach() * said.weights).sum()
        return with_own_losses(LossSum(losses.sum(), nll, metrics), own_losses)


@torch.no_grad()
def reference_log_probs(
    model: Model, batch_of: Callable[[Sequence[int]], Batch], lengths: Sequence[int], micro_symbols: int = 8192
) -> Float[Tensor, "N 2"]:
    """Return the log-probability of the chosen and the rejected answer of each of N pairs, longest pairs first.

    `batch_of` makes the batch of some pairs (`PairSet.batch`); `lengths` are the longer rows of each.
    """
    device = model.head_weight().device
    scores = torch.empty(len(lengths), 2)
    order = sorted(range(len(lengths)), key=lambda pair: -lengths[pair])
    while order:
        n = max(1, micro_symbols // (2 * lengths[order[0]]))
        taken, order = order[:n], order[n:]
        batch = batch_of(taken).to(device)
        said, _ = supervised_log_probs(model, batch)
        scores[taken] = said.sum_rows(said.log_probs, len(batch.ids)).view(-1, 2).float().cpu()
    return scores
