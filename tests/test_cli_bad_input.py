"""Whatever is wrong with what a person gives: one clear line, exit code 2, and nothing left half-written."""

import errno
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import zstandard
from safetensors.torch import load_file, save_file

from conftest import REPOSITORY, Outcome, Smidgen
from smidgen.planning.machine import MachineFacts, StepCosts

SMOKE = REPOSITORY / "recipes/smoke.toml"
WORDS = "The small fox went over the hill to look for the moon in the water of the lake. "


def make_stories(path: Path, count: int = 80) -> Path:
    lines = [json.dumps({"text": f"Story {n}. " + WORDS * (1 + n % 5)}) for n in range(count)]
    path.write_text("\n".join(lines) + "\n")
    return path


def on_text(smidgen: Smidgen, path: Path, *more: str) -> Outcome:
    return smidgen("train", SMOKE, "data.type=text", f'data.path="{path}"', *more)


def refused(result: Outcome, message: str) -> None:
    assert result.code == 2, result
    assert message in result.err, result.err
    assert "Traceback" not in result.err
    assert len(result.err.strip().splitlines()) <= 2, result.err


def left_behind(folder: Path) -> list[Path]:
    return [path for path in (folder / "runs").rglob("*") if path.is_file()] if (folder / "runs").exists() else []


def empty_folder(folder: Path) -> None:
    folder.mkdir()


def binary_file(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.txt").write_bytes(bytes(range(256)) * 40)


def truncated_zst(folder: Path) -> None:
    folder.mkdir()
    whole = zstandard.compress(make_stories(folder / "a.jsonl", 2000).read_bytes())
    (folder / "a.jsonl").unlink()
    (folder / "a.jsonl.zst").write_bytes(whole[: len(whole) // 2])


def no_text_field(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"body": "x", "title": "y"}\n' * 100)


def too_little(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.txt").write_text("Hi.")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (empty_folder, "no readable file in it"),
        (binary_file, "is a binary file"),
        (truncated_zst, "a.jsonl.zst"),
        (no_text_field, "no field 'text'"),
        (too_little, "too little text"),
        (lambda folder: None, "no such file or folder"),
    ],
    ids=["empty folder", "binary file", "truncated zst", "no text field", "too little", "missing"],
)
def test_text_that_cannot_be_used(smidgen: Smidgen, tmp_path: Path, make: Callable[[Path], None], message: str):
    make(tmp_path / "texts")
    refused(on_text(smidgen, tmp_path / "texts"), message)
    assert not (tmp_path / "runs").exists()


def test_a_run_directory_that_cannot_be_written(smidgen: Smidgen, tmp_path: Path):
    (tmp_path / "file").write_text("")
    refused(smidgen("train", SMOKE, "--out", tmp_path / "file" / "runs"), "cannot be written")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize("writes_before", [0, 1, 3, 6])
def test_a_disk_that_fills_up(smidgen: Smidgen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes_before: int):
    """Every file is flushed before it gets its name, so failing the n-th flush fails the n-th file."""
    real, done = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal done
        done += 1
        if done > writes_before:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    result = smidgen("train", SMOKE)
    refused(result, "")
    assert "disk is full" in result.err or "space" in result.err
    assert not [path for path in left_behind(tmp_path) if "part" in path.name or "tmp" in path.name]
    monkeypatch.setattr(os, "fsync", real)
    assert smidgen("train", SMOKE).code == 0


def test_a_budget_that_is_too_small(smidgen: Smidgen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    costs = StepCosts(per_flop=8e-13, per_attention_flop=2e-12, per_value=5e-11, per_block=5e-4)
    facts = MachineFacts("test", "cpu", "fp32", 2, 8 << 30, 2.6e12, 2.4e10, costs)
    monkeypatch.setattr("smidgen.journey.begin.measure_machine", lambda runtime: facts)
    texts = make_stories(tmp_path / "stories.jsonl")
    refused(smidgen("train", texts, "--size", "100M", "--time", "5s"), "Try --time")
    refused(smidgen("train", texts, "--size", "1KB", "--time", "5m"), "Try --size")
    assert not (tmp_path / "runs").exists()


def test_a_key_that_is_not_known(smidgen: Smidgen, tmp_path: Path):
    (tmp_path / "mine.toml").write_text(f'extends = "{SMOKE}"\n[train]\nlearning_rat = 3\n')
    refused(smidgen("train", tmp_path / "mine.toml"), "train.learning_rat: unknown key")
    refused(smidgen("train", SMOKE, "train.seq_length=3"), "did you mean 'seq_len'?")
    refused(smidgen("train", SMOKE, "train.seq_len=63"), "must be a multiple")
    assert not (tmp_path / "runs").exists()


def test_a_run_that_was_started_otherwise(smidgen: Smidgen, tmp_path: Path):
    assert smidgen("train", SMOKE).code == 0
    (tmp_path / "runs/smoke/metrics.json").unlink()
    refused(smidgen("train", SMOKE, "train.seq_len=32"), "train.seq_len (64, now 32)")
    refused(smidgen("train", tmp_path / "runs/smoke", "--seed", "7"), "seed")


@pytest.mark.parametrize("dial", [("--time", "1m"), ("--steps", "9")])
@pytest.mark.parametrize("override", ["train.budget.type=steps", "train.budget.seconds=5", "train.budget={}"])
def test_two_budgets(smidgen: Smidgen, tmp_path: Path, dial: tuple[str, str], override: str):
    refused(smidgen("train", SMOKE, *dial, override), f"{' '.join(dial)} and {override} are two budgets")
    refused(smidgen("train", *dial, override), "two budgets")
    assert not (tmp_path / "runs").exists()


def test_a_shape_where_none_can_be_chosen(smidgen: Smidgen, tmp_path: Path):
    texts = make_stories(tmp_path / "stories.jsonl")
    refused(smidgen("train", SMOKE, "--style", "llama"), "--style llama cannot change a recipe")
    refused(smidgen("train", "tinyllama-1.1b", texts), f"train {texts} --size tinyllama-1.1b")
    refused(smidgen("train", "tinyllama-1.1b"), "is a shape, not a model")
    refused(smidgen("train", texts, "--size", "tinylama-1.1b"), "Did you mean tinyllama-1.1b?")
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def unfinished(smidgen: Smidgen, tmp_path: Path) -> Path:
    """A run whose process died after its last checkpoint."""
    assert smidgen("train", SMOKE, "train.checkpoint_steps=1", "train.budget.steps=3").code == 0
    run = tmp_path / "runs/smoke"
    (run / "metrics.json").unlink()
    shutil.rmtree(run / "model")
    return run


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("how", ["truncated", "corrupt"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_used(smidgen: Smidgen, unfinished: Path, how: str):
    newest = max(unfinished.glob("checkpoints/step-*"))
    whole = {name: tensor.clone() for name, tensor in load_file(newest).items()}  # the file is about to change
    damage(newest, how)
    result = smidgen("train", unfinished)
    assert result.code == 0
    assert newest.name in result.out
    assert "resumed at step 2" in result.out
    again = load_file(newest)
    assert again.keys() == whole.keys()
    assert not [name for name in whole if not torch.equal(again[name], whole[name])]


def test_prepared_text_that_was_damaged_is_refused_and_made_again(smidgen: Smidgen, unfinished: Path):
    [symbols] = unfinished.glob("data/*/train-00000.symbols")
    damage(symbols, "corrupt")
    refused(smidgen("train", unfinished), f"Delete {symbols.parent} to make it again")
    shutil.rmtree(symbols.parent)
    assert smidgen("train", unfinished).code == 0


def test_checkpoints_that_are_all_damaged(smidgen: Smidgen, unfinished: Path):
    for path in unfinished.glob("checkpoints/step-*"):
        damage(path, "truncated")
    refused(smidgen("train", unfinished), "No older state is intact")


def test_a_model_that_is_no_model(smidgen: Smidgen, unfinished: Path, tmp_path: Path):
    assert smidgen("train", unfinished).code == 0
    model = unfinished / "model"
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / "SHA256SUMS").unlink()
    save_file({"model.embed_tokens.weight": torch.zeros(3, 3)}, broken / "model.safetensors")
    refused(smidgen("generate", broken), "model.safetensors")
    damage(model / "model.safetensors", "corrupt")
    refused(smidgen("chat", unfinished), "checksum")


def test_a_pickle_is_never_opened(smidgen: Smidgen, tmp_path: Path):
    class Bomb:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    pickled = tmp_path / "model.pt"
    pickled.write_bytes(pickle.dumps(Bomb()))
    disguised = tmp_path / "disguised"
    disguised.mkdir()
    (disguised / "config.json").write_text("{}")
    (disguised / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "renamed.safetensors").write_bytes(pickle.dumps(Bomb()))
    for source in (pickled, disguised, tmp_path / "renamed.safetensors"):
        refused(smidgen("generate", source), str(source.name))
    refused(smidgen("train", pickled, make_stories(tmp_path / "texts.jsonl")), "pickle")
    assert not (tmp_path / "exploded").exists()
