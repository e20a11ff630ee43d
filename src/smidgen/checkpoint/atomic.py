"""Files and directories that appear whole or not at all: written under another name, flushed, then renamed.

What was there before stays until the new thing is complete, so a full disk, a crash or `kill -9` costs only the new.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from smidgen.errors import CheckpointError

_STALE_SECONDS = 3600
"""A leftover this old belongs to no process still at work: our slowest write takes minutes."""


@contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` to write to; when the block ends well, it becomes `path`.

    Raises CheckpointError if the disk is full or cannot be written.
    """
    staging = path.with_name(f".{path.name}.partial")
    with _clear_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield staging
            flush(staging)
            staging.replace(path)
            flush(path.parent)
        finally:
            staging.unlink(missing_ok=True)


def refuse_foreign(directory: Path, own: Collection[str], what: str) -> None:
    """Raise CheckpointError if a directory that is about to be replaced holds files that are no part of `what`."""
    foreign = sorted(p.name for p in directory.iterdir() if p.name not in own) if directory.is_dir() else []
    if foreign:
        raise CheckpointError(
            f"{directory}: holds files that are no part of {what} ({', '.join(foreign[:3])}). "
            "Saving replaces the directory: choose another, or move them away."
        )


@contextmanager
def staged_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory beside `target` to fill; when the block ends well, it replaces `target`.

    Raises CheckpointError if the disk is full or cannot be written.
    """
    with _clear_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        recover_directory(target)
        _sweep(target)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
        try:
            staging.chmod(0o755)
            yield staging
            for file in staging.rglob("*"):
                flush(file)
            flush(staging)
            _swap(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def recover_directory(target: Path) -> None:
    """Put back what a swap was about to replace when the process died between its two renames."""
    retired = _retired(target)
    if retired.is_dir() and not target.exists():
        retired.rename(target)


def flush(path: Path) -> None:
    """Force a file, or a directory's list of names, to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no directories, and orders renames itself
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(staging: Path, target: Path) -> None:
    retired = _retired(target)
    shutil.rmtree(retired, ignore_errors=True)
    if target.exists():
        target.rename(retired)
    staging.rename(target)
    flush(target.parent)
    shutil.rmtree(retired, ignore_errors=True)


def _retired(target: Path) -> Path:
    return target.with_name(f".{target.name}.retired")


def _sweep(target: Path) -> None:
    """Remove what killed processes left; younger leftovers may belong to another process still writing."""
    for leftover in target.parent.glob(f".{target.name}.partial-*"):
        if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"{path}: cannot be written: {reason}. What was there before is unchanged.") from None
