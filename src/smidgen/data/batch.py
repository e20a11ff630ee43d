"""What training consumes: one micro-batch of symbols, targets and weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smidgen.data.branches import Branches


@dataclass(frozen=True)
class Batch:
    """One micro-batch, the only thing an objective sees of the data.

    `weights` is 0 where a target is not supervised (padding, a prompt, the first symbol of an unrelated document)
    and may be fractional; the loop divides the summed loss by the summed weight of the whole step, over all ranks.
    """

    ids: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]
    weights: Float[Tensor, "B T"]
    bytes_scored: int = 0
    """UTF-8 bytes the supervised targets stand for, so that a loss in nats can be told in bits per byte."""
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """What an objective needs besides, by name; `supervised` is what `supervised_places` returns, made beforehand."""
    branches: Branches | None = None
    """How the only row branches into sequences that share their beginnings; None: each row is a sequence."""

    @property
    def n_sequences(self) -> int:
        """Rows, or branches of the only row."""
        return len(self.ids) if self.branches is None else self.branches.n

    def sequences_of(self, places: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        """Return which sequence each of some supervised places in the flattened rows is of."""
        return places // self.ids.shape[1] if self.branches is None else self.branches.sequences[places]

    def supervised_places(self) -> Int[Tensor, " N"]:
        """Return where supervised targets stand in the flattened rows; made here, it waits for the device."""
        places = self.extra.get("supervised")
        return self.weights.flatten().nonzero()[:, 0] if places is None else places

    def to(self, device: torch.device) -> "Batch":
        """Copy to a device, asynchronously where the memory is pinned."""
        return Batch(
            self.ids.to(device, non_blocking=True),
            self.targets.to(device, non_blocking=True),
            self.weights.to(device, non_blocking=True),
            self.bytes_scored,
            {name: tensor.to(device, non_blocking=True) for name, tensor in self.extra.items()},
            None if self.branches is None else self.branches.to(device),
        )
