"""Notice a run that goes wrong: a loss that is not finite, or one that jumps and stays up."""

import math

from smidgen.errors import TrainingError


class LossWatch:
    """Follows the smoothed loss; a spike is a smoothed loss far above its best so far."""

    def __init__(self, factor: float, memory_steps: int = 20) -> None:
        self._factor = factor
        self._keep = 1 - 1 / memory_steps
        self._smoothed: float | None = None
        self._best = math.inf

    def see(self, step: int, loss: float) -> bool:
        """Take the loss of one step; return True on a spike. Raises TrainingError when it is not finite."""
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} at step {step}. Lower the learning rates (train.optimizer) or use "
                "train.precision=fp32; the last checkpoint is kept."
            )
        smoothed = loss if self._smoothed is None else self._keep * self._smoothed + (1 - self._keep) * loss
        self._smoothed = smoothed
        self._best = min(self._best, smoothed)
        return smoothed > self._factor * self._best and smoothed > self._best + 0.5

    def forget(self) -> None:
        """Start afresh from the best after a rollback."""
        self._smoothed = None if math.isinf(self._best) else self._best
