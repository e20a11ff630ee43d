"""The parts every model shares: linear map, RMS norm, rotary positions, feed-forward.

Precision is decided once, by the cast at the embedding: weights stay as they are stored (fp32 in training), and
every part follows the dtype of its input. Reductions and norms compute in fp32.
"""

from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.config import Config


class Linear(nn.Linear):
    """A linear map without bias whose weight is cast to the dtype of its input.

    Source: nanochat `gpt.py` (karpathy, 2026): no autocast, no global precision state.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def forward(self, input: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """Return input @ weight.T in the dtype of the input."""
        return F.linear(input, self.weight.to(input.dtype))


class AdaptedLinear(nn.Module):
    """A linear map that several depths share, with a low-rank update of this depth alone: W x + B A x.

    Source: Hu et al. 2021, arXiv 2106.09685; per depth of a looped model: Bae et al. 2024, arXiv 2410.20672.
    """

    def __init__(self, shared: Linear, rank: int) -> None:
        super().__init__()
        self.shared = shared
        self.lora_a = nn.Parameter(torch.empty(rank, shared.in_features))
        self.lora_b = nn.Parameter(torch.empty(shared.out_features, rank))

    def forward(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """Return the shared map's output and this depth's update of it, in the dtype of x."""
        narrow = F.linear(x, self.lora_a.to(x.dtype))
        return self.shared(x) + F.linear(narrow, self.lora_b.to(x.dtype))

    def merged(self) -> Float[Tensor, "d_out d_in"]:
        """Return the weight of the one map that computes the same."""
        return self.shared.weight + self.lora_b @ self.lora_a


class Embedding(nn.Embedding):
    """One vector per symbol; the same vectors serve as the output head when it is tied."""

    def reset_parameters(self) -> None:
        """Draw nothing: `init_weights` or a file does, and a draw on the meta device imports sympy, 0.6 s."""

    def attend(self, features: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]:
        """Return the product of features with every symbol's vector, in the dtype of the features."""
        return F.linear(features, self.weight.to(features.dtype))


class EmbeddingMap(nn.Module):
    """The second factor of an embedding: from the table's narrow vectors to the stream, and back for a tied head.

    Source: Lan et al. 2019 (ALBERT), arXiv 1909.11942. Worth it above 8k symbols only (techniques.md, Architecture).
    """

    def __init__(self, rank: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_model, rank))

    def forward(self, narrow: Float[Tensor, "*rows rank"]) -> Float[Tensor, "*rows D"]:
        """Widen vectors of the table, in their own dtype."""
        return F.linear(narrow, self.weight.to(narrow.dtype))

    def attend(self, features: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows rank"]:
        """Narrow features, so that the table itself can be the output head."""
        return features @ self.weight.to(features.dtype)


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in fp32. Source: Zhang and Sennrich 2019, arXiv 1910.07467."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Float[Tensor, "*rows size"]) -> Float[Tensor, "*rows size"]:
        """Normalise the last dimension to unit mean square, then scale."""
        return (rms_normalize(x.float(), self.eps) * self.weight.float()).to(x.dtype)


def rms_normalize(x: Float[Tensor, "*rows size"], eps: float) -> Float[Tensor, "*rows size"]:
    """Divide by the root mean square of the last dimension."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


class Rotation(NamedTuple):
    """Cosines and sines of the rotary angles, (T, K) when rows share positions, (B, 1, T, K) when they do not."""

    cos: Tensor
    sin: Tensor


def rotation(positions: Int[Tensor, "*shape"], d_head: int, theta: float, dtype: torch.dtype) -> Rotation:
    """Compute the rotary angles of positions, in the rotate-half layout of HF Llama.

    Source: Su et al. 2021, arXiv 2104.09864.
    """
    exponents = torch.arange(0, d_head, 2, device=positions.device, dtype=torch.float32) / d_head
    angles = positions.float()[..., None] * (1.0 / theta**exponents)
    angles = torch.cat([angles, angles], dim=-1)
    return Rotation(angles.cos().to(dtype), angles.sin().to(dtype))


def rotate(x: Float[Tensor, "B H T K"], by: Rotation) -> Float[Tensor, "B H T K"]:
    """Turn queries or keys by their positions."""
    first, second = x.chunk(2, dim=-1)
    return x * by.cos + torch.cat([-second, first], dim=-1) * by.sin


class SwiGLUConfig(Config):
    """Gated feed-forward of Llama. Source: Shazeer 2020, arXiv 2002.05202."""

    type: Literal["swiglu"] = "swiglu"
    d_ff: Annotated[int, Field(ge=1)] = 896
    """Hidden width; three matrices of d_model x d_ff."""


class ReLU2Config(Config):
    """Squared ReLU feed-forward. Source: So et al. 2021 (Primer), arXiv 2109.08668."""

    type: Literal["relu2"] = "relu2"
    d_ff: Annotated[int, Field(ge=1)] = 1280
    """Hidden width; two matrices of d_model x d_ff."""


MLPConfig = Annotated[SwiGLUConfig | ReLU2Config, Field(discriminator="type")]


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)); parameter names as in HF Llama."""

    def __init__(self, d_model: int, config: SwiGLUConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(d_model, config.d_ff)
        self.up_proj = Linear(d_model, config.d_ff)
        self.down_proj = Linear(config.d_ff, d_model)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Map each position on its own."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class ReLU2(nn.Module):
    """down(relu(up(x))^2): at equal parameters -0.024 bits per byte against ReLU (techniques.md, Architecture)."""

    def __init__(self, d_model: int, config: ReLU2Config) -> None:
        super().__init__()
        self.up_proj = Linear(d_model, config.d_ff)
        self.down_proj = Linear(config.d_ff, d_model)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Map each position on its own."""
        return self.down_proj(F.relu(self.up_proj(x)).square())


MLPS = {"swiglu": SwiGLU, "relu2": ReLU2}
