"""What every test file may ask for: a quiet machine, and the command line, in this process or in one of its own."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores: more threads only fight

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Let no bytes name a test: gzip writes the time into them, and two workers then collect different tests."""
    return argname if isinstance(val, bytes) else None


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Smidgen = Callable[..., Outcome]


@pytest.fixture
def smidgen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Smidgen:
    """Run the command line in this process, in an empty directory, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMIDGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SMIDGEN_DEBUG", raising=False)

    def run(*arguments: str | Path, said: str = "") -> Outcome:
        from smidgen.cli import main

        monkeypatch.setattr(sys, "argv", ["smidgen", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(said))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        told = capsys.readouterr()
        return Outcome(int(end.value.code or 0), told.out, told.err)

    return run


@pytest.fixture
def smidgen_process(tmp_path: Path) -> Smidgen:
    """Run the command line as a person would: a fresh process, in an empty directory."""

    def run(*arguments: str | Path, **settings: str) -> Outcome:
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "SMIDGEN_DEBUG": "", **settings}
        done = subprocess.run(
            [sys.executable, "-m", "smidgen", *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run
