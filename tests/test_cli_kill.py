"""`kill -9` at any moment corrupts nothing, and the run that goes on ends with the very same weights."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import REPOSITORY

RECIPE = ["recipes/smoke-shared.toml", "train.budget.steps=400", "train.checkpoint_steps=20", "data.text_bytes=400000"]
KILLS = 20


def start(name: str, folder: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "SMIDGEN_CACHE": str(folder / "cache")}
    recipe, *overrides = RECIPE
    command = [sys.executable, "-m", "smidgen", "train", str(REPOSITORY / recipe), *overrides, "--name", name]
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_killed_at_twenty_random_moments_ends_with_the_same_weights(tmp_path: Path):
    begun = time.monotonic()
    assert start("whole", tmp_path).wait() == 0
    seconds = time.monotonic() - begun
    draw = random.Random(20)
    kills = 0
    while kills < KILLS:
        process = start("killed", tmp_path)
        try:
            process.wait(timeout=draw.uniform(0.02, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        code = process.wait()
        log = (tmp_path / "killed.log").read_text()
        assert code in (0, -9), log
        assert "Traceback" not in log
        if (tmp_path / "runs/killed/metrics.json").exists() and kills < KILLS:
            compare(tmp_path)
            shutil.rmtree(tmp_path / "runs/killed")  # it came to its end between two kills: begin again
    assert start("killed", tmp_path).wait() == 0
    compare(tmp_path)
    run = tmp_path / "runs/killed"
    assert not [path for path in run.rglob("*") if ".part" in path.name or "partial" in path.name]


def compare(folder: Path) -> None:
    whole, killed = (folder / f"runs/{name}/model/model.safetensors" for name in ("whole", "killed"))
    assert whole.read_bytes() == killed.read_bytes()
