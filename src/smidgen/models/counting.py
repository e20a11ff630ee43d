"""What the parts that every model has weigh and cost: counted from a stack's config, without making it."""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from smidgen.models.heads import HeadsConfig
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
    pooling: int = 0
    """Patcher, pooling and the maps between widths; only byte models with pooling have them."""
    beside: int = 0
    """Heads beside the output head: of later symbols, exits, a thought."""

    @property
    def total(self) -> int:
        """All parameters."""
        own = self.embedding + self.matrices + self.norms + self.head
        return own + self.adapters + self.pooling + self.beside

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

    def __add__(self, other: "Flops") -> "Flops":
        """Return the operations of both."""
        return Flops(self.matrices + other.matrices, self.attention + other.attention, self.head + other.head)

    def times(self, factor: float) -> "Flops":
        """Return the operations of doing it so many times, or of a share of it."""
        return Flops(round(self.matrices * factor), round(self.attention * factor), round(self.head * factor))


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


def count_stack(stack: StackConfig) -> Parameters:
    """Count the parameters of a stack: a shared block or map once."""
    scalars = 2 * len(stack.layers) if stack.residual_scalars else 0
    used = {part: len(set(ids)) for part, ids in stack.map_ids.items()}
    output = size(attention_shapes(stack)[-1:])
    return Parameters(
        embedding=0,
        attention=used["attention"] * (size(attention_shapes(stack)) - output) + used["output"] * output,
        feed_forward=used["mlp"] * size(feed_forward_shapes(stack)),
        norms=stack.n_blocks * block_norms(stack) + stack.d_model + scalars,
        head=0,
        adapters=adapter_parameters(stack),
    )


def unshared(stack: StackConfig) -> StackConfig:
    """Return the config of the same computation with every block and map its own."""
    layers = tuple(range(len(stack.layers)))
    alone = {"layers": layers, "mlps": None, "attention_outputs": None, "depth_lora_rank": 0}
    return stack.model_copy(update=alone)


def stack_savings(stack: StackConfig) -> dict[str, int]:
    """Count the parameters that each way of sharing saves; depth updates cost, so theirs is negative."""
    repeats, blocks = len(stack.layers) - stack.n_blocks, stack.n_blocks
    output, feed_forward = size(attention_shapes(stack)[-1:]), size(feed_forward_shapes(stack))
    block = size(attention_shapes(stack)) + feed_forward + block_norms(stack)
    outputs, mlps = (len(set(ids or range(blocks))) for ids in (stack.attention_outputs, stack.mlps))
    return {
        "blocks are used again": repeats * block,
        "feed-forwards are shared": (blocks - mlps) * feed_forward,
        "attention outputs are shared": (blocks - outputs) * output,
        "each depth adds its own updates": -adapter_parameters(stack),
    }


def stack_flops(stack: StackConfig, context: float) -> Flops:
    """Count the operations of one position that sees `context` positions, or its window of them."""
    depth, width = len(stack.layers), stack.attention.n_heads * stack.d_head
    shapes = attention_shapes(stack) + feed_forward_shapes(stack)
    seen = min(context, stack.attention.window or context)
    return Flops(
        matrices=2 * (depth * size(shapes) + adapter_parameters(stack)),
        attention=round(4 * depth * width * seen),
        head=0,
    )


def stack_kv_bytes(stack: StackConfig, bytes_per_value: int) -> int:
    """Count the bytes remembered of one position, over all depths."""
    return 2 * len(stack.layers) * stack.attention.kv_heads * stack.d_head * bytes_per_value


def stack_matrix_bytes(stack: StackConfig, stored: Precision) -> int:
    """Count the bytes of the blocks' matrices, scales included."""
    used = {part: len(set(ids)) for part, ids in stack.map_ids.items()}
    *inputs, output = attention_shapes(stack)
    matrices = inputs * used["attention"] + [output] * used["output"] + feed_forward_shapes(stack) * used["mlp"]
    return sum(_matrix_bytes(shape, stored) for shape in matrices)


def attention_shapes(stack: StackConfig) -> list[Shape]:
    """Return (out, in) of one attention layer's matrices."""
    queries, keys = stack.attention.n_heads * stack.d_head, stack.attention.kv_heads * stack.d_head
    return [(queries, stack.d_model), (keys, stack.d_model), (keys, stack.d_model), (stack.d_model, queries)]


def feed_forward_shapes(stack: StackConfig) -> list[Shape]:
    """Return (out, in) of one feed-forward's matrices."""
    inward, outward = (stack.mlp.d_ff, stack.d_model), (stack.d_model, stack.mlp.d_ff)
    return [inward] * _INWARD_MAPS[stack.mlp.type] + [outward]


def adapter_parameters(stack: StackConfig) -> int:
    """Count the parameters of every depth's updates of the maps it shares: a column and a row of each, times rank."""
    *inputs, output = attention_shapes(stack)
    shapes = {"attention": inputs, "output": [output], "mlp": feed_forward_shapes(stack)}
    adapted = (
        sum(map(sum, shapes[part])) for part, ids in stack.map_ids.items() for used in ids if ids.count(used) > 1
    )
    return stack.depth_lora_rank * sum(adapted)


def block_norms(stack: StackConfig) -> int:
    """Count the norm scales of one block."""
    return 2 * stack.d_model + (2 * stack.d_head if stack.attention.qk_norm else 0)


def size(shapes: list[Shape]) -> int:
    """Count the numbers in matrices of these shapes."""
    return sum(rows * columns for rows, columns in shapes)


def _matrix_bytes(shape: Shape, stored: Precision) -> int:
    rows, columns = shape
    if stored.group is None:
        scales = 0
    else:
        scales = rows * (1 if stored.group == "row" else ceil(columns / stored.group))
    return ceil(rows * columns * stored.bits / 8) + scales * _SCALE_BYTES


def heads_flops(heads: HeadsConfig, d_model: int, vocab_size: int, depth: int) -> Flops:
    """Count the operations of heads that only training runs: future heads and exits, each with logits of its own."""
    future, leaves = heads.future, heads.exit
    later = 0 if future is None else future.n
    inside = 0 if future is None else 2 * d_model * (future.d_hidden or 2 * d_model)
    exits = 0 if leaves is None else len(range(leaves.every, depth, leaves.every))
    return Flops(matrices=2 * later * inside, attention=0, head=2 * (later + exits) * vocab_size * d_model)


def count_heads(heads: HeadsConfig, d_model: int, d_trunk: int | None = None) -> int:
    """Count the parameters of heads that read a stream of `d_model`; a thought is in the trunk, if there is one."""
    width = d_trunk or d_model
    future, thought = heads.future, heads.thought
    later = 0 if future is None else future.n * (2 * d_model * (future.d_hidden or 2 * d_model) + d_model)
    thinking = 0 if thought is None else 2 * width * (thought.d_hidden or 2 * width) + width + width**2
    return later + thinking + (d_model if heads.exit is not None else 0)
