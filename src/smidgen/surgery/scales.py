"""One trained number per output of a frozen map: multiplied (IA3) or added (bias)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.surgery.maps import weight_of


class ScaledLinear(nn.Module):
    """scale * W x. Source: Liu et al. 2022 (IA3), arXiv 2205.05638."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        weight = weight_of(base)
        self.scale = nn.Parameter(torch.ones(len(weight), device=weight.device))

    def forward(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """Return the scaled output in the dtype of x; scaled in fp32: bf16 has no number between 1 and 1.008."""
        return (self.base(x) * self.scale).to(x.dtype)

    def merged(self) -> Float[Tensor, "d_out d_in"]:
        """Return the fp32 weight of the one map that computes the same."""
        return weight_of(self.base).float() * self.scale[:, None]


class BiasedLinear(nn.Module):
    """W x + b. Source: Ben Zaken et al. 2021 (BitFit), arXiv 2106.10199."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        weight = weight_of(base)
        self.bias = nn.Parameter(torch.zeros(len(weight), device=weight.device))

    def forward(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """Return the output with the bias added, in the dtype of x."""
        return self.base(x) + self.bias.to(x.dtype)

    def merged(self) -> Float[Tensor, "d_out d_in"]:
        """Return the fp32 weight, which the bias leaves as it is: `merged_bias` is the other half."""
        return weight_of(self.base).float()

    def merged_bias(self) -> Float[Tensor, " d_out"]:
        """Return what has to be added to the output."""
        return self.bias
