"""TensorBoard as a second home of the training records, where a recipe asks for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from smidgen.errors import MissingExtraError

_SHOWN = ("loss", "bits_per_byte", "learning_rate", "gradient_norm", "tokens_per_second", "mfu")


def open_tensorboard(directory: Path) -> Callable[[dict[str, Any]], None]:
    """Return what writes each training record as scalars. Needs the extra `tensorboard`."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError("train.tensorboard = true", "tensorboard") from None
    writer = SummaryWriter(str(directory))

    def write(record: dict[str, Any]) -> None:
        for name in _SHOWN:
            if record.get(name) is not None:
                writer.add_scalar(name, record[name], record["step"])

    return write
