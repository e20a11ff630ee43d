"""The two dials, how small and how long, turned into a recipe, every number with its rule and source."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from smidgen.errors import BudgetError
from smidgen.models.llama import LlamaConfig
from smidgen.planning import rules
from smidgen.planning.corpus import SPARE, CorpusFacts
from smidgen.planning.drafts import (
    BYTE_VOCABULARY,
    Draft,
    Workplace,
    best_draft,
    draft,
    fits,
    largest_size,
    largest_within_bytes,
    least_seconds,
    shape_named,
    shape_of,
)
from smidgen.planning.footprint import file_bytes
from smidgen.planning.machine import MachineFacts
from smidgen.planning.presets import LARGEST, SMALLEST
from smidgen.planning.reasons import Decision, decide
from smidgen.planning.scaling import ERROR_SHARE
from smidgen.planning.units import Size, format_bytes, format_count, format_time

DEFAULT_SECONDS = 600.0
"""The budget when no time is asked for: a coffee."""

_MANY_EPOCHS = 4.0


@dataclass(frozen=True)
class PlanRequest:
    """What was asked for, and where it is to happen. Either dial may be left free."""

    corpus: CorpusFacts
    """The text."""
    machine: MachineFacts
    """The machine, measured."""
    size: Size | None = None
    """How small; None: what the time and the text are best spent on."""
    time_seconds: float | None = None
    """How long; None: ten minutes, or as long as the size needs at least."""
    style: str | None = None
    """`best`, or `llama` for a model that exports everywhere; None: `best`, or what the preset is."""
    name: str = "run"
    """What the run is called."""
    seed: int = 0
    """Of the run."""
    data: Mapping[str, Any] = field(default_factory=lambda: {"type": "village"})
    """The recipe's [data], passed through."""


@dataclass(frozen=True)
class Expected:
    """What the plan expects to happen."""

    bits_per_byte: float
    """Validation score."""
    bits_per_byte_error: float
    """Half-width of its band."""
    memory_bytes: int
    """Peak memory of training."""
    seconds: float
    """Wall-clock time."""
    tokens: int
    """Symbols trained on."""
    steps: int
    """Optimizer steps."""
    tokens_per_second: float
    """While training."""
    epochs: float
    """Times the text is read."""
    file_bytes: int
    """Bytes of the directory that is written, in bf16."""
    file_bytes_int8: int
    """The same with int8 matrices."""
    parameters: int
    """Of the model."""


@dataclass(frozen=True)
class Plan:
    """A recipe, why it is so, and what to expect of it."""

    recipe: dict[str, Any]
    """Valid as a recipe file."""
    decisions: list[Decision]
    """Each choice with its rule and source."""
    expected: Expected
    """What should happen."""
    warnings: list[str]
    """What the person should know before starting."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, for resolved.json and the report."""
        return asdict(self)


def plan(request: PlanRequest) -> Plan:
    """Turn the dials into a recipe. Raises BudgetError naming the nearest budget that can work."""
    named = request.size is not None and request.size.preset is not None
    if named and request.style == "best":
        raise BudgetError(
            f"--size {request.size} is plain Llama to the letter. Leave out --style best, or give a size."
        )
    place = Workplace(request.machine, request.corpus, request.style or ("llama" if named else "best"))
    chosen = _choose(request, place)
    later = _int8_shape(request, place)
    return Plan(
        recipe=_recipe(request, chosen),
        decisions=decide(chosen, place, request.size, request.time_seconds, later),
        expected=_expect(chosen),
        warnings=_warn(request, chosen, place),
    )


def _choose(request: PlanRequest, place: Workplace) -> Draft:
    seconds = request.time_seconds or DEFAULT_SECONDS
    if request.size is None:
        found = best_draft(seconds, place, most=_most_for(request.corpus, seconds))
        return found if found is not None else _refuse_smallest(seconds, place)
    config = _shape(request.size, seconds, place)
    if request.time_seconds is None:
        seconds = max(seconds, least_seconds(config, place) or seconds)
    chosen = draft(config, seconds, place)
    if not fits(chosen, place):
        raise BudgetError(_refusal(chosen, request.size, place))
    return chosen


def _most_for(corpus: CorpusFacts, seconds: float) -> int:
    """Keep a free size to one parameter for each byte of text: a larger model learns a small text by heart.

    10M parameters on 1.1 MB are best after a few hundred steps (users.md #13).
    """
    return min(max(corpus.unique_bytes(seconds), SMALLEST), LARGEST)


def _shape(size: Size, seconds: float, place: Workplace) -> LlamaConfig:
    """Find the shape a size asks for. Raises BudgetError outside what can be built."""
    if size.preset is not None:
        return shape_named(size.preset, place)
    if size.in_bytes:
        config = largest_within_bytes(size.amount, "bf16", place)
        if config is not None:
            return config
        least = file_bytes(shape_of(SMALLEST, place, at_most=True))
        needed = format_bytes(-(-least // 10_000) * 10_000)
        raise BudgetError(
            f"--size {size} does not hold the smallest model: weights of {format_count(SMALLEST)} parameters in bf16 "
            f"and the tokenizer take {format_bytes(least)}. Try --size {needed}."
        )
    if not SMALLEST <= size.amount <= LARGEST:
        too_small = size.amount < SMALLEST
        near = format_count(SMALLEST if too_small else largest_size(seconds, place) or SMALLEST)
        raise BudgetError(
            f"--size {size} is outside {format_count(SMALLEST)} to {format_count(LARGEST)} parameters. "
            f"Try --size {near}."
        )
    return shape_of(size.amount, place)


def _refuse_smallest(seconds: float, place: Workplace) -> Draft:
    smallest = draft(shape_of(SMALLEST, place), seconds, place)
    raise BudgetError(_refusal(smallest, None, place))


def _refusal(hopeless: Draft, size: Size | None, place: Workplace) -> str:
    """Say what cannot work, and the nearest budgets that can."""
    asked = f"--size {size}" if size else f"a model of {format_count(hopeless.parameters)} parameters"
    nearest = largest_size(hopeless.seconds, place, most=hopeless.parameters)
    smaller = f"--size {format_count(nearest)}" if nearest else None
    if hopeless.memory_bytes > place.machine.memory_bytes:
        return (
            f"{asked} needs {format_bytes(hopeless.memory_bytes)} to train; this machine has "
            f"{format_bytes(place.machine.memory_bytes)} free. Try {smaller or 'a machine with more memory'}."
        )
    needed = least_seconds(hopeless.config, place)
    ways = [f"--time {format_time(needed)}"] if needed else []
    ways += [smaller] if smaller else []
    return (
        f"{asked} makes {hopeless.steps} optimizer steps in {format_time(hopeless.seconds)} on this machine "
        f"({hopeless.tokens_per_second:,.0f} symbols/s); training needs {rules.LEAST_STEPS}. Try {' or '.join(ways)}."
        + (f"\nMind that {place.machine.note}" if place.machine.note else "")
    )


def _int8_shape(request: PlanRequest, place: Workplace) -> LlamaConfig | None:
    """Return what the byte budget will hold once matrices are int8; None when no bytes were asked for."""
    if request.size is None or not request.size.in_bytes:
        return None
    return largest_within_bytes(request.size.amount, "int8", place)


def _expect(chosen: Draft) -> Expected:
    return Expected(
        bits_per_byte=chosen.bits_per_byte,
        bits_per_byte_error=chosen.bits_per_byte * ERROR_SHARE,
        memory_bytes=chosen.memory_bytes,
        seconds=chosen.seconds,
        tokens=chosen.tokens,
        steps=chosen.steps,
        tokens_per_second=chosen.tokens_per_second,
        epochs=chosen.epochs,
        file_bytes=file_bytes(chosen.config),
        file_bytes_int8=file_bytes(chosen.config, "int8"),
        parameters=chosen.parameters,
    )


def _recipe(request: PlanRequest, chosen: Draft) -> dict[str, Any]:
    config = chosen.config
    bytes_only = config.vocab_size == BYTE_VOCABULARY
    embedding_rate = rules.embedding_rate_for(config.stack.d_model)
    return {
        "name": request.name,
        "seed": request.seed,
        "data": {**request.data, **_amount(request.corpus, chosen)},
        "tokenizer": {"type": "bytes" if bytes_only else "bpe", "vocab_size": config.vocab_size},
        "model": config.model_dump(mode="json", exclude_none=True),
        "train": {
            "budget": {"type": "time", "seconds": chosen.seconds},
            "seq_len": config.max_seq_len,
            "batch_tokens": chosen.batch_tokens,
            "micro_rows": chosen.micro_rows,
            "optimizer": {
                "type": "muon",
                "learning_rate": rules.PEAK_LEARNING_RATE,
                "weight_decay": rules.WEIGHT_DECAY,
                "embedding_learning_rate": embedding_rate,
                "scalar_learning_rate": embedding_rate,
            },
            "schedule": {"type": "wsd", "warmup": rules.warmup_for(chosen.steps), "decay": rules.DECAY_SHARE},
            "precision": request.machine.dtype,
            "compile": "auto" if chosen.compile_seconds else "off",
        },
    }


def _amount(corpus: CorpusFacts, chosen: Draft) -> dict[str, Any]:
    """Return how much text is prepared: what the run is expected to read and some more, not all there is."""
    if corpus.vocab_size is not None:  # prepared already
        return {}
    there_is, wanted = corpus.unique_bytes(chosen.seconds), round(SPARE * chosen.tokens)
    if corpus.bytes is None:
        return {
            "text_bytes": min(there_is, max(100_000, round(wanted * corpus.symbol_bytes(chosen.config.vocab_size))))
        }
    return {"prepare": {"max_symbols": wanted}} if chosen.epochs * SPARE < 1 else {}


def _warn(request: PlanRequest, chosen: Draft, place: Workplace) -> list[str]:
    """Tell what is feasible and still not wise."""
    warnings = [request.machine.note] if request.machine.note else []
    if chosen.epochs > _MANY_EPOCHS:
        warnings.append(
            f"THE TEXT IS READ {chosen.epochs:.1f} TIMES. Beyond {_MANY_EPOCHS:.0f} times little is learned and much "
            "is memorised (Muennighoff et al. 2023): give more text, less time or a smaller model."
        )
    elif chosen.epochs > 1:
        warnings.append(
            f"The text is read {chosen.epochs:.1f} times; up to four times is nearly as good as fresh text."
        )
    if request.size is not None:
        better = best_draft(chosen.seconds, place, most=chosen.parameters)
        if better is not None and better.bits_per_byte < 0.98 * chosen.bits_per_byte:
            warnings.append(
                f"{format_count(chosen.parameters)} parameters are many for {format_time(chosen.seconds)} here: "
                f"--size {format_count(better.parameters)} is expected to reach {better.bits_per_byte:.2f} bits per "
                f"byte instead of {chosen.bits_per_byte:.2f}."
            )
    if chosen.steps < rules.GOOD_STEPS:
        warnings.append(f"{chosen.steps} optimizer steps are few; {rules.GOOD_STEPS} and more are usual.")
    return warnings
