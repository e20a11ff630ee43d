"""Causal self-attention with grouped key/value heads, rotary positions and optional query/key norm."""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.config import Config
from smidgen.data.branches import Branches
from smidgen.models.branching import attend_branches
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
    window: Annotated[int, Field(ge=1)] | None = None
    """Positions each sees: itself and the window - 1 before it; None: all of the past. Source: arXiv 2004.05150."""

    @property
    def kv_heads(self) -> int:
        """Key/value heads, resolved."""
        return self.n_kv_heads or self.n_heads


class Attention(nn.Module):
    """softmax(QK/sqrt(K))V over the past; parameter names as in HF Llama (and Qwen3 where qk_norm is on)."""

    def __init__(self, d_model: int, d_head: int, config: AttentionConfig, norm_eps: float) -> None:
        super().__init__()
        self.d_head = d_head
        self.window = config.window
        self.q_proj = Linear(d_model, config.n_heads * d_head)
        self.k_proj = Linear(d_model, config.kv_heads * d_head)
        self.v_proj = Linear(d_model, config.kv_heads * d_head)
        self.o_proj = Linear(config.n_heads * d_head, d_model)
        self.q_norm = RMSNorm(d_head, norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(d_head, norm_eps) if config.qk_norm else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        turn: Rotation,
        depth: int,
        recall: Recall | None = None,
        causal: bool = True,
        branches: Branches | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Attend over x alone, or, with `recall`, over what the rows remember at this depth and x.

        Without `causal`, and with nothing remembered, every position attends to those after it too.
        """
        queries, keys, values = (
            project(x).unflatten(-1, (-1, self.d_head)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        queries = rotate(self.q_norm(queries), turn)
        keys = rotate(self.k_norm(keys), turn)
        if branches is not None:
            return self.o_proj(attend_branches(queries, keys, values, branches))
        mixed = attend(queries, keys, values, depth, recall, self.window, causal)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def remember(self, x: Float[Tensor, "B T D"], turn: Rotation, depth: int, recall: Recall) -> None:
        """Store the keys and values of x at this depth without attending: for symbols that left the stack before."""
        keys, values = (
            project(x).unflatten(-1, (-1, self.d_head)).transpose(1, 2) for project in (self.k_proj, self.v_proj)
        )
        recall.remember(depth, rotate(self.k_norm(keys), turn), values)


def attend(
    queries: Float[Tensor, "B H T K"],
    keys: Float[Tensor, "B G T K"],
    values: Float[Tensor, "B G T K"],
    depth: int,
    recall: Recall | None,
    window: int | None = None,
    causal: bool = True,
    learns: bool = True,
) -> Float[Tensor, "B H T K"]:
    """Attend to the new symbols alone or, with `recall`, to all the rows remember at this depth, the new included.

    Without `causal` nothing is remembered, and every position attends to those after it too. `learns` is whether this
    is a model that may be trained: see `attend_causal`.
    """
    if not causal:
        return attend_both_ways(queries, keys, values, window)
    if recall is None:
        return attend_causal(queries, keys, values, window, learns)
    remembered = recall.remember(depth, keys, values)
    if recall.from_empty:
        return attend_causal(queries, keys, values, window, learns)
    return attend_memory(queries, *remembered, recall.mask)


def attend_causal(
    queries: Float[Tensor, "B H T K"],
    keys: Float[Tensor, "B G T K"],
    values: Float[Tensor, "B G T K"],
    window: int | None = None,
    learns: bool = True,
) -> Float[Tensor, "B H T K"]:
    """Attend each position to itself and the past: with torch's fused kernel, or with matrix products where those pay.

    They do for what learns in bf16 on a CPU, and where a window skips most of the past. Forward alone the fused kernel
    takes half the time (LOG.md, 2026-11-23), so a model that only decodes has it; one that trains has the same kernel
    with gradients and without, or an objective would see rounding as a change of the model. In fp32 the fused one is as
    fast (66 ms against 65) and adds up in the order of every other implementation: equal logits after 30 layers.
    """
    if window is not None and window < queries.shape[2]:
        return attend_in_window(queries, keys, values, window)
    if queries.device.type == "cpu" and queries.dtype != torch.float32 and learns:
        return attend_in_blocks(queries, keys, values)
    grouped = queries.shape[1] != keys.shape[1]
    return F.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=grouped)


BLOCK = 128
"""Query positions of one block: 128 of 512 skips 37% of the products; 64 and 256 were 10-30% slower (LOG.md)."""


def attend_in_blocks(
    queries: Float[Tensor, "B H T K"], keys: Float[Tensor, "B G T K"], values: Float[Tensor, "B G T K"]
) -> Float[Tensor, "B H T K"]:
    """Attend causally, one block of query positions at a time, each against the keys up to its end.

    Plain matrix products keep the processor's bf16 units busy and share each key/value head among its group of
    queries: forward and backward together take a quarter of the time of torch's CPU kernel at 512 symbols (LOG.md,
    2026-11-22). Softmax is in fp32.
    """
    n_groups, length, d_head = keys.shape[1:]
    grouped = queries.unflatten(1, (n_groups, -1)).flatten(0, 1)  # (B*G, H/G, T, K)
    keys, values = keys.flatten(0, 1), values.flatten(0, 1)
    later = torch.full((BLOCK, BLOCK), -torch.inf, device=queries.device).triu(1)
    mixed = []
    for start in range(0, length, BLOCK):
        end = min(start + BLOCK, length)
        block = grouped[:, :, start:end]
        scores = torch.bmm(block.flatten(1, 2), keys[:, :end].mT).unflatten(1, block.shape[1:3])
        hidden = F.pad(later[: end - start, : end - start], (start, 0))
        weights = (scores.float() * d_head**-0.5 + hidden).softmax(-1).to(values.dtype)
        mixed.append(torch.bmm(weights.flatten(1, 2), values[:, :end]).unflatten(1, block.shape[1:3]))
    return torch.cat(mixed, dim=2).unflatten(0, (-1, n_groups)).flatten(1, 2)


def attend_in_window(
    queries: Float[Tensor, "B H T K"], keys: Float[Tensor, "B G T K"], values: Float[Tensor, "B G T K"], window: int
) -> Float[Tensor, "B H T K"]:
    """Attend each position to itself and the `window` - 1 before it, chunk by chunk of a window and the chunk before.

    All chunks are one product, so that a short window over a long row costs neither a call per chunk nor the products
    of the far past. Softmax is in fp32. Source: Beltagy et al. 2020 (Longformer), arXiv 2004.05150, appendix A.
    """
    n_groups, length, d_head = keys.shape[1:]
    short = -length % window
    queries, keys, values = (F.pad(part, (0, 0, 0, short)) if short else part for part in (queries, keys, values))
    n_chunks = queries.shape[2] // window
    chunks = queries.unflatten(2, (n_chunks, window)).unflatten(1, (n_groups, -1)).transpose(2, 3)
    queries = chunks.flatten(3, 4).flatten(0, 2)  # (B*G*N, H/G*W, K)
    keys, values = (_with_last(part.unflatten(2, (n_chunks, window))).flatten(0, 2) for part in (keys, values))
    place = torch.arange(window, device=queries.device)
    ahead = torch.arange(2 * window, device=queries.device) - window - place[:, None]
    hidden = torch.zeros(n_chunks, window, 2 * window, device=queries.device)
    hidden = hidden.masked_fill((ahead > 0) | (ahead <= -window), -torch.inf)
    hidden[0, :, :window] = -torch.inf
    scores = torch.bmm(queries, keys.mT).view(-1, n_chunks, queries.shape[1] // window, window, 2 * window)
    weights = (scores.float() * d_head**-0.5 + hidden[:, None]).softmax(-1).to(values.dtype)
    mixed = torch.bmm(weights.view(-1, queries.shape[1], 2 * window), values)
    mixed = mixed.view(len(chunks), n_groups, n_chunks, -1, window, d_head).transpose(2, 3)
    return mixed.flatten(3, 4).flatten(1, 2)[:, :, :length]


def _with_last(chunks: Float[Tensor, "B G N W K"]) -> Float[Tensor, "B G N 2W K"]:
    """Put before each chunk the one before it; zeros before the first."""
    return torch.cat([F.pad(chunks[:, :, :-1], (0, 0, 0, 0, 1, 0)), chunks], dim=3)


def attend_both_ways(
    queries: Float[Tensor, "B H T K"],
    keys: Float[Tensor, "B G T K"],
    values: Float[Tensor, "B G T K"],
    window: int | None = None,
) -> Float[Tensor, "B H T K"]:
    """Attend every position to all, or to those less than `window` away on either side; softmax in fp32."""
    n_groups, length, d_head = keys.shape[1:]
    hidden = None
    if window is not None and window < length:
        places = torch.arange(length, device=keys.device)
        hidden = (places[:, None] - places).abs() >= window
    if queries.device.type != "cpu":
        seen = None if hidden is None else ~hidden
        grouped = queries.shape[1] != n_groups
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen, enable_gqa=grouped)
    folded = queries.unflatten(1, (n_groups, -1)).flatten(2, 3).flatten(0, 1)  # (B*G, H/G*T, K)
    scores = torch.bmm(folded, keys.flatten(0, 1).mT).float() * d_head**-0.5
    if hidden is not None:
        scores = scores.unflatten(1, (-1, length)).masked_fill(hidden, -torch.inf).flatten(1, 2)
    mixed = torch.bmm(scores.softmax(-1).to(values.dtype), values.flatten(0, 1))
    return mixed.unflatten(1, (-1, length)).unflatten(0, (-1, n_groups)).flatten(1, 2)


def attend_memory(
    queries: Float[Tensor, "B H T K"],
    keys: Float[Tensor, "B G S K"],
    values: Float[Tensor, "B G S K"],
    mask: Float[Tensor, "B 1 T S"] | None,
) -> Float[Tensor, "B H T K"]:
    """Attend new symbols to a memory of keys and values, without repeating the memory for every query head.

    The query heads that share a key/value head are laid out as extra query positions: the memory is read once, which
    takes two thirds of the time of the kernel's own `enable_gqa` (6 symbols of each of 16 rows, behind 50).
    """
    n_groups, n_new = keys.shape[1], queries.shape[2]
    group = queries.shape[1] // n_groups
    folded = queries.unflatten(1, (n_groups, group)).flatten(2, 3)
    if mask is not None and n_new > 1:
        mask = mask[:, :, None].expand(-1, -1, group, -1, -1).flatten(2, 3)
    mixed = F.scaled_dot_product_attention(folded, keys, values, attn_mask=mask)
    return mixed.unflatten(2, (group, n_new)).flatten(1, 2)
