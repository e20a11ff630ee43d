"""The training text of a run or a folder, read again for the items of an evaluation."""

import json
from pathlib import Path

import pytest

from conftest import REPOSITORY, Smidgen
from smidgen.errors import DataError, RunError
from smidgen.evaluation.contamination import ItemText
from smidgen.journey.exposure import find_exposure, training_texts

QUESTION = "Which is a response of the autonomic nervous system that helps maintain equilibrium in the body?"


def test_a_folder_is_read_with_its_conversations(tmp_path: Path):
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "Shivering."}]
    lines = [{"text": "A text of no consequence."}, {"messages": turns}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    said: list[str] = []
    items = {"arc": [ItemText("arc/1", f"{QUESTION} shivering"), ItemText("arc/2", "too short")]}
    found = find_exposure(tmp_path, items, said.append)
    assert (set(found["arc"].touched), found["arc"].touched["arc/1"].covered) == ({"arc/1"}, 1.0)
    assert "2 items in 2 texts" in said[0]
    assert "arc 1 of 2" in said[0]
    assert "1 item has too few words" in said[1]


def test_a_run_is_read_as_it_was_prepared(smidgen: Smidgen, tmp_path: Path):
    story = f"One day the teacher asked: {QUESTION} Nobody knew. "
    lines = [
        json.dumps({"text": f"Story {n}. {story if n % 2 else ''}" + "The fox went home. " * 30}) for n in range(80)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines) + "\n")
    result = smidgen(
        "train", REPOSITORY / "recipes/smoke.toml", "data.type=text", f'data.path="{tmp_path / "t.jsonl"}"'
    )
    assert result.code == 0, result.err
    run = tmp_path / "runs/smoke"
    found = find_exposure(run, {"arc": [ItemText("arc/1", QUESTION)], "other": [ItemText("o", "w " * 20)]}, print)
    assert 20 <= found["arc"].touched["arc/1"].texts <= 40
    assert not found["other"].touched


def test_text_that_is_gone_is_one_clear_line(tmp_path: Path):
    (tmp_path / "recipe.toml").write_text('name = "x"\n')
    with pytest.raises(RunError, match="its prepared text is gone"):
        list(training_texts(tmp_path))
    with pytest.raises(DataError, match="no such file or folder"):
        list(training_texts(tmp_path / "nowhere"))
