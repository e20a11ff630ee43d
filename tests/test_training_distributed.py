"""Two gloo processes under torchrun equal one process, each with all weights or with a part of every one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import distributed_fit
from model_zoo import MODELS
from smidgen.models import build_empty
from smidgen.training.sharded import units


def trained(
    target: Path, model: str, processes: int, resume: bool = False, **changes: object
) -> dict[str, torch.Tensor]:
    arguments = [str(target), model, json.dumps(changes), "resume" if resume else "anew"]
    if processes == 1:
        distributed_fit.main(*arguments)
        return load_file(target)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command.append(distributed_fit.__file__)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return load_file(target)


def assert_equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        told = f"{name} differs"
        torch.testing.assert_close(
            two[name], tensor, rtol=1e-4, atol=1e-5, msg=lambda text, told=told: f"{told}: {text}"
        )


@pytest.mark.parametrize("model", ["best", "pairwise"])
def test_two_processes_equal_one(model, tmp_path):
    assert_equal(*(trained(tmp_path / f"{n}.safetensors", model, n) for n in (1, 2)))


@pytest.mark.parametrize(
    "changes", [{}, {"optimizer": {"type": "adamw"}, "loop_from": 0.5}], ids=["muon", "adamw-loop"]
)
def test_two_processes_with_a_part_of_each_weight_equal_one(changes, tmp_path):
    one = trained(tmp_path / "1.safetensors", "smallest", 1, **changes)
    two = trained(tmp_path / "2.safetensors", "smallest", 2, parallel="fsdp", **changes)
    assert_equal(one, two)


def test_a_sharded_run_resumes_exactly_and_from_one_process_too(tmp_path):
    straight = trained(tmp_path / "a.safetensors", "one-mlp-lora", 2, parallel="fsdp")
    resumed = trained(tmp_path / "a.safetensors", "one-mlp-lora", 2, resume=True, parallel="fsdp")
    weights = [name for name in straight if name not in ("losses", "seen")]
    assert all(torch.equal(straight[name], resumed[name]) for name in weights)
    alone = trained(tmp_path / "a.safetensors", "one-mlp-lora", 1, resume=True)
    assert_equal({name: straight[name] for name in weights}, {name: alone[name] for name in weights})


@pytest.mark.parametrize("name", MODELS)
def test_what_is_shared_is_gathered_once_and_before_what_uses_it(name):
    model = build_empty(MODELS[name])
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
