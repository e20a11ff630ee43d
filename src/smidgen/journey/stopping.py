"""A wish to stop outside of training, where there is nothing worth saving: leave at once, cleanly, with one line.

While a run trains, `training.interrupts` turns the same signals into a flag instead. Imports nothing heavy, so that a
verb can heed signals from its first moment.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_quietly(say: Callable[[str], object], line: Callable[[], str]) -> Iterator[None]:
    """Within this context SIGTERM is like Ctrl-C, and either one ends the block with one line and no error.

    What the block had open is closed on the way, as for any exception; a second SIGTERM does not disturb that.
    """
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        say(line())
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
