"""Two gloo processes under torchrun equal one process, each with all weights or with a part of every one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import distributed_fit
from distributed_fit import JOBS
from model_zoo import EVERY_MODEL
from smidgen.models import build_empty
from smidgen.training.sharded import units


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Directories of what one process and two made of every job; starting processes costs more than the jobs."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command += [distributed_fit.__file__, str(two)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-6000:]
    distributed_fit.main(str(one))
    return {1: one, 2: two}


@pytest.mark.parametrize("job", JOBS)
def test_two_processes_equal_one(job, results):
    one, two = (load_file(results[processes] / f"{job}.safetensors") for processes in (1, 2))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        told = f"{name} differs"
        torch.testing.assert_close(
            two[name], tensor, rtol=1e-4, atol=1e-5, msg=lambda text, told=told: f"{told}: {text}"
        )


@pytest.mark.parametrize("processes", [1, 2])
def test_a_sharded_run_resumes_bit_for_bit(processes, results):
    straight, resumed = (load_file(results[processes] / f"{job}.safetensors") for job in ("fsdp", "fsdp-resumed"))
    weights = [name for name in straight if name not in ("losses", "seen")]
    assert all(torch.equal(straight[name], resumed[name]) for name in weights)


def test_a_state_in_parts_is_saved_whole(results):
    one, two = (load_file(results[processes] / "fsdp.state") for processes in (1, 2))
    assert {name: tensor.shape for name, tensor in one.items()} == {name: tensor.shape for name, tensor in two.items()}


@pytest.mark.parametrize("name", EVERY_MODEL)
def test_what_is_shared_is_gathered_once_and_before_what_uses_it(name):
    model = build_empty(EVERY_MODEL[name])
    assert all(weight.ndim for weight in model.parameters()), "FSDP2 cannot cut scalars"
    order = units(model)
    assert len(order) == len(set(order))
    for index, module in enumerate(order):
        assert not any(later in set(module.modules()) for later in order[index + 1 :])
    owners = {}
    for module in order:  # what fully_shard will do: each takes the weights nobody took
        for weight in module.parameters():
            owners.setdefault(weight, module)
    for block in model.modules():
        users = [unit for unit in order if block in set(unit.modules())]
        for weight in block.parameters(recurse=False):
            assert not users or owners[weight] is users[0]
