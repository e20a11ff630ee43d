"""Predict the next symbol: the loss of pretraining and, with a chat mask in the weights, of fine-tuning."""

from smidgen.data.batch import Batch
from smidgen.models import Model
from smidgen.training.objectives import LossSum
from smidgen.training.objectives.cross_entropy import cross_entropy_sum


def next_token(model: Model, batch: Batch) -> LossSum:
    """Return the summed next-symbol loss of a batch."""
    features = model.features(batch.ids).flatten(0, 1)
    loss = cross_entropy_sum(
        features, model.head_weight(), batch.targets.flatten(), batch.weights.flatten(), model.config.logit_softcap
    )
    return LossSum(loss)
