"""Causal self-attention with grouped key/value heads, rotary positions and optional query/key norm."""

from typing import Annotated

from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.config import Config
from smidgen.models.layers import Linear, RMSNorm, Rotation, rotate
from smidgen.models.state import Recall


class AttentionConfig(Config):
    """Shape of one attention layer."""

    n_heads: Annotated[int, Field(ge=1)] = 5
    """Query heads."""
    n_kv_heads: Annotated[int, Field(ge=1)] | None = None
    """Key/value heads, shared by groups of query heads; None: as many as query heads. Source: arXiv 2305.13245."""
    d_head: Annotated[int, Field(ge=2, multiple_of=2)] | None = None
    """Width of a head; None: d_model / n_heads."""
    rope_theta: Annotated[float, Field(gt=0)] = 10_000.0
    """Base of the rotary frequencies."""
    qk_norm: bool = False
    """RMS-norm queries and keys per head before turning them. Source: Henry et al. 2020, arXiv 2010.04245."""

    @property
    def kv_heads(self) -> int:
        """Key/value heads, resolved."""
        return self.n_kv_heads or self.n_heads


class Attention(nn.Module):
    """softmax(QK/sqrt(K))V over the past; parameter names as in HF Llama (and Qwen3 where qk_norm is on)."""

    def __init__(self, d_model: int, d_head: int, config: AttentionConfig, norm_eps: float) -> None:
        super().__init__()
        self.d_head = d_head
        self.q_proj = Linear(d_model, config.n_heads * d_head)
        self.k_proj = Linear(d_model, config.kv_heads * d_head)
        self.v_proj = Linear(d_model, config.kv_heads * d_head)
        self.o_proj = Linear(config.n_heads * d_head, d_model)
        self.q_norm = RMSNorm(d_head, norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(d_head, norm_eps) if config.qk_norm else nn.Identity()

    def forward(
        self, x: Float[Tensor, "B T D"], turn: Rotation, depth: int, recall: Recall | None = None
    ) -> Float[Tensor, "B T D"]:
        """Attend over x alone, or, with `recall`, over what the rows remember at this depth and x."""
        queries, keys, values = (
            project(x).unflatten(-1, (-1, self.d_head)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        queries = rotate(self.q_norm(queries), turn)
        keys = rotate(self.k_norm(keys), turn)
        if recall is None:
            mixed = attend_causal(queries, keys, values)
        else:
            remembered = recall.remember(depth, keys, values)
            if recall.from_empty:
                mixed = attend_causal(queries, keys, values)
            else:
                mixed = attend_memory(queries, *remembered, recall.mask)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


def attend_causal(
    queries: Float[Tensor, "B H T K"], keys: Float[Tensor, "B G T K"], values: Float[Tensor, "B G T K"]
) -> Float[Tensor, "B H T K"]:
    """Attend each position to itself and the past, through torch's fused kernel (FlashAttention on a GPU)."""
    grouped = queries.shape[1] != keys.shape[1]
    return F.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=grouped)


def attend_memory(
    queries: Float[Tensor, "B H T K"],
    keys: Float[Tensor, "B G S K"],
    values: Float[Tensor, "B G S K"],
    mask: Bool[Tensor, "B 1 T S"] | None,
) -> Float[Tensor, "B H T K"]:
    """Attend new symbols to a memory of keys and values, without repeating the memory for every query head.

    The query heads that share a key/value head are laid out as extra query positions: the memory is read once.
    """
    n_groups, n_new = keys.shape[1], queries.shape[2]
    group = queries.shape[1] // n_groups
    folded = queries.unflatten(1, (n_groups, group)).flatten(2, 3)
    if mask is not None and n_new > 1:
        mask = mask[:, :, None].expand(-1, -1, group, -1, -1).flatten(2, 3)
    mixed = F.scaled_dot_product_attention(folded, keys, values, attn_mask=mask)
    return mixed.unflatten(2, (group, n_new)).flatten(1, 2)
