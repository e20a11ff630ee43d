"""What is minimised: a function from a model and a batch to a *summed* loss.

Sums, not means: the loop divides once by the weight of the whole step over all micro-batches and ranks, so ragged
masks, accumulation and data parallelism agree exactly. Each variant is a small file beside this one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from smidgen.data.batch import Batch
from smidgen.models import Model
from smidgen.training.objectives.cross_entropy import CrossEntropy, cross_entropy_sums


@dataclass(frozen=True)
class LossSum:
    """A loss summed over supervised symbols, and sums of whatever else is worth logging."""

    loss: Tensor
    """What is minimised: scalar, nats."""
    nll: Tensor | None = None
    """Next-symbol loss alone, summed with the same weights, where other losses are added; None: `loss` is just that."""
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """What is minimised."""

    def __call__(self, model: Model, batch: Batch, sums: CrossEntropy = cross_entropy_sums) -> LossSum:
        """Return the summed loss of a batch, every cross-entropy in it computed by `sums`: as written, or compiled."""
        ...
