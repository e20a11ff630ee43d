"""One loop, three seams: an iterator of batches, an objective, and surgery done before."""

from smidgen.training.config import TrainConfig
from smidgen.training.loop import fit
from smidgen.training.outside import Outside
from smidgen.training.progress import Hook, Progress

__all__ = ["Hook", "Outside", "Progress", "TrainConfig", "fit"]
