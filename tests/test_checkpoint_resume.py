"""Training state comes back bit for bit, survives any kill, and damage costs no more than one state."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smidgen.checkpoint import load_training_state, save_training_state
from smidgen.errors import CheckpointError


def everything(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(5, 7, generator=generator)
    shared = torch.arange(12.0)
    return {
        "fp32": numbers,
        "bf16": numbers.bfloat16(),
        "fp16": numbers.half(),
        "int64": torch.tensor([2**62, -1]),
        "rng": torch.get_rng_state(),
        "bool": numbers > 0,
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 4),
        "special": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        "transposed": numbers.T,
        "one": shared,
        "the same": shared,
        "a view": shared[3:9:2],
        "Ünï/code key": torch.ones(1, dtype=torch.uint8),
    }


def same_bits(a: Tensor, b: Tensor) -> bool:
    raw = [t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*raw)


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    tensors, meta = everything(), {"share": 0.1 + 0.2, "loss": float("inf"), "notes": ["ü", None], "seed": 2**70}
    path = save_training_state(tmp_path / "new" / "checkpoints", 120, tensors, meta)
    state = load_training_state(path.parent)
    assert state is not None
    assert (state.step, state.meta, state.note) == (120, meta, None)
    assert state.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert same_bits(tensor, state.tensors[name]), name


@settings(deadline=None, max_examples=30)
@given(
    names=st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=4),
    meta=st.dictionaries(st.text(), st.floats(allow_nan=False)),
)
def test_any_names_and_numbers_survive(tmp_path_factory: pytest.TempPathFactory, names: list, meta: dict) -> None:
    directory = tmp_path_factory.mktemp("any")
    names = [n.encode(errors="replace").decode() for n in names if n != "__metadata__"]
    meta.pop("step", None)
    save_training_state(directory, 1, {name: torch.tensor([len(name)]) for name in names}, meta)
    state = load_training_state(directory)
    assert state is not None
    assert state.meta == meta
    assert {n: t.item() for n, t in state.tensors.items()} == {n: len(n) for n in names}


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    assert load_training_state(tmp_path / "nowhere") is None
    assert load_training_state(tmp_path) is None


def test_the_last_two_are_kept_and_leftovers_swept(tmp_path: Path) -> None:
    (tmp_path / ".step-00000001.safetensors.partial").write_bytes(b"killed")
    for step in (5, 40, 300, 100_000_000):
        save_training_state(tmp_path, step, {"w": torch.tensor([step])}, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000300.safetensors", "step-100000000.safetensors"]
    state = load_training_state(tmp_path)
    assert state is not None
    assert state.step == 100_000_000


@pytest.mark.parametrize("where", [3, 20, 200, -1, "half", "empty"])
def test_a_damaged_newest_costs_one_state_and_is_said(tmp_path: Path, where: int | str) -> None:
    for step in (10, 20):
        newest = save_training_state(tmp_path, step, everything(step), {"at": step})
    content = bytearray(newest.read_bytes())
    if isinstance(where, int):
        content[where] ^= 4
    newest.write_bytes({"half": content[: len(content) // 2], "empty": b""}.get(str(where), content))
    state = load_training_state(tmp_path)
    assert state is not None
    assert (state.step, state.meta) == (10, {"at": 10})
    assert newest.name in str(state.note)
    assert "step 10" in str(state.note)
    again = load_training_state(tmp_path)  # the damaged one is out of the way, so that it never counts as a kept one
    assert again is not None
    assert again.note is None
    save_training_state(tmp_path, 15, everything(), {})
    save_training_state(tmp_path, 20, everything(), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000015.safetensors", "step-00000020.safetensors"]


def test_all_damaged_is_an_error_every_time(tmp_path: Path) -> None:
    for step in (10, 20):
        save_training_state(tmp_path, step, everything(), {}).write_bytes(b"\x80\x04 not a state")
    for _ in range(2):
        with pytest.raises(CheckpointError, match="No older state is intact") as caught:
            load_training_state(tmp_path)
        assert len(str(caught.value).splitlines()) == 1


def test_a_full_disk_keeps_the_older_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_training_state(tmp_path, 10, everything(), {})

    def full(path: Path, *_: object) -> str:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("smidgen.checkpoint.resume.write_tensors", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save_training_state(tmp_path, 20, everything(), {})
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000010.safetensors"]
    state = load_training_state(tmp_path)
    assert state is not None
    assert state.step == 10


def _save_forever(directory: Path) -> None:
    step = 0
    while True:
        step += 1
        save_training_state(directory, step, {"w": torch.full((1 << 18,), float(step))}, {"at": step})


def test_kill_at_any_moment_leaves_an_intact_state(tmp_path: Path) -> None:
    draws, reached = random.Random(0), 0
    for _ in range(6):
        process = multiprocessing.get_context("fork").Process(target=_save_forever, args=(tmp_path,))
        process.start()
        time.sleep(0.05 + draws.random() * 0.2)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        state = load_training_state(tmp_path)
        if state is not None:
            assert state.note is None
            assert state.meta == {"at": state.step}
            assert torch.equal(state.tensors["w"], torch.full((1 << 18,), float(state.step)))
            reached = max(reached, state.step)
        for path in tmp_path.glob("step-*"):
            path.unlink()
    assert reached > 0
