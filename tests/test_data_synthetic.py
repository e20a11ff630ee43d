"""Made text: the same from the same file, every draft kept or counted, its provenance in whatever is made of it."""

import json
from pathlib import Path

import pytest
import torch

from model_zoo import randomized, tiny
from smidgen.checkpoint import save_model
from smidgen.config import validate_config
from smidgen.data.pipeline.conduct import prepare_pipeline
from smidgen.data.pipeline.definition import PipelineConfig
from smidgen.data.pipeline.engine import Engine
from smidgen.data.shards import TokenShards
from smidgen.data.synthetic.make import make_text
from smidgen.data.synthetic.spec import Draft, SyntheticConfig, TemplateWriter
from smidgen.errors import ConfigError, DataError, RunError
from smidgen.journey.synthesis import open_writer
from smidgen.reports.data_report import render_data_report
from smidgen.tokenizers.bytes import ByteTokenizer

pytest.importorskip("pyarrow")

SLOTS = {
    "name": ["Ada", "Ben", "Cleo", "Dan", "Eve", "Fay", "Gus", "Hal"],
    "animal": ["a fox", "an owl", "a hare", "a {colour} cat", "two geese"],
    "colour": ["grey", "black", "white"],
    "place": ["the mill", "the old {water}", "a barn", "the orchard"],
    "water": ["pond", "well", "bridge"],
}
TEXT = "{name} saw {animal} near {place}. It was {colour}, {name} said."
GENERATOR = {"type": "template", "texts": [TEXT], "slots": SLOTS}


def _config(**changes) -> SyntheticConfig:
    table = {"name": "made", "documents": 60, "near": None, "generator": GENERATOR} | changes
    if table["generator"]["type"] == "games" and "near" not in changes:
        del table["near"]
    return validate_config(table, SyntheticConfig, "test")


def _make(config: SyntheticConfig, out: Path) -> dict:
    writer, facts = open_writer(config)
    return make_text(config, writer, facts, out, lambda done, of: None)


def _rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "text.jsonl").read_text().splitlines()]


def test_every_draft_is_kept_or_counted_and_no_text_comes_twice(tmp_path: Path) -> None:
    told = _make(_config(documents=500, most_tries=3), tmp_path)
    counts, texts = told["counts"], [row["text"] for row in _rows(tmp_path)]
    assert counts["written"] == counts["kept"] + sum(counts["dropped"].values())
    assert len(set(texts)) == len(texts) == counts["kept"]
    assert counts["dropped"]["exact copy"] > 0
    assert all(text.split()[0] == text.split()[-2] for text in texts)  # a slot has one value in a document
    assert _make(_config(documents=500, most_tries=3), tmp_path / "again") == told


def test_near_copies_go_too(tmp_path: Path) -> None:
    story = "They walked along the river until the evening came and talked of many things. "
    texts = [story * 2 + end for end in ("{name} slept.", "{name} ate.")]
    generator = {"type": "template", "texts": texts, "slots": SLOTS}
    told = _make(_config(generator=generator, near={}, checks=[]), tmp_path)
    assert told["counts"]["kept"] == 1
    assert told["counts"]["dropped"]["near copy"] > 10


def test_a_run_that_breaks_off_goes_on_to_the_same_text(tmp_path: Path) -> None:
    config = _config()
    whole = _make(config, tmp_path / "whole")

    class Broken:
        calls = 0

        def write(self, numbers: range) -> list[Draft]:
            assert isinstance(config.generator, type(_config().generator))
            self.calls += 1
            if self.calls == 3:
                raise KeyboardInterrupt
            return TemplateWriter(config, config.generator).write(numbers)  # pyright: ignore[reportArgumentType]

    with pytest.raises(KeyboardInterrupt):
        make_text(config, Broken(), {}, tmp_path / "out", lambda done, of: None)
    with (tmp_path / "out" / "drafts.work").open("ab") as file:
        file.write(b'{"text": "half a li')
    assert _make(config, tmp_path / "out") == whole
    assert _rows(tmp_path / "out") == _rows(tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "provenance.json", "text.jsonl"]
    with pytest.raises(RunError, match="made otherwise"):
        _make(_config(seed=1), tmp_path / "out")


def test_the_village_is_a_generator_and_a_pipeline_tells_how_its_source_was_made(tmp_path: Path) -> None:
    told = _make(_config(generator={"type": "village"}, checks=[]), tmp_path / "made")
    source = {"name": "village", "path": str(tmp_path / "made"), "license": "CC0-1.0"}
    output = {"tokenizer": {"type": "bytes"}}
    config = validate_config({"sources": [source], "steps": [], "output": output}, PipelineConfig, "test")
    counts = prepare_pipeline(config, tmp_path / "out", Engine(0))
    assert counts["cleaned"]["sources"]["village"][0] == told["counts"]["kept"] == 60
    manifest = TokenShards(next((tmp_path / "out").glob("data/*"))).manifest
    assert manifest.sources[0].made_by == told
    page = render_data_report(counts)
    assert "is text that was made" in page
    assert "generator, type: village" in page
    assert f"counts, kept: {told['counts']['kept']}" in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"generator": {"type": "template", "texts": ["{who}"]}}, "slot {who} has no values"),
        (
            {"generator": {"type": "template", "texts": ["{a}"], "slots": {"a": ["{b}"], "b": ["{a}"]}}},
            "part of itself",
        ),
        ({"generator": {"type": "oracle"}}, "generator"),
        ({"documents": 0}, "documents"),
        ({"generator": {"type": "games"}, "checks": []}, "'checks' is for text"),
    ],
)
def test_a_spec_that_cannot_be_meant_is_refused(changes: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _config(**changes)


def test_games_are_written_turn_by_turn_and_no_turn_comes_twice(tmp_path: Path) -> None:
    pytest.importorskip("textarena")
    config = _config(generator={"type": "games", "game": "nim:piles=3"}, documents=100, most_tries=1.5)
    with pytest.raises(ConfigError, match="'near' is for text"):
        _config(generator={"type": "games"}, near={})
    told = _make(config, tmp_path / "out")
    rows = [tuple(message["content"] for message in row["messages"]) for row in _rows(tmp_path / "out")]
    # Of three objects player 0 takes 1, 2 or 3, player 1 of two 1 or 2, or of one 1; then player 0 the last.
    assert len(set(rows)) == len(rows) == told["counts"]["kept"] == 7
    assert 150 <= told["counts"]["written"] == 7 + told["counts"]["dropped"]["exact copy"] < 153
    writer, facts = open_writer(config)
    assert facts["textarena"]
    assert writer.write(range(3, 5)) == writer.write(range(5))[3:]
    with pytest.raises(ConfigError, match="'god' is no player"):
        open_writer(_config(generator={"type": "games", "players": ["god"]}))


def test_checks_of_the_whole_corpus_and_text_that_never_passes_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs the whole corpus"):
        _make(_config(checks=[{"type": "exact"}]), tmp_path)
    with pytest.raises(DataError, match="none of 240 documents passed"):
        _make(_config(checks=[{"type": "gopher"}]), tmp_path / "none")


def test_a_teacher_writes_a_document_the_same_whatever_it_wrote_before(tmp_path: Path) -> None:
    save_model(
        tmp_path,
        randomized(tiny().model_copy(update={"vocab_size": ByteTokenizer().vocab_size})),
        ByteTokenizer(),
        torch.float32,
    )
    prompts = {"texts": ["Once {name}"], "slots": SLOTS}
    teacher = {"type": "teacher", "model": str(tmp_path), "ask": False, "prompts": prompts, "max_symbols": 6}
    writer, facts = open_writer(_config(generator=teacher), "cpu")
    together = writer.write(range(6))
    assert together == [*writer.write(range(2)), *writer.write(range(2, 6))]
    assert len(facts["model"]) == 16
    assert all(draft.text.startswith(draft.prompt) and draft.prompt.startswith("Once ") for draft in together)
    assert not any(draft.finished for draft in together if len(draft.text) > len(draft.prompt) + 6)
    asked, _ = open_writer(_config(generator=teacher | {"ask": True}), "cpu")
    assert [draft.prompt for draft in asked.write(range(3))] == [draft.prompt for draft in together[:3]]
