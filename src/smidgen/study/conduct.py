"""The cells of a study, one after another or several at once, each in its own process; the table after every one.

A process of its own keeps peak memory, compiled code and a crash to the cell they belong to.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import IO

from smidgen.journey.screen import Screen
from smidgen.planning.units import format_time
from smidgen.recipe import format_recipe
from smidgen.runs import RunDirectory, atomic_write
from smidgen.study.layout import StudyDirectory, write_json
from smidgen.study.plan import Cell, Plan
from smidgen.study.results import write_results
from smidgen.study.text import prepare_texts
from smidgen.training.config import TimeBudget

_POLL_SECONDS = 0.5
_TAIL_BYTES = 8192
_PATIENCE_SECONDS = 120.0
"""How long a cell that was asked to stop may take to finish its step and save."""


@dataclass(frozen=True)
class Asked:
    """How a study is to be carried out."""

    jobs: int = 1
    """Cells at once. More than one share the machine: their seconds compare with each other alone."""
    only: tuple[str, ...] = ()
    """Names of the variants to run; none: all."""
    device: str | None = None


@dataclass
class _Work:
    """One cell under way."""

    cell: Cell
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    began: float = field(default_factory=time.monotonic)


def conduct(plan: Plan, directory: StudyDirectory, asked: Asked, screen: Screen) -> list[Cell]:
    """Run every cell that has not come to its end; return those that failed. Ctrl-C or SIGTERM stops and saves.

    Cells that failed before are tried again. Raises RunError if another process conducts this study.
    """
    running: list[_Work] = []
    with RunDirectory(directory.path).lock(), _interruptible():
        try:
            write_plan(plan, directory, asked.jobs)
            if others := directory.keys() - {cell.key for cell in plan.cells()}:
                screen.say(f"{len(others)} runs here are of other variants or settings; they are kept, and not shown.")
            prepare_texts(plan.chosen(asked.only), directory, plan.study.validation_bytes, screen)
            waiting = [cell for cell in plan.cells(asked.only) if not _is_done(directory, plan, cell)]
            _work_off(waiting, running, directory, asked, screen)
        except KeyboardInterrupt:
            screen.say("Stopping: every running cell saves what it has ...")
        finally:
            _stop(running)
            write_results(directory)
    records = ((cell, directory.read_record(cell.key)) for cell in plan.cells(asked.only))
    return [cell for cell, record in records if record is not None and record["status"] == "failed"]


def write_plan(plan: Plan, directory: StudyDirectory, jobs: int) -> None:
    """Write what was asked: the study, its cells and their recipes."""
    cells = {cell.key: {"variant": cell.variant, "seed": cell.seed, "text": cell.text} for cell in plan.cells()}
    variants = [
        {
            **arm.variant.model_dump(mode="json", include={"name", "note", "group"}),
            "recipe": arm.recipe.model_dump(mode="json"),
        }
        for arm in plan.arms
    ]
    study = plan.study.model_dump(mode="json", exclude={"variants", "grid"})
    write_json(directory.plan, {"study": study, "jobs": jobs, "variants": variants, "cells": cells})
    for cell in plan.cells():
        path = directory.recipe(cell.key)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, format_recipe(cell.recipe, f"{cell.variant}, seed {cell.seed}"))


def _is_done(directory: StudyDirectory, plan: Plan, cell: Cell) -> bool:
    record = directory.read_record(cell.key)
    if record is None or record["status"] != "finished":
        return False
    return record["validation"]["asked_bytes"] == plan.study.validation_bytes


def _work_off(
    waiting: list[Cell], running: list[_Work], directory: StudyDirectory, asked: Asked, screen: Screen
) -> None:
    total, ended, began = len(waiting), 0, time.monotonic()
    if total:
        screen.say(
            f"{total} run{'s' if total > 1 else ''} to do. Stop at any moment; the same command goes on. "
            f"Results after each: {directory.page}"
        )
    while waiting or running:
        while waiting and len(running) < asked.jobs:
            running.append(_start(waiting.pop(0), directory, asked))
        time.sleep(_POLL_SECONDS)
        _show_progress(running, directory, screen)
        for work in [work for work in running if work.process.poll() is not None]:
            running.remove(work)
            ended += 1
            screen.end_progress()
            outcome = _settle(work, directory)
            left = (time.monotonic() - began) / ended * (total - ended)
            ahead = f" About {format_time(left)} left." if ended < total else ""
            screen.say(f"[{ended}/{total}] {work.cell.variant}, seed {work.cell.seed}: {outcome}.{ahead}")
            write_results(directory)


def _start(cell: Cell, directory: StudyDirectory, asked: Asked) -> _Work:
    """Start a cell in a session of its own: the terminal's Ctrl-C reaches the study, and the study tells its cells."""
    directory.log(cell.key).parent.mkdir(exist_ok=True)
    directory.record(cell.key).unlink(missing_ok=True)
    log = directory.log(cell.key).open("wb")
    command = [sys.executable, "-m", "smidgen.study.cell", str(directory.path), cell.key]
    # Compiling pays its cold price in every cell: a warm cache would give the later seeds more training time.
    settings = {"TORCHINDUCTOR_CACHE_DIR": str(directory.compiled(cell.key).resolve())}
    if asked.jobs > 1:
        settings["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // asked.jobs))
    budget = cell.recipe.train.budget
    if isinstance(budget, TimeBudget) and budget.clock == "processor":
        settings["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # what compiles beside a process is not in its time
    process = subprocess.Popen(
        command + ([asked.device] if asked.device else []),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=os.environ | settings,
        start_new_session=True,
    )
    return _Work(cell, process, log)


def _show_progress(running: Sequence[_Work], directory: StudyDirectory, screen: Screen) -> None:
    """Show, where somebody watches, the newest record of the run that began first; only the log's end is read."""
    log = directory.run(running[0].cell.key).metrics
    if not sys.stdout.isatty() or not log.is_file():
        return
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().splitlines()[1:-1]  # the first may be cut, the last half written
    records = [json.loads(line) for line in lines]
    if train := [record for record in records if record["kind"] == "train"]:
        screen.show_progress(train[-1])


def _settle(work: _Work, directory: StudyDirectory) -> str:
    """Close a cell that ended, keep the reason if it failed, and return one line about it."""
    work.log.close()
    shutil.rmtree(directory.compiled(work.cell.key), ignore_errors=True)
    record = directory.read_record(work.cell.key)
    if record is not None:
        return f"{record['bits_per_byte']:.4f} bits per byte in {format_time(record['seconds'])} of training"
    if work.process.returncode == 0:
        return "was stopped from outside; the same command goes on with it"
    reason = _reason(work, directory)
    cell = work.cell
    failed = {"status": "failed", "variant": cell.variant, "seed": cell.seed, "reason": reason}
    write_json(directory.record(cell.key), failed)
    return f"failed: {reason}"


def _reason(work: _Work, directory: StudyDirectory) -> str:
    """Return why a cell failed, in one line: what it said last, or which signal ended it."""
    code = work.process.returncode
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL); most likely the machine ran out of memory"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    said = directory.log(work.cell.key).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    told = [line for line in said if line.startswith("smidgen: ")]
    return (told or said or [f"ended with exit code {code}"])[-1].removeprefix("smidgen: ")[:300]


def _stop(running: Sequence[_Work]) -> None:
    """Ask every running cell to save and leave, and wait for it; a second Ctrl-C ends them at once."""
    try:
        for work in running:
            work.process.send_signal(signal.SIGTERM)
        for work in running:
            work.process.wait(_PATIENCE_SECONDS)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        for work in running:
            work.process.kill()
    finally:
        for work in running:
            work.process.wait()
            work.log.close()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Within this context SIGTERM and Ctrl-C both interrupt, also where a shell had Ctrl-C ignored."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
