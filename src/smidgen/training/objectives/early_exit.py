"""Predict the next symbol from every exit: a depth-weighted sum of losses. Source: LayerSkip, arXiv 2404.16710."""

from dataclasses import dataclass
from typing import Annotated, Literal, cast

import torch
from pydantic import Field, model_validator

from smidgen.config import Config
from smidgen.data.batch import Batch
from smidgen.models import Model
from smidgen.models.exits import features_by_depth
from smidgen.models.llama import Llama
from smidgen.training.objectives import LossSum
from smidgen.training.objectives.cross_entropy import CrossEntropy, cross_entropy_sums
from smidgen.training.objectives.next_token import next_token_loss


class EarlyExitConfig(Config):
    """Predict the next symbol from every exit; needs `model.heads.exit`."""

    type: Literal["early_exit"] = "early_exit"
    scale: Annotated[float, Field(gt=0)] = 0.2
    """How much the exits weigh against the end; 1 gives the end of 8 depths a third of the sum, 0.2 a half."""
    weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """Weight of each exit's loss and, last, of the end's; None: growing with the square of the depth, by `scale`."""

    @model_validator(mode="after")
    def _check(self) -> "EarlyExitConfig":
        if self.weights is not None and not (self.weights and self.weights[-1]):
            raise ValueError(
                "weights must end with that of the end of the stack, above 0: it is what decodes by default."
            )
        return self


@dataclass(frozen=True)
class EarlyExit:
    """The objective of an EarlyExitConfig."""

    config: EarlyExitConfig

    def __call__(self, model: Model, batch: Batch, sums: CrossEntropy = cross_entropy_sums) -> LossSum:
        """Return the weighted sum over depths, the weights scaled to sum to one; `nll` is that of the end."""
        depths = [*model.heads.exits, len(model.config.stack.layers)]
        weights = self.config.weights or depth_weights(depths, self.config.scale)
        said = zip(depths, weights, features_by_depth(cast(Llama, model), batch.ids), strict=True)
        losses = {
            depth: (weight, next_token_loss(model, features, batch, sums)) for depth, weight, features in said if weight
        }
        loss = torch.stack([weight / sum(weights) * told for weight, told in losses.values()]).sum()
        _, end = losses.pop(depths[-1])
        return LossSum(loss, end.detach(), {f"exit_{depth}": told.detach() for depth, (_, told) in losses.items()})


def depth_weights(depths: list[int], scale: float) -> list[float]:
    """Return LayerSkip's weights of exits after so many depths, the last being the end (section 4.1.2).

    Counted from one: from zero, as there, an exit after the first depth would never learn what it is asked for.
    """
    *exits, end = depths
    triangle = [depth * (depth + 1) / 2 for depth in exits]
    return [scale * weight for weight in triangle] + [end - 1 + scale * (end - 1) * (end - 2) / 2]
