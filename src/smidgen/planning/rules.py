"""How a run of a given size and length is trained: small rules, each with the number that settled it.

A rule takes plain numbers and returns one; `drafts.py` combines them.
"""

from math import log2

from smidgen.models.llama import LlamaConfig
from smidgen.planning.machine import COMPILE_GAIN, MachineFacts, optimizer_flops, work_per_symbol

LEAST_STEPS = 100
"""Fewer optimizer steps than this cannot be called training: the warm-down has not begun to pay."""

GOOD_STEPS = 500
"""Steps the batch leaves room for where it can; the prototype's ten minutes had 775 (measured.md)."""

SMALLEST_BATCH = 2048
"""Symbols of a step below which a step's fixed costs outweigh the symbols."""

LARGEST_BATCH = 524_288
"""Symbols of a step above which nothing was gained (techniques.md, Smaller batch when one device is slow)."""

OUTSIDE_SHARE = 0.05
"""Share of the budget spent beside training steps: validation, samples, checkpoints."""

PEAK_LEARNING_RATE = 0.02
"""Muon's, unscaled: it served 8,192 symbols a step at width 320 (measured.md) and 524,288 at 768 (nanochat) alike,
because an orthogonalised update has the same size whatever the gradient's."""

EMBEDDING_LEARNING_RATE = 4e-3
"""AdamW's for embeddings at width 320, scaled by (width / 320)^-0.5. Source: nanochat, scaling of its AdamW groups."""

DECAY_SHARE = 0.5
"""Share of the budget in the warm-down: 0.5 was best (techniques.md, Linear or WSD warm-down)."""

WEIGHT_DECAY = 0.1
"""Of the matrices, decoupled; the prototype's (measured.md)."""


def seq_len_for(parameters: int, device: str) -> int:
    """Choose the context: 256 below 1M parameters, 512, 1,024 from 100M, 2,048 from 300M; never above 512 on a CPU.

    Attention costs a CPU a third of a step at 512 already (measured.md, AMX attention +52%).
    """
    if parameters < 1e6:
        return 256
    if device == "cpu" or parameters < 100e6:
        return 512
    return 1024 if parameters < 300e6 else 2048


def batch_for(tokens: float, seq_len: int, optimizer_share_batch: float) -> int:
    """Choose the symbols of a step: 8,192 (tokens / 6.35M)^0.383, a power of two, with at least 500 steps.

    The exponent is nanochat's, the anchor the prototype's run (measured.md). It is raised to
    `optimizer_share_batch`, below which the optimizer would take a fifth of the time, as far as 300 steps allow.
    """
    wanted = min(8192 * (max(tokens, 1) / 6.35e6) ** 0.383, tokens / GOOD_STEPS)
    wanted = max(wanted, min(optimizer_share_batch, tokens / (3 * LEAST_STEPS)))
    bounded = min(max(wanted, SMALLEST_BATCH, seq_len), LARGEST_BATCH)
    return max(2 ** round(log2(bounded)), seq_len)


def optimizer_share_batch(config: LlamaConfig, machine: MachineFacts, seq_len: int, share: float = 0.2) -> float:
    """Return the symbols of a step at which Muon's orthogonalisation takes `share` of the time."""
    flops, attention, values = work_per_symbol(config, seq_len)
    costs = machine.costs
    per_symbol = flops * costs.per_flop + attention * costs.per_attention_flop + values * costs.per_value
    return optimizer_flops(config) * costs.per_flop * (1 - share) / (share * per_symbol)


def micro_rows_for(batch_tokens: int, seq_len: int, device: str) -> int:
    """Choose the rows of one forward: all of a step's up to 8,192 symbols on a CPU, 65,536 elsewhere.

    8 rows of 512 are within 9% of 32 rows (measured.md, Habits).
    """
    most = max(1, (8192 if device == "cpu" else 65_536) // seq_len)
    return min(batch_tokens // seq_len, most)


def embedding_rate_for(d_model: int) -> float:
    """Scale the embedding's learning rate by width: 4e-3 (width / 320)^-0.5."""
    return float(f"{EMBEDDING_LEARNING_RATE * (d_model / 320) ** -0.5:.2g}")


def warmup_for(steps: float) -> float:
    """Choose the warm-up's share: 1% of the run, at least 10 steps, at most a tenth."""
    return round(min(max(0.01, 10 / max(steps, 1)), 0.1), 3)


def compile_repays(machine: MachineFacts, seconds: float) -> bool:
    """Whether compiling leaves more steps in the budget than it costs: about three minutes and up."""
    return machine.compiles and COMPILE_GAIN * (seconds - machine.compile_seconds) > seconds


def training_seconds(seconds: float, compile_seconds: float) -> float:
    """Return the seconds of a budget that go into training steps."""
    return seconds * (1 - OUTSIDE_SHARE) - compile_seconds
