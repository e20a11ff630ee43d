"""A patch's symbols to one vector: segment operations over all symbols at once, so padding never enters.

Each pooling takes what the encoder says of each symbol and which patch the symbol belongs to; patch `n` is whatever
belongs to none that is asked for. Sums are fp32.
"""

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from smidgen.config import Config
from smidgen.models.layers import Linear


class MeanConfig(Config):
    """The mean of a patch's symbols: STLM's, without its padding."""

    n_heads: ClassVar[int] = 1
    """Heads the local width is cut into: it stays whole."""
    type: Literal["mean"] = "mean"


class MaxConfig(Config):
    """The greatest value of each dimension."""

    n_heads: ClassVar[int] = 1
    """Heads the local width is cut into: it stays whole."""
    type: Literal["max"] = "max"


class LastConfig(Config):
    """The patch's last symbol, which has seen the others: H-Net's and SpaceByte's choice."""

    n_heads: ClassVar[int] = 1
    """Heads the local width is cut into: it stays whole."""
    type: Literal["last"] = "last"


class CrossAttentionConfig(Config):
    """Attention over the patch's symbols, asked by their mean and added to it. Source: BLT, arXiv 2412.09871."""

    type: Literal["cross_attention"] = "cross_attention"
    n_heads: Annotated[int, Field(ge=1)] = 2
    """Heads; they divide the local width."""


PoolingConfig = Annotated[MeanConfig | MaxConfig | LastConfig | CrossAttentionConfig, Field(discriminator="type")]


class MeanPooling(nn.Module):
    """Mean of each patch; 0 for a patch without symbols."""

    def __init__(self, config: MeanConfig, d_local: int) -> None:
        super().__init__()

    def forward(self, x: Float[Tensor, "B T D"], owner: Int[Tensor, "B T"], n: int) -> Float[Tensor, "B P D"]:
        """Pool symbols into patches 0..n-1."""
        return _mean(x, owner, n)


class MaxPooling(nn.Module):
    """Maximum of each patch; 0 for a patch without symbols."""

    def __init__(self, config: MaxConfig, d_local: int) -> None:
        super().__init__()

    def forward(self, x: Float[Tensor, "B T D"], owner: Int[Tensor, "B T"], n: int) -> Float[Tensor, "B P D"]:
        """Pool symbols into patches 0..n-1."""
        return segment_max(x, owner, n).masked_fill(~_filled(owner, n)[..., None], 0)


class LastPooling(nn.Module):
    """Last symbol of each patch; the row's first for a patch without symbols."""

    def __init__(self, config: LastConfig, d_local: int) -> None:
        super().__init__()

    def forward(self, x: Float[Tensor, "B T D"], owner: Int[Tensor, "B T"], n: int) -> Float[Tensor, "B P D"]:
        """Pool symbols into patches 0..n-1."""
        at = torch.arange(owner.shape[1], device=owner.device).expand_as(owner)
        last = at.new_zeros(owner.shape[0], n + 1).scatter_reduce_(1, owner.clamp(max=n), at, "amax")[:, :n]
        return x.gather(1, last[..., None].expand(-1, -1, x.shape[-1]))


class CrossAttentionPooling(nn.Module):
    """softmax over a patch's own symbols, asked by their mean."""

    def __init__(self, config: CrossAttentionConfig, d_local: int) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (Linear(d_local, d_local) for _ in range(4))

    def forward(self, x: Float[Tensor, "B T D"], owner: Int[Tensor, "B T"], n: int) -> Float[Tensor, "B P D"]:
        """Pool symbols into patches 0..n-1."""
        owner = owner.clamp(max=n)
        mean = _mean(x, owner, n + 1)
        asked, keys, values = (
            part.unflatten(-1, (self.n_heads, -1))
            for part in (segment_read(self.q_proj(mean), owner), self.k_proj(x), self.v_proj(x))
        )
        scores = (asked * keys).sum(-1).float() * keys.shape[-1] ** -0.5
        highest = segment_max(scores.detach(), owner, n + 1)
        weights = (scores - segment_read(highest, owner)).exp()
        total = segment_sum(weights, owner, n)
        mixed = segment_sum((weights[..., None] * values.float()).flatten(2), owner, n).unflatten(
            -1, (self.n_heads, -1)
        )
        mixed = (mixed / total[..., None].clamp_min(1e-20)).flatten(2)
        return mean[:, :n] + self.o_proj(mixed.to(x.dtype))


POOLINGS = {"mean": MeanPooling, "max": MaxPooling, "last": LastPooling, "cross_attention": CrossAttentionPooling}


def segment_sum(x: Float[Tensor, "B T D"], owner: Int[Tensor, "B T"], n: int) -> Float[Tensor, "B P D"]:
    """Sum the symbols of patches 0..n-1, in fp32."""
    sums = torch.zeros(x.shape[0] * (n + 1), x.shape[-1], device=x.device)
    return sums.index_add(0, _flat(owner, n), x.float().flatten(0, 1)).view(x.shape[0], n + 1, -1)[:, :n]


def segment_max(x: Float[Tensor, "B T D"], owner: Int[Tensor, "B T"], n: int) -> Float[Tensor, "B P D"]:
    """Return the greatest of the symbols of patches 0..n-1; -inf where there are none."""
    least = x.new_full((x.shape[0], n + 1, x.shape[-1]), -torch.inf)
    return least.scatter_reduce(1, owner.clamp(max=n)[..., None].expand_as(x), x, "amax")[:, :n]


def segment_read(x: Float[Tensor, "B P D"], owner: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
    """Return for each symbol what its patch has."""
    n = x.shape[1] - 1
    return x.flatten(0, 1).index_select(0, _flat(owner, n)).view(*owner.shape, -1)


def _mean(x: Tensor, owner: Tensor, n: int) -> Tensor:
    counts = segment_sum(torch.ones(*owner.shape, 1, device=x.device), owner, n)
    return (segment_sum(x, owner, n) / counts.clamp_min(1)).to(x.dtype)


def _filled(owner: Tensor, n: int) -> Tensor:
    filled = torch.zeros(owner.shape[0], n + 1, dtype=torch.bool, device=owner.device)
    return filled.scatter_(1, owner.clamp(max=n), True)[:, :n]


def _flat(owner: Tensor, n: int) -> Tensor:
    offsets = torch.arange(owner.shape[0], device=owner.device)[:, None] * (n + 1)
    return (owner.clamp(max=n) + offsets).flatten()
