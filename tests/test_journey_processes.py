"""`torchrun -m smidgen train`: two real processes end as one does, speak once, and fail or stop together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import REPOSITORY

SMOKE = REPOSITORY / "recipes/smoke.toml"


def start(folder: Path, processes: int, *arguments: str | Path) -> subprocess.Popen[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*torchrun, "-m", "smidgen", "train", *map(str, arguments), "--device", "cpu"]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY / "src"),
        "SMIDGEN_CACHE": str(folder / "cache"),
    }
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    [*_, newest] = sorted((folder / "runs/smoke/checkpoints").glob("step-*.safetensors"))
    return {name: tensor for name, tensor in load_file(newest).items() if name.startswith("model.")}


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(tmp_path: Path):
    found = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        done = start(folder, processes, SMOKE, "train.budget.steps=5")
        out, err = done.communicate(timeout=240)
        assert done.returncode == 0, err[-2000:]
        assert out.count("Talk with it") == 1
        assert (folder / "runs/smoke/report.html").is_file()
        found.append(weights(folder))
    one, two = found
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_what_the_first_process_refuses_ends_the_others_without_a_word(tmp_path: Path):
    done = start(tmp_path, 2, tmp_path / "nothing")
    _, err = done.communicate(timeout=120)
    assert done.returncode != 0
    assert err.count("no such file or folder") == 1
    assert "Connection closed" not in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_two_processes_asked_to_stop_save_and_go_on(tmp_path: Path):
    arguments = (SMOKE, "train.budget.steps=100000", "train.checkpoint_seconds=1")
    process = start(tmp_path, 2, *arguments)
    until = time.monotonic() + 120
    while not list(tmp_path.glob("runs/smoke/checkpoints/step-*.safetensors")) and time.monotonic() < until:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert out.count("Go on with the same command") == 1, out
    [*_, newest] = sorted(path.name for path in tmp_path.glob("runs/smoke/checkpoints/step-*.safetensors"))
    again = start(tmp_path, 2, *arguments)
    time.sleep(20)
    again.send_signal(signal.SIGTERM)
    out, _ = again.communicate(timeout=60)
    assert f"resumed at step {int(newest[5:13])}" in out
