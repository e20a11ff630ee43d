"""Two gloo processes under torchrun equal one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).parent / "distributed_fit.py"


def trained(target: Path, model: str, processes: int) -> dict[str, torch.Tensor]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(SCRIPT), str(target), model], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return load_file(target)


@pytest.mark.parametrize("model", ["best", "pairwise"])
def test_two_processes_equal_one(model, tmp_path):
    one, two = (trained(tmp_path / f"{n}.safetensors", model, n) for n in (1, 2))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        told = f"{name} differs"
        torch.testing.assert_close(
            two[name], tensor, rtol=1e-4, atol=1e-5, msg=lambda text, told=told: f"{told}: {text}"
        )
