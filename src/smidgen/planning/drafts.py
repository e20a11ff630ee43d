"""A draft: one size on one machine for one time, worked out. The dials choose among drafts."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor, log10

from smidgen.errors import ConfigError
from smidgen.models.llama import LlamaConfig
from smidgen.models.stats import count_parameters
from smidgen.planning import rules
from smidgen.planning.corpus import CorpusFacts
from smidgen.planning.footprint import file_bytes, training_bytes
from smidgen.planning.machine import MachineFacts, seconds_per_step
from smidgen.planning.presets import LARGEST, SMALLEST, preset, shape_for, vocabulary_for
from smidgen.planning.scaling import expected_bits_per_byte

BYTE_VOCABULARY = 264
"""256 bytes and the eight special symbols."""

_LEAST_BPE_BYTES = 32_000
_LONGEST_SECONDS = 60 * 86_400.0


@dataclass(frozen=True)
class Workplace:
    """Where and on what a run is planned: what does not depend on the dials."""

    machine: MachineFacts
    """The machine, measured."""
    corpus: CorpusFacts
    """The text."""
    style: str = "best"
    """`best` or `llama`."""


@dataclass(frozen=True)
class Draft:
    """One run, worked out."""

    config: LlamaConfig
    """The model."""
    parameters: int
    """Its parameters."""
    seconds: float
    """The budget."""
    compile_seconds: float
    """What compiling costs; 0: it would not repay, or cannot be used."""
    batch_tokens: int
    """Symbols of a step."""
    micro_rows: int
    """Rows of one forward."""
    steps: int
    """Optimizer steps in the budget."""
    step_seconds: float
    """Seconds of one step."""
    epochs: float
    """Times the text is read; 0.3 is less than a third of it."""
    bits_per_byte: float
    """Expected validation score."""
    memory_bytes: int
    """Peak memory of training."""

    @property
    def tokens(self) -> int:
        """Symbols trained on."""
        return self.steps * self.batch_tokens

    @property
    def tokens_per_second(self) -> float:
        """Symbols a second, while training."""
        return self.batch_tokens / self.step_seconds


def vocabulary_of(parameters: int, corpus: CorpusFacts) -> int:
    """Choose the vocabulary by size and text, unless it is settled; plain bytes for a text of less than 32 kB."""
    if corpus.vocab_size is not None:
        return corpus.vocab_size
    if corpus.bytes is not None and corpus.bytes < _LEAST_BPE_BYTES:
        return BYTE_VOCABULARY
    return vocabulary_for(parameters, corpus.bytes)


def shape_of(parameters: int, place: Workplace, at_most: bool = False) -> LlamaConfig:
    """Find the shape for a size in this workplace."""
    vocab_size = vocabulary_of(parameters, place.corpus)
    seq_len = rules.seq_len_for(parameters, place.machine.device)
    return shape_for(parameters, vocab_size, place.style, seq_len, at_most)


def shape_named(name: str, place: Workplace) -> LlamaConfig:
    """Return a preset with the context it is trained on here: beyond it, a model would claim what it never learned."""
    config = preset(name)
    seq_len = rules.seq_len_for(count_parameters(config).total, place.machine.device)
    return config.model_copy(update={"max_seq_len": min(config.max_seq_len, seq_len)})


def draft(config: LlamaConfig, seconds: float, place: Workplace) -> Draft:
    """Work out a run of a shape for a time: batch and throughput depend on each other, so three rounds."""
    machine, seq_len = place.machine, config.max_seq_len
    compiled = rules.compile_repays(machine, seconds)
    compile_seconds = machine.compile_seconds if compiled else 0.0
    usable = max(0.0, rules.training_seconds(seconds, compile_seconds))
    share_batch = rules.optimizer_share_batch(config, machine, seq_len)
    batch = 8192
    for _ in range(3):
        micro_rows = rules.micro_rows_for(batch, seq_len, machine.device)
        step_seconds = seconds_per_step(config, machine, batch, seq_len, micro_rows, compiled)
        batch = rules.batch_for(usable / step_seconds * batch, seq_len, share_batch)
    micro_rows, memory = _fit_memory(config, batch, machine)
    step_seconds = seconds_per_step(config, machine, batch, seq_len, micro_rows, compiled)
    steps = floor(usable / step_seconds)
    parameters = count_parameters(config).total
    bytes_seen = steps * batch * place.corpus.symbol_bytes(config.vocab_size)
    unique = place.corpus.unique_bytes(seconds)
    return Draft(
        config=config,
        parameters=parameters,
        seconds=seconds,
        compile_seconds=compile_seconds,
        batch_tokens=batch,
        micro_rows=micro_rows,
        steps=steps,
        step_seconds=step_seconds,
        epochs=bytes_seen / unique,
        bits_per_byte=expected_bits_per_byte(parameters, bytes_seen, unique, place.corpus.difficulty),
        memory_bytes=memory,
    )


def _fit_memory(config: LlamaConfig, batch_tokens: int, machine: MachineFacts) -> tuple[int, int]:
    """Halve the rows of a forward until it fits the memory; return rows and peak bytes."""
    rows = rules.micro_rows_for(batch_tokens, config.max_seq_len, machine.device)
    activation_bytes = 4 if machine.dtype == "fp32" else 2
    while True:
        peak = training_bytes(config, rows * config.max_seq_len, activation_bytes)
        if rows == 1 or peak <= machine.memory_bytes:
            return rows, peak
        rows //= 2


def fits(candidate: Draft, place: Workplace) -> bool:
    """Whether a draft is worth running: enough steps, enough memory."""
    return candidate.steps >= rules.LEAST_STEPS and candidate.memory_bytes <= place.machine.memory_bytes


def best_draft(seconds: float, place: Workplace, most: int = LARGEST) -> Draft | None:
    """Return the smallest model within 1% of the best expected score among sizes of at most `most`, or None."""
    found = []
    for size in _ladder(1.15, most):
        candidate = draft(shape_of(size, place, at_most=size == most), seconds, place)
        if not fits(candidate, place):
            break
        found.append(candidate)
        if candidate.bits_per_byte > 1.05 * min(d.bits_per_byte for d in found):
            break
    if not found:
        return None
    goal = 1.01 * min(d.bits_per_byte for d in found)
    return next(d for d in found if d.bits_per_byte <= goal)


def largest_size(seconds: float, place: Workplace, most: int = LARGEST) -> int | None:
    """Return the largest size, in two digits, that this time and memory can train; None if not even the smallest."""
    found = None
    for size in _ladder(1.1, most):
        if not fits(draft(shape_of(size, place), seconds, place), place):
            break
        found = size
    return found


def least_seconds(config: LlamaConfig, place: Workplace) -> float | None:
    """Return the shortest time, rounded up, that gives a shape enough steps; None if no time does."""
    seconds = 10.0
    while seconds < _LONGEST_SECONDS:
        rounded = round_up_time(seconds)
        if draft(config, rounded, place).steps >= rules.LEAST_STEPS:
            return rounded
        seconds = rounded * 1.1
    return None


def largest_within_bytes(budget: int, precision: str, place: Workplace) -> LlamaConfig | None:
    """Return the largest model whose files fit `budget` bytes at a precision, or None."""
    low, high = SMALLEST, LARGEST
    fitting = _within(low, budget, precision, place)
    if fitting is None:
        return None
    while high / low > 1.005:
        middle = int((low * high) ** 0.5)
        config = _within(middle, budget, precision, place)
        low, high = (middle, high) if config is not None else (low, middle)
        fitting = config or fitting
    return fitting


def _within(parameters: int, budget: int, precision: str, place: Workplace) -> LlamaConfig | None:
    try:
        config = shape_of(parameters, place, at_most=True)
    except ConfigError:
        return None
    return config if file_bytes(config, precision) <= budget else None


def _ladder(factor: float, most: int) -> Iterator[int]:
    """Yield sizes of two digits from the smallest to `most`, which comes last."""
    size, last = float(SMALLEST), 0
    while size < most:
        rounded = round_size(size)
        if SMALLEST <= rounded < most and rounded > last:
            yield rounded
            last = rounded
        size *= factor
    yield most


def round_size(parameters: float) -> int:
    """Round a size down to two digits."""
    unit = 10 ** (floor(log10(parameters)) - 1)
    return int(parameters // unit * unit)


def round_up_time(seconds: float) -> float:
    """Round a time up to what a person would type: whole tens of seconds, minutes, ten minutes, hours."""
    unit = next((u for limit, u in ((180, 10), (7_200, 60), (43_200, 600)) if seconds <= limit), 3_600)
    return float(ceil(seconds / unit) * unit)
