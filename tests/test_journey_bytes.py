"""Byte models with pooling through the command line: any script, any bytes, every patcher, the same verbs."""

import json
import random
from pathlib import Path

import pytest

from conftest import REPOSITORY, Smidgen

RECIPE = REPOSITORY / "recipes/byte-smoke.toml"
WORDS = {
    "english.txt": "the little fox said to the hen that it was cold in there",
    "greek-and-japanese.txt": "η αλεπού είδε το φεγγάρι στη λίμνη 東京は夜です、 とても静かな町。",
}


def corpus(tmp_path: Path, name: str) -> Path:
    draw, path = random.Random(0), tmp_path / name
    if name == "noise.bin":
        path.write_bytes(draw.randbytes(40_000))
    else:
        paragraphs = (" ".join(draw.choices(WORDS[name].split(), k=70)) + "." for _ in range(80))
        path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", [*WORDS, "noise.bin"])
def test_any_text_trains_chats_and_is_scored(smidgen: Smidgen, tmp_path: Path, name: str):
    path = corpus(tmp_path, name)
    trained = smidgen("train", RECIPE, "data.type=text", f"data.path={path}", "--name", "run")
    assert trained.code == 0, trained.err
    run = tmp_path / "runs/run"
    final = json.loads((run / "metrics.json").read_text())
    assert 0 < final["validation"]["bits_per_byte"] < 9
    written = smidgen("generate", run, "Καλημέρα", "--max-symbols", "6")
    assert written.code == 0
    assert written.out.startswith("Καλημέρα")
    assert smidgen("chat", run, "--max-symbols", "4", said="東京?\n").code == 0
    scored = smidgen("eval", run, path)
    assert f"{path.stat().st_size:,} bytes" in scored.out
    assert "patches by space" in smidgen("inspect", run).out


SYMBOL = ("tokenizer.type=bytes_bpe", "tokenizer.tokens=300", "model.vocab_size=265", "model.patcher.type=symbol")


@pytest.mark.parametrize(
    "overrides",
    [
        ("model.patcher.type=entropy", "model.pooling.type=max"),
        ("model.patcher.type=learned", "model.pooling.type=last"),
        (*SYMBOL, "model.patcher.longest=12", "model.head=parallel"),
    ],
    ids=["entropy", "learned", "symbol-parallel"],
)
def test_every_patcher_makes_the_whole_journey(smidgen: Smidgen, tmp_path: Path, overrides: tuple[str, ...]):
    path = corpus(tmp_path, "english.txt")
    trained = smidgen("train", RECIPE, "data.type=text", f"data.path={path}", "--name", "run", *overrides)
    assert trained.code == 0, trained.err
    run = tmp_path / "runs/run"
    assert smidgen("generate", run, "the fox", "--max-symbols", "6").out.startswith("the fox")
    assert "bits per byte" in smidgen("eval", run).out
    assert smidgen("train", run).out.count("is finished") == 1


def test_a_stopped_run_goes_on_to_the_same_weights(smidgen: Smidgen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import signal

    from smidgen.journey.screen import Screen

    path = corpus(tmp_path, "english.txt")
    asked = (RECIPE, "data.type=text", f"data.path={path}", "model.patcher.type=entropy", "train.budget.steps=4")
    assert smidgen("train", *asked, "--name", "whole").code == 0

    def interrupt(screen: Screen, record: dict) -> None:
        if record["step"] == 2:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Screen, "show_progress", interrupt)
        assert smidgen("train", *asked, "--name", "parts").code == 0
    assert smidgen("train", tmp_path / "runs/parts").code == 0
    whole, parts = (tmp_path / f"runs/{name}/model/model.safetensors" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


def test_a_binary_file_is_refused_with_the_way_to_read_it(smidgen: Smidgen, tmp_path: Path):
    (tmp_path / "data.txt").write_bytes(bytes(range(256)) * 50)
    refused = smidgen("train", RECIPE, "data.type=text", f"data.path={tmp_path / 'data.txt'}")
    assert refused.code == 2
    assert "a name that ends in .bin" in refused.err
