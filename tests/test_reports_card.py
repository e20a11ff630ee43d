"""The model card: front matter that parses, facts of the run, and nothing invented."""

import json
from pathlib import Path

import pytest
import yaml

from smidgen.errors import RunError
from smidgen.reports.card import write_card
from synthetic_run import write_synthetic_run


def split(card: str) -> tuple[dict, str]:
    _, front, body = card.split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_front_matter_is_what_hubs_read(tmp_path: Path) -> None:
    front, _ = split(write_card(write_synthetic_run(tmp_path / "run")))
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "text-generation"
    assert front["model-index"][0]["results"][0]["metrics"][0]["value"] == pytest.approx(1.4021)


def test_the_card_tells_size_score_protocol_use_limits_and_samples(tmp_path: Path) -> None:
    _, body = split(write_card(write_synthetic_run(tmp_path / "run")))
    told = ["10,174,080", "**1.402**", "± 0.011", "context 512, stride 256", "| village | 500 | 74.8% |", "21.4%"]
    told += ["smidgen chat my_texts", "AutoModelForCausalLM", "## Limits", "Repeats itself: 34%", "an old miller"]
    assert [words for words in told if words not in body] == []


def test_what_was_not_measured_is_not_mentioned(tmp_path: Path) -> None:
    path = tmp_path / "bare"
    path.mkdir()
    (path / "recipe.toml").write_text('name = "bare"\n')
    front, body = split(write_card(path))
    assert "model-index" not in front
    assert "# bare" in body
    assert "not finished" in body
    for absent in ("Scores", "Samples", "Sizes", "## Data", "None", "nan"):
        assert absent not in body


def test_names_and_samples_cannot_break_out(tmp_path: Path) -> None:
    path = write_synthetic_run(tmp_path / "run")
    resolved = json.loads((path / "resolved.json").read_text())
    resolved["name"] = 'odd: "name" # $(rm -rf ~)'
    resolved["data"]["a|b"] = "c|d\ne"
    (path / "resolved.json").write_text(json.dumps(resolved))
    (path / "samples.jsonl").write_text(json.dumps({"step": 9999, "prompt": "", "text": "a ```` b\n```\nc"}) + "\n")
    front, body = split(write_card(path))
    assert front["model-index"][0]["name"] == resolved["name"]
    assert "smidgen chat odd-name-rm--rf-" in body
    assert "| a\\|b | c\\|d e |" in body
    assert "`````text\na ```` b" in body


def test_no_run_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        write_card(tmp_path)
