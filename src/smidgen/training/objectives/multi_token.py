"""Predict the next symbol and, by a head each, the ones after it. Source: Gloeckle et al. 2024, arXiv 2404.19737.

The extra heads teach the trunk to look ahead and are dropped from the finished model, or kept to draft symbols for
faster decoding (`model.heads.future.keep`).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from smidgen.config import Config
from smidgen.data.batch import Batch
from smidgen.models import Model
from smidgen.training.objectives import LossSum
from smidgen.training.objectives.cross_entropy import CrossEntropy, cross_entropy_sums
from smidgen.training.objectives.next_token import next_token_loss, with_own_losses


class MultiTokenConfig(Config):
    """Predict the next symbol and those after it; needs `model.heads.future`."""

    type: Literal["multi_token"] = "multi_token"
    weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """Weight of each head's loss, the nearest first; None: 1 for each, as in the source."""


@dataclass(frozen=True)
class MultiToken:
    """The objective of a MultiTokenConfig."""

    config: MultiTokenConfig

    def __call__(self, model: Model, batch: Batch, sums: CrossEntropy = cross_entropy_sums) -> LossSum:
        """Return the summed losses of all heads; a target is a head's only if no unrelated text begins before it."""
        features, own_losses = model.features_and_losses(batch.ids, batch.targets, batch.weights)
        nll = next_token_loss(model, features, batch, sums)
        loss, metrics = nll, {}
        related = batch.weights > 0
        heads = model.heads.future
        for ahead, (head, weight) in enumerate(zip(heads, self.config.weights or [1.0] * len(heads), strict=True), 1):
            related = related[:, :-1] & (batch.weights[:, ahead:] > 0)
            later = Batch(batch.ids[:, :-ahead], batch.targets[:, ahead:], batch.weights[:, ahead:] * related)
            far = next_token_loss(model, head(features[:, :-ahead]), later, sums)
            loss = loss + weight * far
            metrics[f"ahead_{ahead + 1}"] = far.detach()
        return with_own_losses(LossSum(loss, nll.detach(), metrics), own_losses)
