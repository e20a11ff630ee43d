"""What a run finds of an earlier one is gone on with or told to be of something else, not taken for what it is not."""

import json
import shutil
from pathlib import Path

import pytest

from smidgen.config import validate_config
from smidgen.data.pipeline import conduct
from smidgen.data.pipeline.conduct import Telling, prepare_pipeline
from smidgen.data.pipeline.definition import PipelineConfig
from smidgen.data.pipeline.engine import Engine
from smidgen.data.shards import TokenShards
from smidgen.errors import DataError, RunError
from smidgen.tokenizers.bytes import ByteTokenizer

pytest.importorskip("pyarrow")

HERE = Engine(0)
TEXTS = [f"document number {n} of those that are kept, with as many words in it as an item has" for n in range(60)]


class Killed(BaseException):
    """Stands for a process that is no more."""


def _pipeline(folder: Path, **changes) -> PipelineConfig:
    (folder / "in").mkdir(parents=True, exist_ok=True)
    if not (folder / "in" / "a.jsonl").exists():
        (folder / "in" / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    table = {
        "name": "test",
        "sources": [{"name": "in", "path": str(folder / "in")}],
        "steps": [],
        "output": {"tokenizer": {"type": "bytes"}, "seq_len": 64},
    }
    return validate_config(table | changes, PipelineConfig, "test")


def _files(out: Path) -> dict[str, bytes]:
    found = (path for path in out.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


@pytest.mark.parametrize("at", ["touch", "rename", "rmtree"])
@pytest.mark.parametrize("before", [True, False])
def test_a_run_killed_while_it_puts_the_result_together_goes_on_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, before: bool
) -> None:
    config = _pipeline(tmp_path)
    whole = prepare_pipeline(config, tmp_path / "whole", HERE)
    owner, name = (shutil, at) if at == "rmtree" else (Path, at)
    real, work = getattr(owner, name), conduct._state(config, conduct.list_sources(config))

    def killing(path, *rest, **options):
        is_last = Path(path).name in (work, f"{work}.finished") or (at == "rename" and Path(path).name == "shard")
        if is_last and before:
            raise Killed
        done = real(path, *rest, **options)
        if is_last:
            raise Killed
        return done

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, killing)
        with pytest.raises(Killed):
            prepare_pipeline(config, tmp_path / "out", HERE)
    assert prepare_pipeline(config, tmp_path / "out", HERE) == whole
    TokenShards(tmp_path / "out" / whole["data"]).verify()
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")


def test_a_finished_run_whose_shards_are_gone_is_made_again(tmp_path: Path) -> None:
    counts = prepare_pipeline(_pipeline(tmp_path), tmp_path / "out", HERE)
    shutil.rmtree(tmp_path / "out" / "data")
    assert prepare_pipeline(_pipeline(tmp_path), tmp_path / "out", HERE) == counts
    TokenShards(tmp_path / "out" / counts["data"]).verify()


def test_other_evaluation_items_or_another_tokenizer_are_another_pipeline(tmp_path: Path) -> None:
    items, saved, said = tmp_path / "items.jsonl", tmp_path / "saved", list[str]()
    items.write_text(
        json.dumps({"text": "an item that stands in none of the documents, however long one looks"}) + "\n"
    )
    saved.mkdir()
    ByteTokenizer().save(saved)
    steps = [{"type": "decontaminate", "against": [str(items)], "action": "drop"}]
    config = _pipeline(tmp_path, steps=steps, output={"tokenizer": {"type": "saved", "path": str(saved)}})
    prepare_pipeline(config, tmp_path / "out", HERE)
    prepare_pipeline(config, tmp_path / "out", HERE, Telling(said.append))
    assert "finished already" in said[0]
    for changed in (items, saved / "tokenizer.json"):
        changed.write_text(changed.read_text() + "\n")
        with pytest.raises(RunError, match="another pipeline or of other files"):
            prepare_pipeline(config, tmp_path / "out", HERE)
        prepare_pipeline(config, tmp_path / f"out-{changed.name}", HERE)
        shutil.rmtree(tmp_path / "out")
        prepare_pipeline(config, tmp_path / "out", HERE)


def test_evaluation_items_that_are_not_there_are_told_before_any_work(tmp_path: Path) -> None:
    steps = [{"type": "decontaminate", "against": [str(tmp_path / "none.jsonl")]}]
    with pytest.raises(DataError, match=r"none.jsonl: no such file or folder to decontaminate against"):
        prepare_pipeline(_pipeline(tmp_path, steps=steps), tmp_path / "out", HERE)
    assert not (tmp_path / "out").exists()
