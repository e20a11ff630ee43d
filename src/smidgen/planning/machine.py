"""What this machine can do, as numbers, and how long a training step of any config will take on it.

The step's time is a sum of causes: matrix products, attention, values touched one by one, blocks launched, and the
optimizer. `measure.py` finds the price of each cause; this room only multiplies.
"""

from dataclasses import dataclass

from smidgen.models.llama import LlamaConfig
from smidgen.models.stats import attention_shapes, count_parameters, feed_forward_shapes, flops_per_symbol

COMPILE_GAIN = 1.3
"""Steps per second with torch.compile over without: +39% at 10M, less for larger models (measured.md, Helped)."""

_OPTIMIZER_BYTES = 40
"""Memory traffic per parameter and step: weight, gradient, moments in and out, clipping."""


@dataclass(frozen=True)
class StepCosts:
    """Prices of the causes of a training step's time, without compilation."""

    per_flop: float
    """Seconds per floating-point operation of matrix products."""
    per_attention_flop: float
    """Seconds per operation of attention, counted over the full square."""
    per_value: float
    """Seconds per value read or written between matrix products."""
    per_block: float
    """Seconds to launch one block forward and backward, however few the symbols."""


@dataclass(frozen=True)
class MachineFacts:
    """One machine, measured."""

    name: str
    """Processor or GPU."""
    device: str
    """cpu, cuda or mps."""
    dtype: str
    """Dtype of activations that was measured: bf16, fp16 or fp32."""
    threads: int
    """CPU threads used."""
    memory_bytes: int
    """Memory a run may use."""
    matmul_flops: float
    """Peak of a large matrix product, operations per second."""
    bandwidth: float
    """Memory read speed, bytes per second."""
    costs: StepCosts
    """Prices of a training step."""
    compiles: bool = False
    """Whether torch.compile can be expected to work here."""
    correction: float = 1.0
    """Speed of past runs over the speed predicted for them; `remember_run` keeps it."""
    compile_seconds: float = 45.0
    """What the first compiled step costs more than another: 14-40 s for parts of it (measured.md), more for the whole;
    `remember_run` keeps what past runs took."""
    note: str = ""
    """What the measurement could not do, in one line."""


def work_per_symbol(config: LlamaConfig, seq_len: int) -> tuple[float, float, float]:
    """Count what one symbol of training costs: matrix FLOPs, attention FLOPs, values touched in between."""
    flops, stack = flops_per_symbol(config, seq_len, training=True), config.stack
    query_width = stack.attention.n_heads * stack.d_head
    # Norms, residuals and their backward touch the stream about ten times, rotation the queries four, the
    # activation its width three times; logits exist in fp32, twice, with their gradient.
    values = len(stack.layers) * (10 * stack.d_model + 4 * query_width + 3 * stack.mlp.d_ff) + 4 * config.vocab_size
    return flops.matrices + flops.head, flops.attention, values


def optimizer_flops(config: LlamaConfig, steps: int = 5) -> int:
    """Count Muon's operations per step: Newton-Schulz on every matrix. Source: Jordan et al. 2024."""
    stack, parameters = config.stack, count_parameters(config)
    feed_forward = feed_forward_shapes(stack)
    n_mlps = parameters.feed_forward // sum(rows * columns for rows, columns in feed_forward)
    shapes = attention_shapes(stack) * stack.n_blocks + feed_forward * n_mlps
    return steps * sum(2 * min(s) ** 2 * (2 * max(s) + min(s)) for s in shapes)


def seconds_per_step(
    config: LlamaConfig, machine: MachineFacts, batch_tokens: int, seq_len: int, micro_rows: int, compiled: bool
) -> float:
    """Predict the seconds of one optimizer step."""
    costs = machine.costs
    flops, attention, values = work_per_symbol(config, seq_len)
    n_micro = max(1, -(-batch_tokens // (seq_len * micro_rows)))
    symbols = batch_tokens * (flops * costs.per_flop + attention * costs.per_attention_flop + values * costs.per_value)
    launches = n_micro * len(config.stack.layers) * costs.per_block
    optimizer = optimizer_flops(config) * costs.per_flop
    optimizer += count_parameters(config).total * _OPTIMIZER_BYTES / machine.bandwidth
    gain = COMPILE_GAIN if compiled else 1.0
    return ((symbols + launches) / gain + optimizer) / machine.correction
