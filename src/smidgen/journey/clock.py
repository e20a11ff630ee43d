"""How the time a person gave is spent: `--time` counts from the command's start to the written report.

Preparation takes what it takes; the end keeps a reserve; training gets everything between.
"""

import time
from dataclasses import dataclass, field

from smidgen.errors import BudgetError
from smidgen.planning.units import format_time

LEAST_SHARE = 0.3
"""Below this share of the time left for training, a run is not worth its preparation."""


@dataclass(frozen=True)
class Clock:
    """Time since the command began, against the time it was given."""

    total_seconds: float | None = None
    """What `--time` said; None: the recipe's budget is of training alone."""
    started: float = field(default_factory=time.monotonic)
    """When the command began."""

    @property
    def elapsed(self) -> float:
        """Seconds since the command began."""
        return time.monotonic() - self.started

    @property
    def reserve(self) -> float:
        """Seconds kept for the last evaluation, samples, the model's files and the report.

        Saving, loading and drawing a 10M model takes 3 s on two cores; the rest goes to the last evaluation, which is
        sized for it: a longer run affords a larger one.
        """
        return 0.0 if self.total_seconds is None else min(60.0, 3.0 + 0.03 * self.total_seconds)

    def training_seconds(self) -> float:
        """Return what is left for training now. Raises BudgetError if that is too little to be worth it."""
        if self.total_seconds is None:
            raise ValueError("a clock without a total does not know how long to train")
        left = self.total_seconds - self.elapsed - self.reserve
        if left < LEAST_SHARE * self.total_seconds:
            enough = (self.elapsed + 3.0) / (1 - LEAST_SHARE - 0.03)
            raise BudgetError(
                f"--time {format_time(self.total_seconds)} is too short: preparing took {self.elapsed:.0f} s. "
                f"Use --time {format_time(1.1 * enough)}."
            )
        return left

    def seconds_to_end(self, training_seconds: float) -> float:
        """Return seconds for the end: what is left of the reserve, at least one; without a total, a tenth of training.

        Never more than the reserve: a run that was resumed has spent most of its time in an earlier command.
        """
        if self.total_seconds is None:
            return min(60.0, max(2.0, 0.1 * training_seconds))
        return max(1.0, min(self.reserve, self.total_seconds - self.elapsed))
