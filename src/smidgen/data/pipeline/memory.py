"""What a run will hold in memory, said before it is needed rather than found out by the kernel."""

import os
from collections.abc import Sequence
from pathlib import Path

from smidgen.data.pipeline.definition import PipelineConfig
from smidgen.data.pipeline.engine import Engine
from smidgen.errors import ConfigError

_HELD_TIMES = 8
"""Memory of a worker in parts: text, parquet buffers and the step that collects, measured at 5 to 7."""
_WORKER_BYTES = 300 << 20
"""Memory of a worker before its first document: the interpreter, numpy, pyarrow, the engine."""
_TABLE_TIMES = 3
"""Memory of a decision in the bytes of its tables: as they were read, one below the other, and sorted."""


def check_workers(config: PipelineConfig, engine: Engine) -> None:
    """Raise ConfigError if the workers on this machine would need more memory than it has."""
    if engine.ray is not None:
        return
    there_is = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed = engine.workers * (_HELD_TIMES * config.part_bytes + _WORKER_BYTES)
    if needed > there_is:
        raise ConfigError(
            f"{engine.workers} workers with parts of {config.part_bytes >> 20} MiB need about {needed / 1e9:.1f} GB of "
            f"memory, and there are {there_is / 1e9:.1f}. Lower part_bytes or --workers."
        )


def check_tables(step: str, tables: Sequence[Path]) -> None:
    """Raise ConfigError if a decision about the whole corpus needs more memory than is free."""
    free = free_bytes()
    needed = _TABLE_TIMES * sum(table.stat().st_size for table in tables)
    if needed > free:
        raise ConfigError(
            f"step '{step}' decides over the whole corpus, which takes about {needed / 1e9:.1f} GB of memory, and "
            f"{free / 1e9:.1f} are free. What is done stays: run again with more memory, or leave the step out."
        )


def free_bytes() -> int:
    """Return the memory that can be had without swapping, as the kernel tells it; all there is where it does not."""
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
