"""The baseline: GPT-2's recipe as small trainers run it. LayerNorm, GELU, learned positions, tied head, SDPA attention.

Source: Radford et al. 2019; initialisation as in nanoGPT (karpathy, MIT): N(0, 0.02), output projections smaller by
depth. Keeps the model contract far enough for `fit` and the evaluator, and nothing more.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class GPT2Config:
    """Shape of the baseline."""

    vocab_size: int
    d_model: int
    depth: int
    n_heads: int
    max_seq_len: int = 512
    logit_softcap: None = None


class Block(nn.Module):
    """Pre-norm attention and a feed-forward of four times the width."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        width = config.d_model
        self.n_heads = config.n_heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.attention_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.mlp_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Add attention, then the feed-forward."""
        heads = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=True)
        x = x + self.attention_out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp_out(F.gelu(self.up(self.norm_2(x))))


class GPT2(nn.Module):
    """Ids to next-symbol logits; `compute_dtype` other than fp32 means autocast, as its users run it."""

    def __init__(self, config: GPT2Config, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype: torch.dtype | None = None
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = nn.Embedding(config.max_seq_len, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.d_model)
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                shrink = (2 * config.depth) ** -0.5 if name.endswith("_out.weight") else 1.0
                nn.init.normal_(weight, std=0.02 * shrink, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def features(self, ids: Tensor) -> Tensor:
        """Return what the head reads."""
        dtype = self.compute_dtype or torch.float32
        with torch.autocast(ids.device.type, dtype, enabled=dtype != torch.float32):
            x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
            for block in self.blocks:
                x = block(x)
            return self.norm(x).to(dtype)

    def features_and_losses(self, ids: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.features(ids), {}

    def logits(self, features: Tensor) -> Tensor:
        """Return fp32 logits."""
        return F.linear(features, self.head_weight().to(features.dtype)).float()

    def head_weight(self) -> Tensor:
        """Return the tied head."""
        return self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Return fp32 logits of the symbol after each position."""
        return self.logits(self.features(ids))


def gpt2_of(parameters: int, vocab_size: int, depth: int = 8, d_head: int = 64, max_seq_len: int = 512) -> GPT2Config:
    """Return the shape of this depth whose parameter count is nearest to `parameters`."""

    def count(width: int) -> int:
        return depth * (12 * width * width + 13 * width) + (vocab_size + max_seq_len + 2) * width

    width = min(range(d_head, 4096, 8), key=lambda w: abs(count(w) - parameters))
    heads = max(h for h in range(1, width // 32 + 1) if width % h == 0 and width // h >= min(d_head, 48))
    return GPT2Config(vocab_size, width, depth, heads, max_seq_len)
