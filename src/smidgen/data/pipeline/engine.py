"""Pieces of work to workers, through Daft: processes on this machine, or actors on a Ray cluster.

Daft hands out the pieces, keeps the workers busy and brings results in; which pieces there are, and what is in them, is
never its choice. On this machine one query lasts the whole run and reads its pieces as they come up, so that workers
start once (1.3 s) and not for every stage. Workers on a cluster need the same packages and a folder that all of them
see; there every stage is a query.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from smidgen.data.pipeline.work import Piece, Worker, send
from smidgen.errors import ConfigError, DataError, MissingExtraError

_KEEPS = (("MALLOC_MMAP_THRESHOLD_", str(32 << 20)), ("MALLOC_TRIM_THRESHOLD_", str(128 << 20)))
"""Processes that glibc starts with these keep the arrays that a document needs, instead of giving their pages back and
asking for them again with the next document."""
_GONE = "UDF process closed the connection"
_LOST_WORKER = (
    "a worker was killed, most often for want of memory. The same command goes on where it was; fewer --workers or a "
    "smaller part_bytes need less."
)
_LOOKS_SECONDS = 0.02
"""How often the query looks for pieces of the next stage."""


@dataclass(frozen=True)
class Engine:
    """Who does the work."""

    workers: int
    """How many pieces are worked on at a time; 0: one after the other in this process, without the engine."""
    ray: str | None = None
    """Address of a Ray cluster (`auto`, `ray://HOST:10001`); None: processes on this machine."""
    memory_bytes: int | None = None
    """Memory of this machine that a run may count on; None: what is free."""


def start(engine: Engine) -> None:
    """Get the engine ready; once in a process. Raises MissingExtraError or ConfigError if it cannot be had."""
    # Counting users and drawing bars over our own line of progress are switched off before the first import.
    for name, value in (("DO_NOT_TRACK", "1"), ("DAFT_PROGRESS_BAR", "0"), ("RAY_USAGE_STATS_ENABLED", "0"), *_KEEPS):
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


class Crew(Protocol):
    """Does pieces of work, stage after stage."""

    def work(self, pieces: Sequence[Piece]) -> Iterator[str]:
        """Yield "" or a refusal for each piece, as they are done."""
        ...


@contextmanager
def crew(pipeline: str, folder: Path, engine: Engine) -> Generator[Crew, None, None]:
    """Give the workers of one run; those of this machine start with the first piece and go when the run ends."""
    if not engine.workers:
        yield _Here(Worker(pipeline, str(folder)))
    elif engine.ray is not None:
        yield _Cluster(pipeline, folder, engine.workers)
    else:
        processes = _Processes(pipeline, folder, engine.workers)
        try:
            yield processes
        finally:
            processes.leave()


def do(pieces: Sequence[Piece], folder: Path, workers: Crew) -> Iterator[int]:
    """Have every piece done that is not done yet; yield how many are, as they become so.

    Raises DataError with the reason of the first piece that cannot be done.
    """
    left = [piece for piece in pieces if not piece.record(folder).is_file()]
    done = len(pieces) - len(left)
    yield done
    if not left:
        return
    for refusal in workers.work(left):
        if refusal:
            raise DataError(refusal)
        done += 1
        yield done


@dataclass(frozen=True)
class _Here:
    """This process."""

    worker: Worker

    def work(self, pieces: Sequence[Piece]) -> Iterator[str]:
        yield from (self.worker(send(piece)) for piece in pieces)


@dataclass(frozen=True)
class _Cluster:
    """Actors on Ray, for a stage at a time: its tasks are all known before the first is sent."""

    pipeline: str
    folder: Path
    workers: int

    def work(self, pieces: Sequence[Piece]) -> Iterator[str]:
        import daft

        kind = daft.cls(Worker, max_concurrency=min(self.workers, len(pieces)))
        worker = kind(self.pipeline, str(self.folder.resolve()))
        frame = daft.from_pydict({"piece": [send(piece) for piece in pieces]}).into_partitions(len(pieces))
        for row in frame.select(worker(frame["piece"]).alias("refusal")).iter_rows():
            yield row["refusal"]


class _Processes:
    """Processes of this machine, in one query that reads on for as long as pieces come up."""

    def __init__(self, pipeline: str, folder: Path, workers: int) -> None:
        self._worker = (pipeline, str(folder.resolve()))
        self._workers = workers
        self._waiting: deque[str | None] = deque()
        self._rows: Generator[dict[str, Any], None, None] | None = None

    def work(self, pieces: Sequence[Piece]) -> Iterator[str]:
        self._waiting.extend(send(piece) for piece in pieces)
        self._rows = self._rows or self._start()
        for _ in pieces:
            try:
                told = next(self._rows)["refusal"]
            except RuntimeError as error:
                if _GONE not in str(error):
                    raise
                raise DataError(_LOST_WORKER) from None
            yield told

    def leave(self) -> None:
        """End the query, and with it the workers, also in the middle of a stage.

        What is begun is awaited. A query that is cut off leaves a thread of the engine with a piece in its hand, and
        one that asks for the interpreter while that closes ends the process by a signal (-11 after a clear refusal,
        seen once in a thousand runs).
        """
        self._waiting.clear()
        self._waiting.append(None)
        if self._rows is not None:
            with suppress(RuntimeError):  # A worker that was killed has been told, or was killed with this process.
                deque(self._rows, maxlen=0)
            self._rows.close()

    def _start(self) -> Generator[dict[str, Any], None, None]:
        import daft

        # In processes of their own, because a step in Python holds the interpreter's lock.
        kind = daft.cls(Worker, max_concurrency=self._workers, use_process=True)
        frame = _source(self._waiting).into_batches(1)
        told = frame.select(kind(*self._worker)(frame["piece"]).alias("refusal"))
        return cast(Generator[dict[str, Any], None, None], told.iter_rows(results_buffer_size=1))


def _source(waiting: "deque[str | None]") -> Any:
    """Return a frame of the pieces that are waiting and of all that will, until None comes."""
    import daft
    from daft.io.source import DataSource, DataSourceTask
    from daft.recordbatch import RecordBatch

    columns = daft.from_pydict({"piece": [""]}).schema()
    nothing = RecordBatch.from_pydict({"piece": [""]}).head(0)

    class Pieces(DataSourceTask):
        @property
        def schema(self) -> Any:
            return columns

        async def read(self) -> AsyncIterator[RecordBatch]:
            while True:
                if not waiting:
                    # Daft passes batches on by the four: a piece would wait for company that never comes.
                    yield nothing
                    await asyncio.sleep(_LOOKS_SECONDS)
                elif (piece := waiting.popleft()) is None:
                    return
                else:
                    yield RecordBatch.from_pydict({"piece": [piece]})

    class Source(DataSource):
        @property
        def name(self) -> str:
            return "pieces"

        @property
        def schema(self) -> Any:
            return columns

        async def get_tasks(self, pushdowns: Any) -> AsyncIterator[DataSourceTask]:
            yield Pieces()

    return Source().read()
