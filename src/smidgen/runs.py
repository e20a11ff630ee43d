"""The run directory: what its files are called, and how they are written so that no crash leaves half of one.

    runs/NAME/
      recipe.toml      what was asked, every key resolved       metrics.jsonl   one record per line, as it happens
      resolved.json    as run: versions, hardware, data hash    metrics.json    the final figures
      samples.jsonl    texts the finished model wrote           report.html     all of it, to look at
      checkpoints/     to resume from                           model/          to use, copy and publish
      tokenizer/       text to symbols                          data/           the text as symbols; may be deleted

This room knows files, not tensors: it never imports torch, and it gives no meaning to what it stores.
"""

import contextlib
import errno
import json
import math
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from smidgen.errors import RunError

_PART = ".part"


class RunDirectory:
    """One run's place on disk. Making the object touches nothing; `create` does."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.recipe = self.path / "recipe.toml"
        self.resolved = self.path / "resolved.json"
        self.metrics = self.path / "metrics.jsonl"
        self.final_metrics = self.path / "metrics.json"
        self.samples = self.path / "samples.jsonl"
        self.report = self.path / "report.html"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.tokenizer = self.path / "tokenizer"
        self.data = self.path / "data"
        self.lock_file = self.path / ".lock"
        self._made: list[Path] = []  # the folders that `create` had to make, the innermost first

    @property
    def is_started(self) -> bool:
        """Whether a run was begun here: there is a recipe to go on with."""
        return self.recipe.is_file()

    @property
    def is_finished(self) -> bool:
        """Whether the run here came to its end: the final figures are the last thing written."""
        return self.final_metrics.is_file()

    @property
    def has_data(self) -> bool:
        """Whether the text is there as symbols, with the tokenizer that made them."""
        return self.tokenizer.is_dir() and any(self.data.glob("*/manifest.json"))

    def create(self) -> None:
        """Make the directory and prove that it can be written. Raises RunError if not, leaving nothing behind."""
        self._made += [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".probe{_PART}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            self._remove_made()
            raise _refusal(self.path, error) from None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process alone, and sweep up what a killed writer left.

        The kernel holds the lock, so it ends with the process however that ends: a stale lock cannot exist, and a
        leftover `.lock` file means nothing. Raises RunError if another live process holds it.
        """
        self.create()
        try:
            handle = self.lock_file.open("a+", encoding="utf-8")
        except OSError as error:
            raise _refusal(self.lock_file, error) from None
        with handle:
            if not _try_lock(handle):
                handle.seek(0)
                holder = handle.read().strip() or "an unknown process"
                raise RunError(
                    f"{self.path}: is being written by {holder}. Wait for it, stop it, or write somewhere else."
                )
            handle.truncate(0)
            handle.write(f"process {os.getpid()} on {socket.gethostname()}")
            handle.flush()
            self._sweep()
            yield

    def discard_parts(self) -> None:
        """Remove what an attempt that never began left of its preparation."""
        for made in (self.tokenizer, self.data):
            shutil.rmtree(made, ignore_errors=True)
        self.resolved.unlink(missing_ok=True)

    def adopt_text(self, other: "RunDirectory") -> None:
        """Take over the tokenizer and prepared text of another directory: linked where the disk can, else copied."""
        try:
            for own, theirs in ((self.tokenizer, other.tokenizer), (self.data, other.data)):
                shutil.copytree(theirs, own, copy_function=_link)
        except OSError as error:
            raise _refusal(self.path, error) from None

    def discard(self) -> None:
        """Remove all that an attempt left which did not come as far as its recipe; whatever else lies here stays.

        So does an empty folder that was here before it.
        """
        if self.is_started:
            return
        with contextlib.suppress(OSError):
            self.discard_parts()
            self._sweep()
            self.lock_file.unlink(missing_ok=True)
        self._remove_made()

    def _sweep(self) -> None:
        """Remove what killed writers left: `.part` of files, `.partial-...` of directories."""
        for part in self.path.glob(f".*{_PART}*"):
            shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)

    def _remove_made(self) -> None:
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        self._made.clear()

    def write_resolved(self, facts: Mapping[str, Any]) -> None:
        """Write how the recipe is really being run: versions, code, and what the caller knows of data and hardware."""
        record = {"versions": describe_versions(), "git_commit": describe_commit(), **facts}
        atomic_write(self.resolved, json.dumps(record, indent=2, default=str) + "\n")

    def read_resolved(self) -> dict[str, Any]:
        """Return what `write_resolved` wrote, or an empty mapping if the run never came that far."""
        return _read_json(self.resolved) if self.resolved.exists() else {}

    def write_samples(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write what the finished model wrote; samples on the way stand in the metrics log."""
        atomic_write(self.samples, "".join(_line(record) for record in records))

    def write_final_metrics(self, figures: Mapping[str, Any]) -> None:
        """Write the final figures: the sign that the run is finished, so it comes last."""
        atomic_write(self.final_metrics, json.dumps(_finite(figures), indent=2) + "\n")

    def read_final_metrics(self) -> dict[str, Any]:
        """Return the final figures. Raises RunError if the run is not finished."""
        if not self.is_finished:
            raise RunError(f"{self.path}: the run is not finished. Go on with it: smidgen train {self.path}")
        return _read_json(self.final_metrics)


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: to a temporary name beside it, flushed to disk, then renamed.

    Raises RunError if the disk is full or the directory cannot be written; the old file is then still there.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}{_PART}")
    data = content.encode() if isinstance(content, str) else content
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise _refusal(path, error) from None
    finally:  # whatever it was, Ctrl-C included
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


class MetricsLog:
    """Records appended to a JSONL file, each on disk before the next step begins.

    Opening it for a resumed run drops a line torn by a crash and every record of a step later than the one resumed
    from, because those steps are about to happen again.
    """

    def __init__(self, path: Path, resumed_step: int | None = None) -> None:
        self.path = path
        if path.exists():
            kept = [record for record in read_records(path) if _is_before(record, resumed_step)]
            atomic_write(path, "".join(_line(record) for record in kept))

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record. Numbers that are not finite become null, which is all JSON can say of them."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(record))
        except OSError as error:
            raise _refusal(self.path, error) from None


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a JSONL log, without a last line that a crash tore; no file means no records.

    Raises RunError for damage anywhere else.
    """
    if not path.exists():
        return []
    *lines, _torn = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except ValueError:
            raise RunError(f"{path}: line {number} is not a JSON record. Remove that line and try again.") from None
    return records


def describe_versions() -> dict[str, str]:
    """Return the versions that decide what a run computes."""
    versions = {"python": platform.python_version()}
    for package in ("smidgen", "torch", "numpy", "tokenizers", "safetensors"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def describe_commit() -> str | None:
    """Return the git commit this code was run from, marked `+changes` if files differ; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "-C", str(here), "log", "-1", "--format=%H", "--", "."], capture_output=True, text=True, timeout=10
        )
        changes = subprocess.run(
            ["git", "-C", str(here), "status", "--porcelain", "--", "."], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    commit = described.stdout.strip()
    return (commit + ("+changes" if changes.stdout.strip() else "")) or None


def _is_before(record: Mapping[str, Any], resumed_step: int | None) -> bool:
    return resumed_step is None or record.get("step", 0) <= resumed_step


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(_finite(record), ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}). Remove the file to start that part anew.") from None


def _link(source: str, target: str) -> None:
    """Give a file a second name, which costs no space; across disks, or where links are unknown, copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _refusal(path: Path, error: OSError) -> RunError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(f"{path}: the disk is full. Free some space and give the same command again.")
    reason = (error.strerror or str(error)).lower()
    return RunError(f"{path}: cannot be written ({reason}). Choose another place with --out.")


def _try_lock(handle: IO[str]) -> bool:
    """Take an exclusive lock without waiting. POSIX record locks are not inherited by forks, so none outlives us."""
    try:
        if sys.platform == "win32":
            import msvcrt

            handle.seek(1 << 30)  # Windows locks are mandatory: lock a byte nobody reads, far behind the text
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
