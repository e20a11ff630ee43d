"""What a model weighs and costs, from its config alone: parameters, FLOPs, bytes. No weights are made.

FLOPs count two per multiply-add of the matrix products and of attention; norms, activations and softmax are left
out, as everywhere in the field. Attention counts the full square of the context, the convention of MFU figures
(Source: Chowdhery et al. 2022, arXiv 2204.02311, appendix B); a causal kernel may do half of it.
"""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from smidgen.models.llama import LlamaConfig
from smidgen.models.stack import StackConfig

Shape = tuple[int, int]
_INWARD_MAPS = {"swiglu": 2, "relu2": 1}
_SCALE_BYTES = 2  # one 16-bit scale per row or group, as in GGUF's Q8_0


@dataclass(frozen=True)
class Parameters:
    """Parameters by part of the model."""

    embedding: int
    """The table of symbols."""
    attention: int
    """Query, key, value and output maps."""
    feed_forward: int
    """Inward and outward maps."""
    norms: int
    """Norm scales and residual scalars."""
    head: int
    """The output head; 0 when it is the embedding."""

    @property
    def total(self) -> int:
        """All parameters."""
        return self.embedding + self.matrices + self.norms + self.head

    @property
    def matrices(self) -> int:
        """Parameters of the blocks' matrices: what Muon trains and quantization shrinks."""
        return self.attention + self.feed_forward


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one symbol."""

    matrices: int
    """Maps of the blocks, every depth counted."""
    attention: int
    """Scores and mixing, at the given context."""
    head: int
    """Logits over the vocabulary."""

    @property
    def total(self) -> int:
        """All operations."""
        return self.matrices + self.attention + self.head


@dataclass(frozen=True)
class Precision:
    """How the matrices of the blocks are stored; embedding, head, norms and scalars stay at 16 bits.

    A tied embedding at 16 bits costs 0.5 MB and closes a gap of 0.007 bits per byte to 0.0005 (techniques.md,
    Compression).
    """

    bits: int
    """Bits of one weight."""
    group: int | Literal["row"] | None
    """Weights that share one 16-bit scale: so many of a row, a whole row, or none (a float needs no scale)."""


PRECISIONS = {
    "fp32": Precision(32, None),
    "bf16": Precision(16, None),
    "int8": Precision(8, "row"),
    "int8-group32": Precision(8, 32),
    "int4-group32": Precision(4, 32),
}


def count_parameters(config: LlamaConfig) -> Parameters:
    """Count parameters that exist: a shared block, feed-forward or embedding once."""
    stack = config.stack
    n_mlps = len(set(stack.mlps)) if stack.mlps is not None else stack.n_blocks
    return _count(config, stack.n_blocks, n_mlps, head=not config.tie_embeddings)


def count_effective(config: LlamaConfig) -> Parameters:
    """Count parameters as if nothing were shared: what the same computation would weigh written out."""
    depth = len(config.stack.layers)
    return _count(config, depth, depth, head=True)


def flops_per_symbol(config: LlamaConfig, context: int, training: bool = False) -> Flops:
    """Count the operations of one symbol that sees `context` symbols; training adds a backward of twice the forward."""
    stack, times = config.stack, 3 if training else 1
    depth, width = len(stack.layers), stack.attention.n_heads * stack.d_head
    shapes = attention_shapes(stack) + feed_forward_shapes(stack)
    return Flops(
        matrices=times * 2 * depth * _size(shapes),
        attention=times * 4 * depth * width * context,
        head=times * 2 * config.vocab_size * stack.d_model,
    )


def kv_bytes_per_symbol(config: LlamaConfig, bytes_per_value: int = 2) -> int:
    """Count the bytes a decoding row remembers for each symbol, over all depths."""
    stack = config.stack
    return 2 * len(stack.layers) * stack.attention.kv_heads * stack.d_head * bytes_per_value


def weight_bytes(config: LlamaConfig, precision: str = "bf16") -> int:
    """Count the bytes of the weights stored at a precision of `PRECISIONS`, scales included."""
    stored, parameters, stack = PRECISIONS[precision], count_parameters(config), config.stack
    bytes_elsewhere = 4 if stored.bits == 32 else 2
    elsewhere = (parameters.total - parameters.matrices) * bytes_elsewhere
    n_mlps = parameters.feed_forward // _size(feed_forward_shapes(stack))
    matrices = attention_shapes(stack) * stack.n_blocks + feed_forward_shapes(stack) * n_mlps
    return elsewhere + sum(_matrix_bytes(shape, stored) for shape in matrices)


def attention_shapes(stack: StackConfig) -> list[Shape]:
    """Return (out, in) of one attention layer's matrices."""
    queries, keys = stack.attention.n_heads * stack.d_head, stack.attention.kv_heads * stack.d_head
    return [(queries, stack.d_model), (keys, stack.d_model), (keys, stack.d_model), (stack.d_model, queries)]


def feed_forward_shapes(stack: StackConfig) -> list[Shape]:
    """Return (out, in) of one feed-forward's matrices."""
    inward, outward = (stack.mlp.d_ff, stack.d_model), (stack.d_model, stack.mlp.d_ff)
    return [inward] * _INWARD_MAPS[stack.mlp.type] + [outward]


def _count(config: LlamaConfig, n_blocks: int, n_mlps: int, head: bool) -> Parameters:
    stack, table = config.stack, config.vocab_size * config.stack.d_model
    block_norms = 2 * stack.d_model + (2 * stack.d_head if stack.attention.qk_norm else 0)
    scalars = 2 * len(stack.layers) if stack.residual_scalars else 0
    return Parameters(
        embedding=table,
        attention=n_blocks * _size(attention_shapes(stack)),
        feed_forward=n_mlps * _size(feed_forward_shapes(stack)),
        norms=n_blocks * block_norms + stack.d_model + scalars,
        head=table if head else 0,
    )


def _size(shapes: list[Shape]) -> int:
    return sum(rows * columns for rows, columns in shapes)


def _matrix_bytes(shape: Shape, stored: Precision) -> int:
    rows, columns = shape
    if stored.group is None:
        scales = 0
    else:
        scales = rows * (1 if stored.group == "row" else ceil(columns / stored.group))
    return ceil(rows * columns * stored.bits / 8) + scales * _SCALE_BYTES
