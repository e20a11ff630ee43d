"""Depth: blocks applied in the order of a list of ids, so that sharing is data and not a class."""

import math
from collections.abc import Callable
from typing import Annotated, Any, cast

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from smidgen.config import Config
from smidgen.data.branches import Branches
from smidgen.models.attention import Attention, AttentionConfig
from smidgen.models.dropout import Dropout
from smidgen.models.layers import (
    MLPS,
    AdaptedLinear,
    Embedding,
    EmbeddingMap,
    Linear,
    MLPConfig,
    RMSNorm,
    Rotation,
    SwiGLUConfig,
    rms_normalize,
    rotation,
)
from smidgen.models.layouts import Ids
from smidgen.models.state import Recall, StackState
from smidgen.runtime import return_freed_memory

DEPTHS_BETWEEN_RETURNS = 15
"""Depths computed again between two returns of freed memory: glibc finds little room for the tensors of one in the
holes of the one before. SmolLM2-135M, 8 answers of 64 that branch: 915 MB without, 845 every 15 depths, 838 every five;
but what is given back is faulted in again, 0.03, 0.14 and 0.3 of 2.3 s."""
Visit = Callable[[int, Tensor], Tensor]
"""What is done between depths: from the number of depths so far and the stream to the stream."""


class StackConfig(Config):
    """Shape of a stack of pre-norm transformer blocks."""

    d_model: Annotated[int, Field(ge=1)] = 320
    """Width of the residual stream."""
    layers: Ids = (0, 1, 2, 3, 4, 5, 6, 7)
    """Depth as block ids: [0,1,2,3] plain, [0,0,1,1] pairwise sharing; or a layout's name, "pairwise:4"."""
    mlps: Ids | None = None
    """Feed-forward id of each block id; None: each block its own. [0,0,0,0] or "universal:4" shares one among four."""
    attention_outputs: Ids | None = None
    """Id of each block id's attention output map (o_proj); None: each block its own. Source: STLM's pre-report."""
    depth_lora_rank: Annotated[int, Field(ge=0)] = 0
    """Rank of each depth's own update of every map it shares; 0: none. Source: arXiv 2410.20672; rank 64 in STLM."""
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

    @property
    def map_ids(self) -> dict[str, tuple[int, ...]]:
        """Which attention maps, output map and feed-forward each depth uses, by id: what is shared, depth by depth."""
        outputs, mlps = (ids or range(self.n_blocks) for ids in (self.attention_outputs, self.mlps))
        return {
            "attention": self.layers,
            "output": tuple(outputs[block] for block in self.layers),
            "mlp": tuple(mlps[block] for block in self.layers),
        }

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
        named = {"mlps": (self.mlps, "feed-forwards"), "attention_outputs": (self.attention_outputs, "output maps")}
        for name, (ids, what) in named.items():
            if ids is not None:
                _check_ids(name, ids)
                if len(ids) != self.n_blocks:
                    raise ValueError(f"{name} names {len(ids)} {what} for {self.n_blocks} blocks.")
        if self.depth_lora_rank and all(len(set(ids)) == len(ids) for ids in self.map_ids.values()):
            raise ValueError(f"depth_lora_rank ({self.depth_lora_rank}) adapts nothing: no two depths share a map.")
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
        self.dropout = Dropout()

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        turn: Rotation,
        depth: int,
        recall: Recall | None = None,
        causal: bool = True,
        branches: Branches | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Add what attention and the feed-forward have to say."""
        said = self.self_attn(self.input_layernorm(x), turn, depth, recall, causal, branches)
        x = x + (self.dropout(said) if self.training else said)
        said = self.mlp(self.post_attention_layernorm(x))
        return x + (self.dropout(said) if self.training else said)

    def remember(self, x: Float[Tensor, "B T D"], turn: Rotation, depth: int, recall: Recall) -> None:
        """Store what later symbols will attend to here, of symbols that go no deeper themselves."""
        self.self_attn.remember(self.input_layernorm(x), turn, depth, recall)


def make_blocks(config: StackConfig) -> list[Block]:
    """Return the block of each depth: the same object for the same id, and shared maps the same inside."""
    blocks = [Block(config) for _ in range(config.n_blocks)]
    outputs, mlps = (ids or range(len(blocks)) for ids in (config.attention_outputs, config.mlps))
    for block, output_id, mlp_id in zip(blocks, outputs, mlps, strict=True):
        block.self_attn.o_proj = blocks[outputs.index(output_id)].self_attn.o_proj
        block.mlp = blocks[mlps.index(mlp_id)].mlp
    if not config.depth_lora_rank:
        return [blocks[block_id] for block_id in config.layers]
    return [_adapt(blocks[block_id], config, depth) for depth, block_id in enumerate(config.layers)]


def _adapt(block: Block, config: StackConfig, depth: int) -> Block:
    """Return a block of one depth alone that uses another's modules, each map that other depths use too adapted."""
    shared = {part for part, ids in config.map_ids.items() if ids.count(ids[depth]) > 1}
    made = Block(config)
    for name, norm in block.named_children():
        if isinstance(norm, RMSNorm):
            setattr(made, name, norm)
    for theirs, ours in ((block.self_attn, made.self_attn), (block.mlp, made.mlp)):
        for name, module in theirs.named_children():
            part = "mlp" if theirs is block.mlp else "output" if name == "o_proj" else "attention"
            if part in shared and isinstance(module, Linear):
                module = AdaptedLinear(module, config.depth_lora_rank)
            setattr(ours, name, module)
    return made


class Stack(nn.Module):
    """Blocks in the order of `config.layers`; a repeated id is the same module, its weights counted once."""

    embed_tokens: Embedding
    """Set by a model that reads ids, so that it has the name HF gives it."""
    embed_map: EmbeddingMap
    """Set beside it when the embedding is factored."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(make_blocks(config))
        self.looped = True
        """Whether a repeated block repeats; off, training runs each once, at its first depth. See `switch_loops`."""
        self.recomputed = 0
        """First depths that training computes once more in the backward pass instead of keeping what is inside them."""
        self.n_lengths = 1
        """How many lengths it meets in training, each compiled by itself; 0: too many to compile."""
        self._once = [depth for depth, block in enumerate(config.layers) if config.layers.index(block) == depth]
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        if config.residual_scalars:
            self.stream_scale = nn.Parameter(torch.ones(len(config.layers)))
            self.embedding_scale = nn.Parameter(torch.zeros(len(config.layers)))

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        recall: Recall | None = None,
        causal: bool = True,
        visit: Visit | None = None,
        branches: Branches | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Run the embedded symbols through every depth and the last norm.

        With `branches`, which says how, the only row is a tree, and each symbol sees those on its way from the root.
        `visit` is called with the number of depths so far and the stream, and returns the stream to go on with.
        """
        config = self.config
        if recall is None:
            positions = torch.arange(x.shape[1], device=x.device) if branches is None else branches.positions
            turn = rotation(positions, config.d_head, config.attention.rope_theta, x.dtype)
        else:
            turn = recall.turn
        x = embedded = self.enter(x)
        # Only training may run less than the whole: what is evaluated or saved is always what will be used.
        depths = self._once if self.training and not self.looped else range(len(config.layers))
        for depth in range(len(config.layers)):
            if depth in depths:
                inputs = (self.mix(depth, x, embedded), turn, depth, recall, causal)
                x = self._run(*inputs) if branches is None else self._run(*inputs, branches)
            if visit is not None:
                x = visit(depth + 1, x)
        return self.norm(x)

    def _run(self, x: Tensor, turn: Rotation, depth: int, *others: Any) -> Tensor:
        if depth < self.recomputed and self.training and torch.is_grad_enabled():
            return cast(Tensor, checkpoint(self._run_lean, x, turn, depth, *others, use_reentrant=False))
        return self.layers[depth](x, turn, depth, *others)

    def _run_lean(self, x: Tensor, turn: Rotation, depth: int, *others: Any) -> Tensor:
        if x.device.type == "cpu" and depth % DEPTHS_BETWEEN_RETURNS == 0:
            return_freed_memory()
        return self.layers[depth](x, turn, depth, *others)

    def enter(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Return the stream before the first depth."""
        return rms_normalize(x.float(), self.config.norm_eps).to(x.dtype) if self.config.residual_scalars else x

    def mix(self, depth: int, x: Float[Tensor, "B T D"], embedded: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Return what the block at this depth reads: the stream and, with residual scalars, the embedding again."""
        if not self.config.residual_scalars:
            return x
        scales = self.stream_scale[depth], self.embedding_scale[depth]
        return scales[0].to(x.dtype) * x + scales[1].to(x.dtype) * embedded

    def init_state(self, rows: int, max_len: int, dtype: torch.dtype) -> StackState:
        """Allocate empty memory for decoding `rows` sequences of at most `max_len` symbols."""
        config, device = self.config, self.norm.weight.device
        shape = (len(config.layers), rows, config.attention.kv_heads, max_len, config.d_head)
        keys, values = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
        positions = torch.arange(max_len, device=device)
        table = rotation(positions, config.d_head, config.attention.rope_theta, dtype)
        return StackState(keys, values, table, config.attention.rope_theta, config.attention.window)

    def init_weights(self, generator: torch.Generator) -> None:
        """Draw every weight: fan-in scaled normals; output projections smaller by depth, or zero."""
        shrink = 0.0 if self.config.zero_init_outputs else (2 * len(self.config.layers)) ** -0.5
        for name, weight in self.named_parameters():
            name = name.replace(".shared.", ".")
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.normal_(weight, std=shrink * weight.shape[1] ** -0.5, generator=generator)
            elif name.endswith(("proj.weight", "lora_a")):
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5, generator=generator)
            elif name.endswith(("embedding_scale", "lora_b")):
                nn.init.zeros_(weight)
            else:
                nn.init.ones_(weight)


def recompute(model: nn.Module, share: float) -> None:
    """Let every stack inside a model keep, while training, only what goes into each of this share of its depths.

    With 1 that is a third more computation for the memory of one depth. It is the first depths that are computed again:
    the last ones have freed what they kept by then. Source: Chen et al. 2016, arXiv 1604.06174.
    """
    for module in model.modules():
        if isinstance(module, Stack):
            module.recomputed = math.ceil(share * len(module.config.layers))


def switch_loops(model: nn.Module, on: bool) -> None:
    """Let every stack inside a model repeat its repeated blocks, or, while training, run each of them once.

    Source: parameter-golf's records loop their middle layers from 35% of training on (techniques.md, Architecture).
    """
    for module in model.modules():
        if isinstance(module, Stack):
            module.looped = on
