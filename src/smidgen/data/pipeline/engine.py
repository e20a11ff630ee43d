"""Pieces of work to workers, through Daft: processes on this machine, or actors on a Ray cluster.

Daft hands out the pieces, keeps the workers busy and brings results in; which pieces there are, and what is in them, is
never its choice. Workers on a cluster need the same packages and a folder that all of them see.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from smidgen.data.pipeline.work import Piece, Worker, send
from smidgen.errors import ConfigError, DataError, MissingExtraError


@dataclass(frozen=True)
class Engine:
    """Who does the work."""

    workers: int
    """How many pieces are worked on at a time; 0: one after the other in this process, without the engine."""
    ray: str | None = None
    """Address of a Ray cluster (`auto`, `ray://HOST:10001`); None: processes on this machine."""


def start(engine: Engine) -> None:
    """Get the engine ready; once in a process. Raises MissingExtraError or ConfigError if it cannot be had."""
    # Counting users and drawing bars over our own line of progress are switched off before the first import.
    for name, value in (("DO_NOT_TRACK", "1"), ("DAFT_PROGRESS_BAR", "0"), ("RAY_USAGE_STATS_ENABLED", "0")):
        os.environ.setdefault(name, value)
    if engine.workers == 0:
        return
    try:
        import daft
    except ImportError:
        raise MissingExtraError("A data pipeline", "data") from None
    if engine.ray is None:
        return
    try:
        import ray
    except ImportError:
        raise MissingExtraError(f"--ray {engine.ray}", "ray") from None
    try:
        if not ray.is_initialized():
            ray.init(address=engine.ray, logging_level=logging.ERROR, log_to_driver=False)
        daft.set_runner_ray(noop_if_initialized=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"--ray {engine.ray}: no cluster answers there ({str(error).splitlines()[0]}).") from None


def do(pieces: Sequence[Piece], pipeline: str, folder: Path, engine: Engine) -> Iterator[int]:
    """Have every piece done that is not done yet; yield how many are, as they become so.

    Raises DataError with the reason of the first piece that cannot be done.
    """
    left = [piece for piece in pieces if not piece.record(folder).is_file()]
    done = len(pieces) - len(left)
    yield done
    if not left:
        return
    run = _by_daft if engine.workers else _in_this_process
    for refusal in run(left, pipeline, folder, engine):
        if refusal:
            raise DataError(refusal)
        done += 1
        yield done


def _in_this_process(pieces: Sequence[Piece], pipeline: str, folder: Path, engine: Engine) -> Iterator[str]:
    worker = Worker(pipeline, str(folder))
    yield from (worker(send(piece)) for piece in pieces)


def _by_daft(pieces: Sequence[Piece], pipeline: str, folder: Path, engine: Engine) -> Iterator[str]:
    import daft

    workers = min(engine.workers, len(pieces))
    # In processes of its own, because a step in Python holds the interpreter's lock; on Ray every actor has one anyway.
    kind = daft.cls(Worker, max_concurrency=workers, use_process=None if engine.ray else True)
    worker = kind(pipeline, str(folder.resolve()))
    frame = daft.from_pydict({"piece": [send(piece) for piece in pieces]})
    frame = frame.into_partitions(len(pieces)) if engine.ray else frame.into_batches(1)
    for row in frame.select(worker(frame["piece"]).alias("refusal")).iter_rows():
        yield row["refusal"]
