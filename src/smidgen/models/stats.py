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
    """The table of symbols, and the map behind it where it is factored."""
    attention: int
    """Query, key, value and output maps."""
    feed_forward: int
    """Inward and outward maps."""
    norms: int
    """Norm scales and residual scalars."""
    head: int
    """The output head; 0 when it is the embedding."""
    adapters: int = 0
    """What each depth adds to the maps it shares."""

    @property
    def total(self) -> int:
        """All parameters."""
        return self.embedding + self.matrices + self.norms + self.head + self.adapters

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
    """Count parameters that exist: a shared block, map or embedding once."""
    stack, table = config.stack, embedding_parameters(config)
    scalars = 2 * len(stack.layers) if stack.residual_scalars else 0
    used = {part: len(set(ids)) for part, ids in stack.map_ids.items()}
    output = _size(attention_shapes(stack)[-1:])
    return Parameters(
        embedding=table,
        attention=used["attention"] * (_size(attention_shapes(stack)) - output) + used["output"] * output,
        feed_forward=used["mlp"] * _size(feed_forward_shapes(stack)),
        norms=stack.n_blocks * _block_norms(stack) + stack.d_model + scalars,
        head=0 if config.tie_embeddings else config.vocab_size * stack.d_model,
        adapters=adapter_parameters(stack),
    )


def count_effective(config: LlamaConfig) -> Parameters:
    """Count parameters as if nothing were shared: what the same computation would weigh written out."""
    return count_parameters(without_sharing(config).model_copy(update={"tie_embeddings": False}))


def without_sharing(config: LlamaConfig) -> LlamaConfig:
    """Return the config of the same computation with every block, map and vector its own: a plain stack."""
    layers = tuple(range(len(config.stack.layers)))
    alone = {"layers": layers, "mlps": None, "attention_outputs": None, "depth_lora_rank": 0}
    return config.model_copy(update={"embedding_rank": None, "stack": config.stack.model_copy(update=alone)})


def count_savings(config: LlamaConfig) -> dict[str, int]:
    """Count the parameters that each way of sharing saves, in this order; depth updates cost, so theirs is negative.

    All that does not apply is left out; the rest adds up to the difference between effective and unique.
    """
    stack, table = config.stack, config.vocab_size * config.stack.d_model
    repeats, blocks = len(stack.layers) - stack.n_blocks, stack.n_blocks
    output, feed_forward = _size(attention_shapes(stack)[-1:]), _size(feed_forward_shapes(stack))
    block = _size(attention_shapes(stack)) + feed_forward + _block_norms(stack)
    outputs, mlps = (len(set(ids or range(blocks))) for ids in (stack.attention_outputs, stack.mlps))
    saved = {
        "the head is the embedding": table if config.tie_embeddings else 0,
        "the embedding is factored": table - embedding_parameters(config),
        "blocks are used again": repeats * block,
        "feed-forwards are shared": (blocks - mlps) * feed_forward,
        "attention outputs are shared": (blocks - outputs) * output,
        "each depth adds its own updates": -adapter_parameters(stack),
    }
    return {what: count for what, count in saved.items() if count}


def flops_per_symbol(config: LlamaConfig, context: int, training: bool = False) -> Flops:
    """Count the operations of one symbol that sees `context` symbols; training adds a backward of twice the forward."""
    stack, times = config.stack, 3 if training else 1
    depth, width = len(stack.layers), stack.attention.n_heads * stack.d_head
    shapes = attention_shapes(stack) + feed_forward_shapes(stack)
    head = embedding_parameters(config) if config.tie_embeddings else config.vocab_size * stack.d_model
    widening = (config.embedding_rank or 0) * stack.d_model
    return Flops(
        matrices=times * 2 * (depth * _size(shapes) + adapter_parameters(stack) + widening),
        attention=times * 4 * depth * width * context,
        head=times * 2 * head,
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
    used = {part: len(set(ids)) for part, ids in stack.map_ids.items()}
    *inputs, output = attention_shapes(stack)
    matrices = inputs * used["attention"] + [output] * used["output"] + feed_forward_shapes(stack) * used["mlp"]
    return elsewhere + sum(_matrix_bytes(shape, stored) for shape in matrices)


def attention_shapes(stack: StackConfig) -> list[Shape]:
    """Return (out, in) of one attention layer's matrices."""
    queries, keys = stack.attention.n_heads * stack.d_head, stack.attention.kv_heads * stack.d_head
    return [(queries, stack.d_model), (keys, stack.d_model), (keys, stack.d_model), (stack.d_model, queries)]


def feed_forward_shapes(stack: StackConfig) -> list[Shape]:
    """Return (out, in) of one feed-forward's matrices."""
    inward, outward = (stack.mlp.d_ff, stack.d_model), (stack.d_model, stack.mlp.d_ff)
    return [inward] * _INWARD_MAPS[stack.mlp.type] + [outward]


def embedding_parameters(config: LlamaConfig) -> int:
    """Count the parameters of the embedding, one table or its two factors."""
    rank, width = config.embedding_rank, config.stack.d_model
    return config.vocab_size * width if rank is None else (config.vocab_size + width) * rank


def adapter_parameters(stack: StackConfig) -> int:
    """Count the parameters of every depth's updates of the maps it shares: a column and a row of each, times rank."""
    *inputs, output = attention_shapes(stack)
    shapes = {"attention": inputs, "output": [output], "mlp": feed_forward_shapes(stack)}
    adapted = (
        sum(map(sum, shapes[part])) for part, ids in stack.map_ids.items() for used in ids if ids.count(used) > 1
    )
    return stack.depth_lora_rank * sum(adapted)


def _block_norms(stack: StackConfig) -> int:
    return 2 * stack.d_model + (2 * stack.d_head if stack.attention.qk_norm else 0)


def _size(shapes: list[Shape]) -> int:
    return sum(rows * columns for rows, columns in shapes)


def _matrix_bytes(shape: Shape, stored: Precision) -> int:
    rows, columns = shape
    if stored.group is None:
        scales = 0
    else:
        scales = rows * (1 if stored.group == "row" else ceil(columns / stored.group))
    return ceil(rows * columns * stored.bits / 8) + scales * _SCALE_BYTES
