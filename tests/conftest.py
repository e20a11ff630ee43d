"""What every test file may ask for: a quiet machine, a small text, and the command line in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores: more threads only fight

REPOSITORY = Path(__file__).resolve().parent.parent

Smidgen = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def smidgen(tmp_path: Path) -> Smidgen:
    """Run the command line as a person would: a fresh process, in an empty directory."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "SMIDGEN_DEBUG": "", **settings}
        return subprocess.run(
            [sys.executable, "-m", "smidgen", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )

    return run
