"""What `smidgen data prepare` wrote is data that a run takes as it is; its page tells every count and escapes texts."""

import json
from pathlib import Path

import pytest

from smidgen.cli import run as smidgen
from smidgen.config import validate_config
from smidgen.data.pipeline.conduct import prepare_pipeline
from smidgen.data.pipeline.definition import PipelineConfig
from smidgen.data.pipeline.engine import Engine
from smidgen.errors import DataError
from smidgen.journey.material import make_material, open_source
from smidgen.journey.request import Request, survey
from smidgen.journey.screen import Screen
from smidgen.recipe import recipe_from
from smidgen.reports.data_report import data_heading, flow_of, render_data_report, source_rows
from smidgen.runs import RunDirectory
from smidgen.tokenizers.bpe import BpeConfig, train_bpe

pytest.importorskip("pyarrow")

TEXTS = [f"Once <b>upon</b> a time there were {n} cats. " * (3 + n % 5) for n in range(120)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    lines = [json.dumps({"text": text}) for text in (*TEXTS, *TEXTS[:7])]
    (folder / "in.jsonl").write_text("\n".join([*lines, '{"text": "x']))
    config = {
        "sources": [{"name": "cats", "path": str(folder / "in.jsonl"), "license": "CC-BY <4.0>"}],
        "steps": [{"type": "exact"}],
        "output": {"tokenizer": {"type": "bpe", "vocab_size": 300}},
    }
    prepare_pipeline(validate_config(config, PipelineConfig, "test"), folder / "out", Engine(0))
    return folder / "out"


def _recipe(path: Path):
    model = {"type": "llama", "vocab_size": 300}
    tokenizer = {"type": "bpe", "vocab_size": 300}
    data = {"type": "prepared", "path": str(path)}
    return recipe_from({"data": data, "model": model, "tokenizer": tokenizer}, "test")


def test_a_run_takes_shards_and_tokenizer_as_they_are(prepared: Path, tmp_path: Path) -> None:
    recipe = _recipe(prepared)
    source = open_source(recipe)
    material = make_material(recipe, source, RunDirectory(tmp_path), Screen(quiet=True), None)
    assert material.shards.manifest.source == source.fingerprint == material.facts()["hash"]
    assert material.tokenizer.fingerprint() == material.shards.manifest.tokenizer
    texts = {document.text for document in source.documents}
    assert texts <= set(TEXTS)
    assert len(texts) == len(material.shards.train.lengths)
    assert RunDirectory(tmp_path).has_data


def test_a_plan_keeps_the_vocabulary_of_the_symbols(prepared: Path) -> None:
    table, facts = survey(Request((str(prepared),)))
    assert table == {"type": "prepared", "path": str(prepared.resolve())}
    assert facts.vocab_size == json.loads((prepared / "counts.json").read_text())["tokenizer"]["vocab_size"]
    assert facts.bytes_per_symbol is not None
    assert facts.bytes_per_symbol > 1


def test_a_model_of_another_tokenizer_refuses_the_symbols(prepared: Path, tmp_path: Path) -> None:
    other, _ = train_bpe(["quite another text " * 50], BpeConfig(vocab_size=280))
    recipe = _recipe(prepared)
    with pytest.raises(DataError, match="another tokenizer"):
        make_material(recipe, open_source(recipe), RunDirectory(tmp_path), Screen(quiet=True), other)
    with pytest.raises(DataError, match="no prepared text"):
        open_source(_recipe(tmp_path))


def test_the_page_tells_every_count_and_escapes_every_text(prepared: Path) -> None:
    counts = json.loads((prepared / "counts.json").read_text())
    page = render_data_report(counts)
    assert "Once &lt;b&gt;upon" in page
    assert "Once <b>" not in page
    assert "CC-BY &lt;4.0&gt;" in page
    assert data_heading(counts) in page
    assert page == render_data_report(counts)
    assert [(s.documents, s.lost_bytes > 0) for s in flow_of(counts)] == [(127, False), (120, True)]
    assert [row[3].partition(" ")[0] for row in source_rows(counts)] == ["120"]


def test_the_verb_writes_folder_and_page(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = tmp_path / "p.toml"
    pipeline.write_text(
        f'steps = []\n[[sources]]\nname = "cats"\npath = "{prepared.parent / "in.jsonl"}"\n'
        '[output]\ntokenizer.type = "bytes"\n'
    )
    smidgen(["data", "prepare", str(pipeline), "output.seq_len=32", "--out", str(tmp_path / "o"), "--workers", "0"])
    assert "1 record: not JSON" in capsys.readouterr().out.replace("\n", " ")
    assert (tmp_path / "o" / "data_report.html").is_file()
    assert json.loads((tmp_path / "o" / "pipeline.json").read_text())["output"]["seq_len"] == 32
