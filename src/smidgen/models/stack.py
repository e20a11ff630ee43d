"""Depth: blocks applied in the order of a list of ids, so that sharing is data and not a class."""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from smidgen.config import Config
from smidgen.models.attention import Attention, AttentionConfig
from smidgen.models.layers import MLPS, Embedding, MLPConfig, RMSNorm, Rotation, SwiGLUConfig, rms_normalize, rotation
from smidgen.models.state import Recall, StackState


class StackConfig(Config):
    """Shape of a stack of pre-norm transformer blocks."""

    d_model: Annotated[int, Field(ge=1)] = 320
    """Width of the residual stream."""
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2, 3, 4, 5, 6, 7)
    """Depth as block ids: [0,1,2,3] plain, [0,0,1,1] pairwise sharing, [0,0,0,0] one block four times."""
    mlps: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Feed-forward id of each block id; None: each block its own. [0,0,0,0] shares one feed-forward."""
    attention: AttentionConfig = AttentionConfig()
    """Shape of every attention layer."""
    mlp: MLPConfig = SwiGLUConfig()
    """Kind and width of every feed-forward."""
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    """Added to mean squares before the root."""
    residual_scalars: bool = False
    """Per depth, a learned scale on the stream and one on the embedding added back to it. Source: modded-nanogpt."""
    zero_init_outputs: bool = False
    """Start o_proj and down_proj at zero, so that every block starts as the identity. Source: modded-nanogpt."""

    @property
    def d_head(self) -> int:
        """Width of a head, resolved."""
        return self.attention.d_head or self.d_model // self.attention.n_heads

    @property
    def n_blocks(self) -> int:
        """Blocks with weights of their own."""
        return max(self.layers) + 1

    @model_validator(mode="after")
    def _check(self) -> "StackConfig":
        heads, groups = self.attention.n_heads, self.attention.kv_heads
        if self.attention.d_head is None and self.d_model % heads:
            low = self.d_model - self.d_model % heads
            near = f"Try {low} or {low + heads}." if low else f"Try {heads}."
            raise ValueError(f"d_model ({self.d_model}) must be divisible by attention.n_heads ({heads}). {near}")
        if self.d_head % 2:
            raise ValueError(f"a head of {self.d_head} cannot be rotated in pairs; d_model / n_heads must be even.")
        if heads % groups:
            raise ValueError(f"attention.n_heads ({heads}) must be divisible by attention.n_kv_heads ({groups}).")
        _check_ids("layers", self.layers)
        if self.mlps is not None:
            _check_ids("mlps", self.mlps)
            if len(self.mlps) != self.n_blocks:
                raise ValueError(f"mlps names {len(self.mlps)} feed-forwards for {self.n_blocks} blocks.")
        return self


def _check_ids(name: str, ids: tuple[int, ...]) -> None:
    missing = sorted(set(range(max(ids) + 1)) - set(ids))
    if missing:
        raise ValueError(f"{name} must use every id from 0 to {max(ids)}; {missing} never appear in {list(ids)}.")


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and added to the stream."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.self_attn = Attention(config.d_model, config.d_head, config.attention, config.norm_eps)
        self.post_attention_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = MLPS[config.mlp.type](config.d_model, config.mlp)

    def forward(
        self, x: Float[Tensor, "B T D"], turn: Rotation, depth: int, recall: Recall | None = None
    ) -> Float[Tensor, "B T D"]:
        """Add what attention and the feed-forward have to say."""
        x = x + self.self_attn(self.input_layernorm(x), turn, depth, recall)
        return x + self.mlp(self.post_attention_layernorm(x))


class Stack(nn.Module):
    """Blocks in the order of `config.layers`; a repeated id is the same module, its weights counted once."""

    embed_tokens: Embedding
    """Set by a model that reads ids, so that it has the name HF gives it."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.config = config
        blocks = [Block(config) for _ in range(config.n_blocks)]
        mlps = config.mlps or range(len(blocks))
        for block, mlp_id in zip(blocks, mlps, strict=True):
            block.mlp = blocks[mlps.index(mlp_id)].mlp
        self.layers = nn.ModuleList(blocks[block_id] for block_id in config.layers)
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        if config.residual_scalars:
            self.stream_scale = nn.Parameter(torch.ones(len(config.layers)))
            self.embedding_scale = nn.Parameter(torch.zeros(len(config.layers)))

    def forward(self, x: Float[Tensor, "B T D"], recall: Recall | None = None) -> Float[Tensor, "B T D"]:
        """Run the embedded symbols through every depth and the last norm."""
        config = self.config
        if recall is None:
            positions = torch.arange(x.shape[1], device=x.device)
            turn = rotation(positions, config.d_head, config.attention.rope_theta, x.dtype)
        else:
            turn = recall.turn
        if config.residual_scalars:
            x = rms_normalize(x.float(), config.norm_eps).to(x.dtype)
        embedded = x
        for depth, block in enumerate(self.layers):
            if config.residual_scalars:
                scales = self.stream_scale[depth], self.embedding_scale[depth]
                x = scales[0].to(x.dtype) * x + scales[1].to(x.dtype) * embedded
            x = block(x, turn, depth, recall)
        return self.norm(x)

    def init_state(self, rows: int, max_len: int, dtype: torch.dtype) -> StackState:
        """Allocate empty memory for decoding `rows` sequences of at most `max_len` symbols."""
        config, device = self.config, self.norm.weight.device
        shape = (len(config.layers), rows, config.attention.kv_heads, max_len, config.d_head)
        keys, values = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
        positions = torch.arange(max_len, device=device)
        table = rotation(positions, config.d_head, config.attention.rope_theta, dtype)
        return StackState(keys, values, table, config.attention.window)

    def init_weights(self, generator: torch.Generator) -> None:
        """Draw every weight: fan-in scaled normals; output projections smaller by depth, or zero."""
        shrink = 0.0 if self.config.zero_init_outputs else (2 * len(self.config.layers)) ** -0.5
        for name, weight in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.normal_(weight, std=shrink * weight.shape[1] ** -0.5, generator=generator)
            elif name.endswith("proj.weight"):
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5, generator=generator)
            elif name.endswith("embedding_scale"):
                nn.init.zeros_(weight)
            else:
                nn.init.ones_(weight)
