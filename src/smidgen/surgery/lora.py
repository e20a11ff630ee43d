"""A low-rank update beside a frozen map: LoRA with both factors trained, LoRA-XS with the core between frozen ones.

The update is added to the frozen map's output in one pass over it. Frozen factors need no input in the backward pass:
of x, only its projection onto r directions is kept.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.errors import ConfigError
from smidgen.surgery.maps import weight_of
from smidgen.surgery.svd import Factors


class LoraLinear(nn.Module):
    """W x + scale * B A x. Source: Hu et al. 2021, arXiv 2106.09685."""

    def __init__(self, base: nn.Module, a: Float[Tensor, "r d_in"], scale: float) -> None:
        super().__init__()
        self.base = base
        self.lora_a = nn.Parameter(a)
        self.lora_b = nn.Parameter(a.new_zeros(weight_of(base).shape[0], a.shape[0]))
        self.scale = scale

    def forward(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """Return the frozen map's output and the update, in the dtype of x."""
        flat = x.flatten(0, -2)
        narrow = F.linear(flat, self.lora_a.to(x.dtype))
        y = self.base(flat).addmm_(narrow, self.lora_b.to(x.dtype).mT, alpha=self.scale)
        return y.unflatten(0, x.shape[:-1])

    def factors(self) -> Factors:
        """Return the update as a product."""
        return Factors(self.scale * self.lora_b, self.lora_a)

    def merged(self) -> Float[Tensor, "d_out d_in"]:
        """Return the fp32 weight of the one map that computes the same."""
        return merge_factors(self.base, self.factors())


class CoreLinear(nn.Module):
    """W x + U R V x with frozen U and V, the map's own singular directions. Source: arXiv 2405.17604."""

    down: Tensor
    up: Tensor

    def __init__(self, base: nn.Module, frozen: Factors) -> None:
        super().__init__()
        self.base = base
        self.register_buffer("down", frozen.down, persistent=False)
        self.register_buffer("up", frozen.up, persistent=False)
        rank = len(frozen.down)
        self.core = nn.Parameter(frozen.down.new_zeros(rank, rank))

    def forward(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """Return the frozen map's output and the update, in the dtype of x."""
        return add_between(self.base, x, self.down, self.core, self.up)

    def factors(self) -> Factors:
        """Return the update as a product."""
        return Factors(self.up @ self.core, self.down)

    def merged(self) -> Float[Tensor, "d_out d_in"]:
        """Return the fp32 weight of the one map that computes the same."""
        return merge_factors(self.base, self.factors())


def add_between(
    base: nn.Module,
    x: Float[Tensor, "*rows d_in"],
    down: Float[Tensor, "r d_in"],
    core: Float[Tensor, "r r"] | Float[Tensor, "B r r"],
    up: Float[Tensor, "d_out r"],
) -> Float[Tensor, "*rows d_out"]:
    """Return base(x) + up core down x; the core, which is what is trained, multiplies in fp32.

    Cores may differ between the rows of x, one for each. Raises ConfigError if they are not as many.
    """
    flat = x.flatten(0, -2)
    narrow = F.linear(flat, down.to(x.dtype)).float()
    if core.ndim == 3:
        if len(core) != len(x):
            raise ConfigError(f"{len(core)} rows were given vectors of their own, and {len(x)} rows are run.")
        narrow = torch.bmm(narrow.view(len(core), -1, narrow.shape[-1]), core.mT).flatten(0, 1)
    else:
        narrow = F.linear(narrow, core)
    return base(flat).addmm_(narrow.to(x.dtype), up.to(x.dtype).mT).unflatten(0, x.shape[:-1])


def merge_factors(base: nn.Module, update: Factors) -> Float[Tensor, "d_out d_in"]:
    """Return a frozen map's weight with an update added, in fp32."""
    return torch.addmm(weight_of(base).float(), update.up, update.down)
