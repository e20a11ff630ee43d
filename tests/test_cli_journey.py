"""The whole way by the command line: smoke recipes train and speak; a stopped run ends with the same weights."""

import json
import signal
from pathlib import Path

import pytest

from conftest import REPOSITORY, Smidgen
from smidgen.journey.screen import Screen
from smidgen.planning.machine import MachineFacts, StepCosts
from smidgen.runs import read_records

SMOKE = sorted((REPOSITORY / "recipes").glob("smoke*.toml"))


@pytest.mark.parametrize("recipe", SMOKE, ids=lambda path: path.stem)
def test_every_smoke_recipe_trains_two_steps_and_speaks(smidgen: Smidgen, tmp_path: Path, recipe: Path):
    assert smidgen("train", recipe).code == 0
    run = tmp_path / "runs" / recipe.stem
    final = json.loads((run / "metrics.json").read_text())
    assert final["step"] == 2
    assert final["validation"]["bits_per_byte"] > 0
    assert final["tasks"][0]["name"] == "village"
    assert "</html>" in (run / "report.html").read_text()
    assert (run / "model/README.md").read_text().startswith("---")
    kinds = {record["kind"] for record in read_records(run / "metrics.jsonl")}
    assert kinds == {"note", "train", "validation", "sample"}
    written = smidgen("generate", run, "Once", "--max-symbols", "5")
    assert written.code == 0
    assert written.out.startswith("Once")
    assert smidgen("inspect", run).code == 0
    assert "bits per byte" in smidgen("eval", run).out
    assert smidgen("report", run).code == 0
    assert "is finished" in smidgen("train", recipe).out


def test_a_run_stopped_by_a_signal_goes_on_to_the_same_weights(
    smidgen: Smidgen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe, budget = REPOSITORY / "recipes/smoke-shared.toml", "train.budget.steps=7"
    assert smidgen("train", recipe, budget, "--name", "whole").code == 0

    def interrupt(screen: Screen, record: dict) -> None:
        if record["step"] == 3:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Screen, "show_progress", interrupt)
        stopped = smidgen("train", recipe, budget, "--name", "parts")
    assert stopped.code == 0
    assert "Go on with" in stopped.out
    assert not (tmp_path / "runs/parts/metrics.json").exists()
    resumed = smidgen("train", tmp_path / "runs/parts")
    assert resumed.code == 0
    assert "resumed at step 3" in resumed.out
    whole, parts = (tmp_path / f"runs/{name}/model/model.safetensors" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    steps = [r["step"] for r in read_records(tmp_path / "runs/parts/metrics.jsonl") if r["kind"] == "train"]
    assert steps == list(range(1, 8))


def test_a_run_goes_on_without_saying_its_dials_again(
    smidgen: Smidgen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = REPOSITORY / "recipes/smoke.toml"

    def interrupt(screen: Screen, record: dict) -> None:
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Screen, "show_progress", interrupt)
        begun = smidgen("train", recipe, "--time", "30s", "--seed", "3", "train.batch_tokens=256")
        assert "Go on with the same command" in begun.out
        assert "resumed at step 1," in smidgen("train", recipe).out
        assert "resumed at step 2," in smidgen("train", recipe, "--time", "30s").out
        assert "resumed at step 3," in smidgen("train", tmp_path / "runs/smoke", "--seed", "3").out
        for other in (("--time", "40s"), ("--steps", "9"), ("train.batch_tokens=512",), ("--seed", "4")):
            for source in (recipe, tmp_path / "runs/smoke"):
                refused = smidgen("train", source, *other)
                assert refused.code == 2
                assert "Go on as it began with: smidgen train " in refused.err
    resolved = json.loads((tmp_path / "runs/smoke/resolved.json").read_text())
    assert 20 < resolved["training_seconds"] < 28


def test_a_folder_of_text_becomes_a_model_by_the_dials(
    smidgen: Smidgen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    costs = StepCosts(per_flop=8e-13, per_attention_flop=2e-12, per_value=5e-11, per_block=5e-4)
    facts = MachineFacts("test", "cpu", "fp32", 1, 8 << 30, 2.6e12, 2.4e10, costs)
    monkeypatch.setattr("smidgen.journey.begin.measure_machine", lambda runtime: facts)
    texts = tmp_path / "my texts"
    texts.mkdir()
    for number in range(90):
        (texts / f"{number}.txt").write_text(
            f"Chapter {number}. " + "The fox saw the moon in the lake. " * (9 + number)
        )
    dials = ("--size", "300k", "--steps", "2", "train.batch_tokens=512", "train.micro_rows=2", "train.precision=fp32")
    made = smidgen("train", texts, *dials)
    assert made.code == 0, made.err
    assert "Expected:" in made.out
    run = tmp_path / "runs/my-texts"
    resolved = json.loads((run / "resolved.json").read_text())
    assert resolved["plan"]["decisions"]
    assert resolved["data"]["train_documents"] + resolved["data"]["validation_documents"] == 90
    chat = smidgen("chat", run, "--max-symbols", "3", said="Hello\n/new\nHow are you?\n")
    assert chat.code == 0
    assert "plain text" in chat.err
    assert len(chat.out.splitlines()) >= 2
    longer = smidgen(
        "train", run, texts, "--name", "more", "--steps", "1", "train.batch_tokens=512", "train.seq_len=64"
    )
    assert longer.code == 0, longer.err
    more = json.loads((tmp_path / "runs/more/resolved.json").read_text())
    assert more["recipe"]["start_from"] == str(run)
    assert more["model"]["parameters"] == resolved["model"]["parameters"]


def test_what_a_plan_says_can_be_written_and_trained(smidgen: Smidgen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    costs = StepCosts(per_flop=8e-13, per_attention_flop=2e-12, per_value=5e-11, per_block=5e-4)
    facts = MachineFacts("test", "cpu", "fp32", 1, 8 << 30, 2.6e12, 2.4e10, costs)
    monkeypatch.setattr("smidgen.planning.measure.measure_machine", lambda runtime: facts)
    monkeypatch.setattr("smidgen.journey.begin.measure_machine", lambda runtime: facts)
    planned = smidgen("plan", "--size", "300k", "--time", "1m", "--recipe", "mine.toml")
    assert planned.code == 0, planned.err
    assert "model.vocab_size" in planned.out
    assert not (tmp_path / "runs").exists()
    assert "mine.toml: 308,070 parameters" in smidgen("inspect", "mine.toml").out
    plain = smidgen("plan", "--size", "300k", "--time", "1m", "--style", "llama", "--recipe", "plain.toml")
    assert plain.code == 0, plain.err
    assert "exports everywhere" in plain.out
    assert "swiglu" in smidgen("inspect", "plain.toml").out
    trained = smidgen("train", "--size", "700KB", "--style", "llama", "--steps", "1", "data.text_bytes=200000")
    assert trained.code == 0, trained.err
    config = json.loads((tmp_path / "runs/village/model/config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    written = sum(path.stat().st_size for path in (tmp_path / "runs/village/model").iterdir())
    assert 600_000 < written <= 700_000
    assert f"Within --size 700KB: runs/village/model holds {written:,} bytes" in trained.out
    changed = (
        "--name",
        "wide",
        "--size",
        "700KB",
        "--steps",
        "1",
        "data.text_bytes=200000",
        "model.stack.mlp.d_ff=1024",
    )
    assert "! OVER --size 700KB BY " in smidgen("train", *changed).out


def test_a_preset_can_be_inspected_planned_and_trained(
    smidgen: Smidgen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    costs = StepCosts(per_flop=4e-15, per_attention_flop=8e-15, per_value=1e-12, per_block=5e-4)
    facts = MachineFacts("test", "cuda", "bf16", 16, 70 << 30, 6e14, 2e12, costs, True)
    monkeypatch.setattr("smidgen.planning.measure.measure_machine", lambda runtime: facts)
    assert "tinyllama-1.1b: 1,100,048,384 parameters" in smidgen("inspect", "tinyllama-1.1b").out
    for name, parameters in (("tinyllama-1.1b", "1,100,048,384"), ("smollm2-135m", "134,515,008")):
        planned = smidgen("plan", "--size", name, "--time", "10h", "--recipe", "preset.toml")
        assert planned.code == 0, planned.err
        assert f"those of the preset {name}" in planned.out
        assert f"preset.toml: {parameters} parameters" in smidgen("inspect", "preset.toml").out
    refused = smidgen("plan", "--size", "tinyllama-1.1b", "--style", "best", "--time", "10h")
    assert refused.code == 2
    assert "Leave out --style best" in refused.err
