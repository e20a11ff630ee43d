"""What a running training knows of itself; hooks and logs read it, only the loop writes it."""

from collections.abc import Callable
from dataclasses import dataclass

from smidgen.models import Model


@dataclass
class Progress:
    """The state of a run between two steps."""

    model: Model
    """The model being trained (its live weights, not the average)."""
    step: int = 0
    """Optimizer steps done."""
    data_step: int = 0
    """Steps of data consumed; ahead of `step` by what a rollback skipped."""
    symbols: int = 0
    """Symbols trained on, over all ranks."""
    seconds: float = 0.0
    """Training seconds, those before an interruption included."""
    share: float = 0.0
    """Used share of the budget."""
    begun: float = 0.0
    """Share of a time that went by before the first step that had nothing to compile: the warm-up starts there."""
    loss: float = float("nan")
    """Nats per supervised symbol of the last logged step."""
    rollbacks: int = 0
    """Times a spike was answered by going back."""
    compiled: bool = False
    """Whether this process computes its steps with torch.compile."""
    ended: str = "running"
    """Why it stopped: "budget", "interrupted" or "running"."""

    def advance(self, symbols: int, seconds: float) -> None:
        """Count one more step, of so many symbols, done after so many seconds in all."""
        self.step += 1
        self.data_step += 1
        self.symbols += symbols
        self.seconds = seconds


@dataclass(frozen=True)
class Hook:
    """Something to do `times` times, evenly over the budget, the end included."""

    times: int
    run: Callable[[Progress], None]

    def is_due(self, before: float, after: float) -> bool:
        """Whether a boundary of this hook lies in the share (before, after]."""
        return self.times > 0 and int(after * self.times + 1e-9) > int(before * self.times + 1e-9)
