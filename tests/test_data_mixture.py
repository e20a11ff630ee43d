"""A mixture is the one asked for, or it says where it is not."""

import json
from pathlib import Path

import pytest

from smidgen.config import validate_config
from smidgen.data.pipeline.conduct import prepare_pipeline
from smidgen.data.pipeline.definition import PipelineConfig
from smidgen.data.pipeline.engine import Engine

pytest.importorskip("pyarrow")


def _mixed(folder: Path, symbols: int | None, one: dict, other: dict, texts: str = "document") -> list[str]:
    """Return what is told of a mixture of two sources, 60 documents of about 35 symbols each."""
    sources = []
    for name, word, share in (("one", "document", one), ("other", texts, other)):
        lines = "".join(json.dumps({"text": f"{word} number {n} of source {name}"}) + "\n" for n in range(60))
        (folder / f"{name}.jsonl").write_text(lines)
        sources.append({"name": name, "path": str(folder / f"{name}.jsonl")} | share)
    output = {"tokenizer": {"type": "bytes"}, "seq_len": 64, "mix": {"symbols": symbols}}
    steps = [{"type": "garbage"}]
    table = {"name": "test", "sources": sources, "steps": steps, "output": output}
    return prepare_pipeline(validate_config(table, PipelineConfig, "test"), folder / "out", Engine(0))["notes"]


@pytest.mark.parametrize(
    ("symbols", "one", "other", "why"),
    [
        (500, {"epochs": 1}, {"epochs": 1}, "tokens or epochs of their own"),
        (500, {"epochs": 2}, {}, "tokens or epochs of their own"),
        (10**6, {"epochs": 1}, {"tokens": 500}, "tokens or epochs of their own"),
        (10**6, {}, {}, "repeated more than 4 times"),
    ],
)
def test_a_budget_that_is_not_kept_is_told(tmp_path: Path, symbols: int, one: dict, other: dict, why: str) -> None:
    (told,) = (note for note in _mixed(tmp_path, symbols, one, other) if "asked for" in note)
    assert f"{symbols:,}" in told
    assert why in told


@pytest.mark.parametrize(("symbols", "one", "other"), [(None, {}, {}), (2000, {"weight": 3}, {"weight": 1})])
def test_a_budget_that_is_kept_is_not_spoken_of(tmp_path: Path, symbols: int | None, one: dict, other: dict) -> None:
    assert not [note for note in _mixed(tmp_path, symbols, one, other) if "asked for" in note or "Nothing" in note]


def test_a_source_of_which_nothing_is_left_is_named(tmp_path: Path) -> None:
    assert "Nothing is left to train on of source other." in _mixed(tmp_path, None, {}, {}, "%&$ §%& $§% " * 40)
