"""Predict the next symbol: the loss of pretraining and, with a chat mask in the weights, of fine-tuning."""

import torch
from jaxtyping import Float
from torch import Tensor

from smidgen.data.batch import Batch
from smidgen.models import Model
from smidgen.training.objectives import LossSum
from smidgen.training.objectives.cross_entropy import cross_entropy_sum


def next_token(model: Model, batch: Batch) -> LossSum:
    """Return the summed next-symbol loss of a batch."""
    features, own_losses = model.features_and_losses(batch.ids, batch.targets, batch.weights)
    nll = next_token_loss(model, features, batch)
    if not own_losses:
        return LossSum(nll)
    return LossSum(nll + torch.stack(list(own_losses.values())).sum(), nll, own_losses)


def next_token_loss(model: Model, features: Float[Tensor, "B T D"], batch: Batch) -> Float[Tensor, ""]:
    """Return the summed next-symbol loss that features of a batch lead to, in nats."""
    return cross_entropy_sum(
        features.flatten(0, 1),
        model.head_weight(),
        batch.targets.flatten(),
        batch.weights.flatten(),
        model.config.logit_softcap,
    )
