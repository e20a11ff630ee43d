"""How far a run is, and what the learning rate is there. Everything is a share of the budget between 0 and 1."""

import math
import os
import time
from collections.abc import Callable

import torch

from smidgen.training.config import Budget, DropoutConfig, ScheduleConfig, StepBudget, TimeBudget, TokenBudget


def learning_rate_multiplier(share: float, schedule: ScheduleConfig, begun: float = 0.0) -> float:
    """Return the factor on every peak learning rate when `share` of the budget is used.

    `begun` is the share that went by before the first real step, compiling: the warm-up starts there.
    Source of wsd: Hu et al. 2024 (MiniCPM), arXiv 2404.06395; linear warm-down to zero: Bergsma et al. 2025,
    arXiv 2502.15938.
    """
    if share < begun + schedule.warmup:
        return (share - begun) / schedule.warmup
    if schedule.type == "wsd":
        left = (1 - share) / schedule.decay if schedule.decay else 1.0
        shape = min(1.0, max(0.0, left))
    else:
        progress = (share - schedule.warmup) / (1 - schedule.warmup) if schedule.warmup < 1 else 1.0
        shape = 0.5 * (1 + math.cos(math.pi * progress)) if schedule.type == "cosine" else 1 - progress
    return schedule.floor + (1 - schedule.floor) * shape


TRIANGLES = 3
"""Times a triangular dropout rises and falls. Source: Super Tiny Language Models' dropout report, arXiv 2409.05423."""

READINGS_WITHOUT_DROPOUT = 5
"""Times data may be read before dropout pays. Three million parameters (docs/studies/super-tiny.md): over text read 4
times a rate of 0.1 costs 1.4%, over text read 20 times one of 0.2 gains 29%. Repetition: arXiv 2305.16264."""
DROPOUT_PER_DOUBLING, GREATEST_DROPOUT = 0.1, 0.3
"""From there on the rate grows with every doubling, through those two points: 0.2 at 20 readings."""


def dropout_rate(share: float, config: DropoutConfig) -> float:
    """Return the dropout rate when `share` of the budget is used; an "auto" that nobody resolved is none."""
    if config.rate == "auto":
        return 0.0
    until = config.until or (0.2 if config.schedule == "early_cut" else 1.0)
    used = min(1.0, share / until)
    shapes = {
        "constant": 1.0,
        "early_cut": float(used < 1),
        "linear_up": used,
        "linear_down": 1 - used,
        "triangular": 1 - abs(1 - 2 * (used * TRIANGLES % 1)) if used < 1 else 0.0,
    }
    return config.rate * shapes[config.schedule]


def resolve_dropout(config: DropoutConfig, readings: float | None) -> tuple[DropoutConfig, str | None]:
    """Return the dropout of a run that reads its data so many times, and what to say if it was left to decide.

    None means that nobody knows how many; then there is none.
    """
    if config.rate != "auto":
        return config, None
    if readings is None:
        told = "no dropout: how often the data will be read is not known beforehand; set train.dropout.rate if often"
        return config.model_copy(update={"rate": 0.0}), told
    doublings = math.log2(max(readings, 1e-9) / READINGS_WITHOUT_DROPOUT)
    rate = round(min(max(DROPOUT_PER_DOUBLING * doublings, 0.0), GREATEST_DROPOUT), 2)
    chosen = f"dropout {rate:g}" if rate else "no dropout"
    told = f"{chosen}: the data is read about {readings:.1f} times; it pays above {READINGS_WITHOUT_DROPOUT}"
    return config.model_copy(update={"rate": rate}), told


def processor_seconds() -> float:
    """Return the processor time of this process and of the compilers it has waited for, per thread of its own."""
    return sum(os.times()[:4]) / torch.get_num_threads()


class BudgetClock:
    """Measures the used share of a budget, across interruptions: elapsed seconds are part of the resume state."""

    def __init__(
        self,
        budget: Budget,
        step_tokens: int,
        seconds_before: float = 0.0,
        now: Callable[[], float] | None = None,
    ) -> None:
        """Start to measure; `now` None is the clock that the budget names."""
        self._budget = budget
        self._step_tokens = step_tokens
        by_processor = isinstance(budget, TimeBudget) and budget.clock == "processor"
        self._now = now or (processor_seconds if by_processor else time.monotonic)
        self._started = self._now() - seconds_before

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before an interruption included."""
        return self._now() - self._started

    def seconds_expected(self, step_seconds: float = 0.5) -> float:
        """Return the seconds the whole budget will take, guessed from `step_seconds` where it is not a time."""
        budget = self._budget
        if isinstance(budget, TimeBudget):
            return budget.seconds
        return _steps_of(budget, self._step_tokens) * step_seconds

    def share(self, step: int) -> float:
        """Return the used share of the budget when `step` steps are done."""
        budget = self._budget
        if isinstance(budget, TimeBudget):
            return min(1.0, self.seconds / budget.seconds)
        return min(1.0, step / _steps_of(budget, self._step_tokens))

    def middle(self, before: float, step: int) -> float:
        """Return the share in the middle of the next step, after `step` steps; `before` is the share at its beginning.

        There its learning rate is looked up: at its beginning the first step would have a rate of 0, and a run of one
        step would learn nothing. Of a time it is `before`, since nobody knows how long a step will take.
        """
        return before if self.is_timed else (before + self.share(step + 1)) / 2

    @property
    def is_timed(self) -> bool:
        """Whether the budget is a time, of which compiling takes its part."""
        return isinstance(self._budget, TimeBudget)

    def is_over(self, step: int, step_seconds: float) -> bool:
        """Whether another step of `step_seconds` would end further from the budget than stopping here."""
        budget = self._budget
        if isinstance(budget, TimeBudget):
            return step > 0 and self.seconds + step_seconds / 2 >= budget.seconds
        return step >= _steps_of(budget, self._step_tokens)


def _steps_of(budget: TokenBudget | StepBudget, step_tokens: int) -> int:
    return -(-budget.tokens // step_tokens) if isinstance(budget, TokenBudget) else budget.steps
