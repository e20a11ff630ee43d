"""Notice a run that goes wrong: a loss that is not finite, or one that jumps and stays up."""

import math
from collections.abc import Iterable
from typing import Literal

from smidgen.errors import TrainingError


class LossWatch:
    """Follows the smoothed loss; a spike is a smoothed loss far above its best so far, if `factor` is not off."""

    def __init__(self, factor: float | Literal["off"], memory_steps: int = 20) -> None:
        self._factor = math.inf if factor == "off" else factor
        self._keep = 1 - 1 / memory_steps
        self._smoothed: float | None = None
        self._best = math.inf
        self.spiked = False
        """Whether a spike was seen since the beginning, or since `forget`."""
        self.is_calm = True
        """Whether the latest loss alone would be no spike: the weights of a calm step are worth going back to."""

    def see(self, losses: Iterable[tuple[int, float]]) -> None:
        """Take (step, loss) of some steps. Raises TrainingError when one is not finite."""
        for step, loss in losses:
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss} at step {step}. Lower the learning rates (train.optimizer) or use "
                    "train.precision=fp32; the last checkpoint is kept."
                )
            smoothed = loss if self._smoothed is None else self._keep * self._smoothed + (1 - self._keep) * loss
            self._smoothed = smoothed
            self._best = min(self._best, smoothed)
            self.is_calm = not self._is_far_above(loss)
            self.spiked = self.spiked or self._is_far_above(smoothed)

    def forget(self) -> None:
        """Start afresh from the best after a rollback."""
        self._smoothed = None if math.isinf(self._best) else self._best
        self.spiked, self.is_calm = False, True

    def restart(self) -> None:
        """Forget the best too: from here on it is another model that is watched."""
        self._smoothed, self._best = None, math.inf

    def _is_far_above(self, loss: float) -> bool:
        if math.isinf(self._factor):
            return False
        return loss > self._factor * self._best and loss > self._best + 0.5
