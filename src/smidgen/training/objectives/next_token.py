"""Predict the next symbol: the loss of pretraining and, with a chat mask in the weights, of fine-tuning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from smidgen.config import Config
from smidgen.data.batch import Batch
from smidgen.models import Model
from smidgen.training.objectives import LossSum
from smidgen.training.objectives.cross_entropy import UNSOFTENED, CrossEntropy, Softening, cross_entropy_sums


class NextTokenConfig(Config):
    """Predict the next symbol, and nothing else."""

    type: Literal["next_token"] = "next_token"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each target that is spread evenly over the vocabulary. Source: Szegedy et al. 2015, arXiv 1512.00567."""
    z_loss: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the squared log-normaliser, 1e-4 in PaLM: keeps logits from drifting. Source: arXiv 2204.02311."""


@dataclass(frozen=True)
class NextToken:
    """The objective of a NextTokenConfig."""

    config: NextTokenConfig

    def __call__(self, model: Model, batch: Batch, sums: CrossEntropy = cross_entropy_sums) -> LossSum:
        """Return the summed next-symbol loss of a batch."""
        features, own_losses = model.features_and_losses(batch.ids, batch.targets, batch.weights, batch.branches)
        softening = Softening(self.config.label_smoothing, self.config.z_loss)
        features, targets, weights = features.flatten(0, 1), batch.targets.flatten(), batch.weights.flatten()
        if "supervised" in batch.extra:  # of most conversations little is taught, and only that needs logits
            places = batch.supervised_places()
            features, targets, weights = features[places], targets[places], weights[places]
        told = sums(features, model.head_weight(), targets, weights, model.config.logit_softcap, softening)
        if softening == UNSOFTENED and not own_losses:
            return LossSum(told.loss)
        return with_own_losses(LossSum(told.loss, told.nll), own_losses)


next_token = NextToken(NextTokenConfig())
"""The plain one."""

OWN_WEIGHTS: Mapping[str, float] = {"next_latent": 0.0}
"""Weights of a model's own losses: 1, but for a thought, which only the objective `next_latent` asks about."""


def with_own_losses(
    out: LossSum, own_losses: Mapping[str, Tensor], weights: Mapping[str, float] = OWN_WEIGHTS
) -> LossSum:
    """Return a loss to which a model's own losses are added."""
    loss = out.loss
    for name, own in own_losses.items():
        if weight := weights.get(name, 1.0):
            loss = loss + weight * own
    return LossSum(loss, out.loss if out.nll is None else out.nll, {**out.metrics, **own_losses})


def next_token_loss(
    model: Model, features: Float[Tensor, "B T D"], batch: Batch, sums: CrossEntropy = cross_entropy_sums
) -> Float[Tensor, ""]:
    """Return the summed next-symbol loss that features of a batch lead to, in nats."""
    return sums(
        features.flatten(0, 1),
        model.head_weight(),
        batch.targets.flatten(),
        batch.weights.flatten(),
        model.config.logit_softcap,
    ).loss
