"""kill -9 at random moments costs at most the steps since the last checkpoint, and never a bit of the result."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

RECIPE = Path(__file__).parent.parent / "recipes" / "smoke.toml"
STEPS = 3000


def start(out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "smidgen", "train", str(RECIPE), "--out", str(out), "--steps", str(STEPS)]
    overrides = ["train.checkpoint_steps=7", "train.ema_decay=0.99", "train.evaluations=3"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *overrides], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(out: Path) -> float:
    began = time.monotonic()
    process = start(out)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    return time.monotonic() - began


def same_weights(one: Path, two: Path) -> bool:
    first, second = (load_file(out / "smoke" / "model" / "model.safetensors") for out in (one, two))
    return first.keys() == second.keys() and all(bool((first[name] == second[name]).all()) for name in first)


def kill_at_random(out: Path, times: int, latest: float, seed: int) -> int:
    """Start the run `times` times and kill it within `latest` seconds; return how often it was still alive."""
    moments, killed = random.Random(seed), 0
    for _ in range(times):
        process = start(out)
        try:
            process.wait(timeout=moments.uniform(0.3, latest))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate()
    return killed


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_twenty_kills_end_with_the_weights_of_the_run_never_killed(tmp_path):
    life = finish(tmp_path / "straight")
    killed = kill_at_random(tmp_path / "killed", 20, life / 7, seed=20)
    assert killed >= 15
    finish(tmp_path / "killed")
    assert same_weights(tmp_path / "straight", tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_saves_exits_0_and_goes_on_exactly(tmp_path, number):
    life = finish(tmp_path / "straight")
    process = start(tmp_path / "stopped")
    time.sleep(0.7 * life)
    process.send_signal(number)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 0, text
    finish(tmp_path / "stopped")
    assert same_weights(tmp_path / "straight", tmp_path / "stopped")
