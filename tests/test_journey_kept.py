"""What an evaluation leaves behind: answers by line, records of two processes, whose answers they are."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Smidgen
from evaluated import answers, evaluate, make_model
from smidgen.checkpoint import load_model
from smidgen.checkpoint.adapters import save_adapter
from smidgen.errors import RunError
from smidgen.evaluation.asking import Answer, Prompt
from smidgen.inference import SamplingParams
from smidgen.journey.kept import open_texts
from smidgen.reports.entrants import find_entrants
from smidgen.reports.standing import EvalFiles, read_evals
from smidgen.surgery import attach, read_adapter
from suite_files import make_suite_files
from task_files import make_task_files
from test_cli_eval import evals, refused
from test_cli_eval import make_model as save_tiny_model

PROMPTS = [Prompt(f"q/{n}", (1, 2, n), SamplingParams(max_symbols=4)) for n in range(3)]


def test_a_damaged_answer_is_asked_again_and_counted_once(tmp_path: Path):
    kept = open_texts(tmp_path, "model", "mine.jsonl", {})
    for number, prompt in enumerate(PROMPTS):
        kept.keep_answer(prompt, Answer(f"said {number}\u2028", ended=number > 0))
    path = kept.lines.path
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first.replace(b'"asked": true', b'"asked": "yes"') + second + third[:-9])
    again = open_texts(tmp_path, "model", "mine.jsonl", {})
    assert again.dropped == 2
    assert [again.find_answer(prompt) for prompt in PROMPTS] == [None, Answer("said 1\u2028"), None]
    assert open_texts(tmp_path, "model", "mine.jsonl", {}).dropped == 0
    assert open_texts(tmp_path, "model", "mine.jsonl", {"context": 8}).find_answer(PROMPTS[1]) is None


@pytest.mark.parametrize("fields", [{"text": 1}, {"text": "a", "shortened": -1}, {"text": "a", "more": 1}, {}, 7])
def test_what_is_no_answer_is_damaged(tmp_path: Path, fields: Any):
    kept = open_texts(tmp_path, "model", "task", {})
    kept.lines.path.write_text(json.dumps({"key": fields}) + "\n")
    assert open_texts(tmp_path, "model", "task", {}).dropped == 1


def _evaluate_often(model: Path, who: int) -> None:
    for number in range(6):
        evaluate(model, {f"task {who} {number}": answers(0.4, 30, seed=who)}, fingerprint="same")


def test_processes_that_end_at_once_lose_no_record(tmp_path: Path):
    model = make_model(tmp_path / "m")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_evaluate_often, args=(model, who)) for who in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    names = [task["name"] for record in read_evals(EvalFiles.beside(model)) for task in record["tasks"]]
    assert sorted(names) == sorted(f"task {who} {number}" for who in range(3) for number in range(6))
    assert len(list((model / "evals").iterdir())) == 18
    assert {path.name for path in model.iterdir()} == {
        "README.md", "config.json", "evals", "evals.json", "model.safetensors",
    }  # fmt: skip


def test_a_folder_of_items_that_cannot_be_made_is_one_line(tmp_path: Path):
    model = make_model(tmp_path / "m")
    (model / "evals").write_text("in the way")
    with pytest.raises(RunError, match="cannot be kept there"):
        evaluate(model, {"arc_easy": answers(0.3)})


def test_a_card_that_is_no_utf8_stays_what_it_is(tmp_path: Path):
    model = make_model(tmp_path / "m")
    (model / "README.md").write_bytes(b"# caf\xe9\n")
    evaluate(model, {"arc_easy": answers(0.3)})
    assert (model / "README.md").read_bytes().startswith(b"# caf\xe9\n")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model")


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    return make_suite_files(make_task_files(tmp_path / "sets"))


def save_lora(folder: Path, model: Path, spec: str = "lora:r=2") -> Path:
    loaded = load_model(model, dtype=torch.float32)
    adapter = attach(loaded.model, read_adapter(spec))
    adapter.load_state({name: torch.full_like(tensor, 0.25) for name, tensor in adapter.state().items()})
    save_adapter(folder, adapter)
    return folder


def turn_by(model: Path, rope_theta: float) -> None:
    """Change a model's config and leave its weights."""
    config = json.loads((model / "config.json").read_text())
    del config["smidgen"]  # which would notice
    (model / "config.json").write_text(json.dumps(config | {"rope_theta": rope_theta}))
    (model / "SHA256SUMS").unlink()


def test_answers_of_another_config_or_adapter_are_not_taken(smidgen: Smidgen, model: Path, sets: Path, tmp_path: Path):
    """Equal weights under another rope_theta, or an adapter of equal tensors and another alpha, are another model."""
    asked = ("eval", model, "--suite", "--task", "copa", "--data", sets)
    kept = tmp_path / "cache/answers"

    def names() -> int:
        return len(list(kept.iterdir()))

    assert smidgen(*asked).code == 0
    assert (smidgen(*asked).code, names()) == (0, 1)
    turn_by(model, 5e5)
    told = smidgen(*asked)
    assert (told.code, names()) == (0, 2), told
    for number, spec in enumerate(("lora:r=2", "lora:r=2,alpha=64")):
        adapter = save_lora(tmp_path / f"adapter{number}", model, spec)
        assert smidgen(*asked, "--adapter", adapter).code == 0
        assert names() == 3 + number
    fingerprints = [evals(tmp_path / f"adapter{number}")[0]["model"] for number in range(2)]
    assert fingerprints[0] != fingerprints[1]


def test_an_adapter_s_evaluations_are_compared_and_stand_in_the_leaderboard(
    smidgen: Smidgen, model: Path, sets: Path, tmp_path: Path
):
    """The adapter is named by its directory, or by the run that made it."""
    run = tmp_path / "runs/sums"
    adapter = save_lora(run / "adapter", model)
    (run / "recipe.toml").write_text("")
    asked = ("eval", model, "--suite", "--task", "copa", "--data", sets)
    assert smidgen(*asked).code == 0
    refused(smidgen("compare", model, adapter), f"smidgen eval BASE --adapter {adapter}")
    assert smidgen(*asked, "--adapter", adapter).code == 0
    for named in (adapter, run):
        told = smidgen("compare", model, named)
        assert told.code == 0, told
        assert "copa" in told.out
    refused(smidgen("eval", adapter, "--suite", "--data", sets), "is an adapter, not a model. Name its base, and")
    [one] = find_entrants(tmp_path / "runs").entrants
    assert one.name == "sums"
    assert one.parameters == evals(adapter)[0]["parameters"]
    assert one.file_bytes == evals(adapter)[0]["file_bytes"] > evals(model)[0]["file_bytes"]
    save_lora(tmp_path / "loose/lora", model)
    assert smidgen(*asked, "--adapter", tmp_path / "loose/lora").code == 0
    assert [found.name for found in find_entrants(tmp_path / "loose").entrants] == ["lora"]
    assert smidgen("leaderboard", tmp_path / "loose").code == 0
