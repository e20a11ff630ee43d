"""Predict the next symbol and, half-way through the network, what all that follows will look like there.

The prediction is made by the model's thought, which the rest of the network reads ("next thought", Super Tiny Language
Models, arXiv 2405.14159); what it is compared with and how is the model's own loss (`models/heads.py`).
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


class NextLatentConfig(Config):
    """Predict the next symbol and a representation of what follows; needs `model.heads.thought`."""

    type: Literal["next_latent"] = "next_latent"
    weight: Annotated[float, Field(gt=0)] = 0.3
    """Weight of 1 - cosine between what was predicted and what came, against the nats of the next symbol."""


@dataclass(frozen=True)
class NextLatent:
    """The objective of a NextLatentConfig."""

    config: NextLatentConfig

    def __call__(self, model: Model, batch: Batch, sums: CrossEntropy = cross_entropy_sums) -> LossSum:
        """Return the summed next-symbol loss and the weighted loss of the thought."""
        features, own_losses = model.features_and_losses(batch.ids, batch.targets, batch.weights)
        nll = next_token_loss(model, features, batch, sums)
        return with_own_losses(LossSum(nll), own_losses, {"next_latent": self.config.weight})
