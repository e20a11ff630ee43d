"""What a run will need of memory and of the disk, said before it begins rather than found out by the kernel."""

import os
import shutil
from pathlib import Path

from smidgen.data.pipeline.definition import PipelineConfig
from smidgen.data.pipeline.engine import Engine
from smidgen.data.pipeline.estimate import Estimate
from smidgen.data.pipeline.order import ORDER_BYTES
from smidgen.data.pipeline.steps import held_by, step_names
from smidgen.errors import ConfigError

_HELD_TIMES = 8
"""Memory of a worker in parts: text, parquet buffers and the step that collects, measured at 5 to 7."""
_WORKER_BYTES = 300 << 20
"""Memory of a worker before its first document: the interpreter, numpy, pyarrow, the engine. The process that decides
is one too."""
_CGROUP = Path("/sys/fs/cgroup")


def check_room(config: PipelineConfig, engine: Engine, work: Path, expected: Estimate) -> None:
    """Raise ConfigError if the memory or the disk of this machine cannot hold what a run is expected to need."""
    names = step_names(config.steps)
    decisions = [(held_by(config.steps[at], rows), f"step '{names[at]}'") for at, rows in expected.rows.items()]
    held, who = max([(ORDER_BYTES * expected.documents, "the order of the documents"), *decisions])
    _check(
        f"about {expected.documents:,} documents ({expected.text_bytes / 1e9:.1f} GB of text), of which {who}",
        held,
        config,
        engine,
    )
    there_is = _free_disk(work)
    if expected.disk_bytes > there_is:
        raise ConfigError(
            f"{work.parent.parent}: the text between the passes and the symbols need about "
            f"{expected.disk_bytes / 1e9:.1f} GB of disk if nothing is dropped, and there are {there_is / 1e9:.1f} GB. "
            "Free some space there, give --out on another disk, or prepare the sources one at a time."
        )


def check_decision(config: PipelineConfig, place: int, rows: int, engine: Engine) -> None:
    """Raise ConfigError if a decision about the whole corpus, whose size is known now, needs more than there is."""
    who = f"what is left of the corpus, of which step '{step_names(config.steps)[place]}'"
    _check(who, held_by(config.steps[place], rows), config, engine, working=True)


def _check(what: str, held: int, config: PipelineConfig, engine: Engine, working: bool = False) -> None:
    """Raise ConfigError if so much beside the workers is more than may be used."""
    worker = 0 if engine.ray is not None else _HELD_TIMES * config.part_bytes + _WORKER_BYTES
    workers = max(1, engine.workers) * worker
    # What the workers took is not free any more, and counts in a limit all the same.
    needed = held + _WORKER_BYTES + (0 if working and engine.memory_bytes is None else workers)
    there_is = free_bytes() if engine.memory_bytes is None else engine.memory_bytes
    if needed > there_is:
        raise ConfigError(
            f"{what} takes {held / 1e9:.1f} GB of memory, beside {engine.workers} workers of {worker / 1e9:.1f} GB: "
            f"{needed / 1e9:.1f} GB in all, and {there_is / 1e9:.1f} may be used. "
            "Lower part_bytes or --workers, allow more with --memory, or leave the step out."
        )


def free_bytes() -> int:
    """Return the memory that can be had without swapping and within the container; all there is if nobody tells."""
    told = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    info = Path("/proc/meminfo")
    if info.exists():
        told += [int(line.split()[1]) << 10 for line in info.read_text().splitlines() if "MemAvailable:" in line]
    limit, used = (_number(_CGROUP / name) for name in ("memory.max", "memory.current"))
    return min(told if limit is None else [*told, max(0, limit - (used or 0))])


def _number(path: Path) -> int | None:
    text = path.read_text().strip() if path.exists() else ""
    return int(text) if text.isdigit() else None


def _free_disk(work: Path) -> int:
    """Return what a run may write: what is free, and what it has written already."""
    there = next(folder for folder in (work, *work.absolute().parents) if folder.exists())
    written = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    return shutil.disk_usage(there).free + written
