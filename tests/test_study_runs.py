"""A study from file to page: same bytes for all, crashes cost a cell, finished cells are kept."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smidgen.data.documents import Document
from smidgen.data.prepare import PrepareConfig, prepare
from smidgen.errors import RunError
from smidgen.journey.material import Material
from smidgen.journey.screen import Screen
from smidgen.study.cell import run_cell
from smidgen.study.conduct import write_plan
from smidgen.study.layout import StudyDirectory
from smidgen.study.plan import Plan, plan_study
from smidgen.study.results import write_results
from smidgen.study.text import hold_out, prepare_texts
from smidgen.tokenizers.bpe import BpeConfig, train_bpe
from smidgen.tokenizers.bytes import ByteTokenizer
from study_files import HEAD, PIECES, PLAIN, write

QUIET = Screen(quiet=True)


def begin(tmp_path: Path, *parts: str) -> tuple[Plan, StudyDirectory]:
    plan, directory = plan_study(write(tmp_path, *parts)), StudyDirectory(tmp_path / "runs" / "trial")
    directory.path.mkdir(parents=True, exist_ok=True)
    write_plan(plan, directory, 1)
    prepare_texts(plan.arms, directory, plan.study.validation_bytes, QUIET)
    return plan, directory


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMIDGEN_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("cache")
def test_two_tokenizers_and_two_seeds_end_in_one_table_over_the_same_bytes(tmp_path: Path):
    plan, directory = begin(tmp_path, HEAD, PLAIN, PIECES)
    for cell in plan.cells():
        assert run_cell(directory, cell.key, None, QUIET)
    records = [directory.read_record(cell.key) or {} for cell in plan.cells()]
    assert len({record["validation"]["digest"] for record in records}) == 1
    assert len({record["validation"]["bytes"] for record in records}) == 1
    assert len({record["validation"]["symbols"] for record in records}) == 2
    for record in records:
        paid = record["validation"]
        assert sum(paid["document_nats"]) == pytest.approx(paid["nll_nats"], abs=0.01)
        assert sum(paid["document_bytes"]) == paid["bytes"]
        assert record["symbols"] == 1536
        assert record["curve"][-1][0] == 1.0

    results = write_results(directory)
    assert results["cells"] == {"planned": 4, "finished": 4}
    plain, pieces = results["variants"]
    assert plain["verdict"] == "reference"
    assert pieces["verdict"] in ("better", "worse", "no difference shown")
    scores = [record["bits_per_byte"] for record in records]  # there and back: plain, pieces, pieces, plain
    assert plain["bits_per_byte"] == pytest.approx((scores[0] + scores[3]) / 2)
    assert pieces["difference"] == pytest.approx((scores[1] + scores[2] - scores[0] - scores[3]) / 2)
    assert pieces["documents"]["value"] == pytest.approx(pieces["difference"], abs=1e-4)
    assert pieces["paired"]["freedom"] == 1
    assert any("Two seeds" in note for note in results["notes"])
    page, table = directory.page.read_text(), directory.table.read_text()
    assert page.count('<svg class="chart"') == 4
    assert "http" not in page.replace("http-equiv", "")
    assert table.count("\n| ") == 4


@pytest.mark.usefixtures("cache")
def test_runs_share_one_prepared_text_and_each_is_whole(tmp_path: Path):
    plan, directory = begin(tmp_path, HEAD.replace("[0, 1]", "[0]"), PLAIN)
    (cell,) = plan.cells()
    run_cell(directory, cell.key, None, QUIET)
    shared = next(directory.text(cell.text).data.rglob("*.bin"), None) or next(
        path for path in directory.text(cell.text).data.rglob("*") if path.is_file()
    )
    own = directory.run(cell.key).data / shared.relative_to(directory.text(cell.text).data)
    assert own.stat().st_ino == shared.stat().st_ino
    assert directory.run(cell.key).report.is_file()
    assert not directory.run(cell.key).checkpoints.exists()


def test_the_dry_run_shows_every_variant_and_runs_nothing(tmp_path: Path, smidgen):
    path = write(tmp_path, HEAD.replace('type = "tokens", tokens = 1536', 'type = "time", seconds = 60'), PLAIN, PIECES)
    done = smidgen("study", path, "--dry-run")
    assert done.code == 0, done.err
    assert "pieces of words" in done.out
    assert "4 runs (2 variants, seeds 0, 1)" in done.out
    assert not (tmp_path / "runs").exists()


def test_what_is_no_study_is_refused_in_a_line(tmp_path: Path, smidgen):
    (tmp_path / "empty").mkdir()
    assert "holds no study" in smidgen("study", "empty").err
    assert "no such recipe file" in smidgen("study", "absent.toml").err
    assert "is no variant" in smidgen("study", write(tmp_path, HEAD, PLAIN), "--only", "plane").err
    with pytest.raises(RunError):
        StudyDirectory(tmp_path).read_plan()


FAILING = """
[[variants]]
name = "failing"
set = { "train.optimizer.embedding_learning_rate" = 1e30, "train.clip_norm" = 1e30 }
"""


def test_a_failed_cell_costs_itself_alone_and_is_tried_again(tmp_path: Path, smidgen_process):
    path = write(tmp_path, HEAD.replace("[0, 1]", "[0]").replace("1536", "5120"), PLAIN, FAILING)
    done = smidgen_process("study", path)
    assert done.code == 2
    assert "1 of 2 runs failed" in done.err
    directory = StudyDirectory(tmp_path / "runs" / "trial")
    plain, failing = json.loads(directory.results.read_text())["variants"]
    assert plain["bits_per_byte"] > 0
    assert failing["failed"][0]["reason"].startswith("the loss ")
    assert "failed" in directory.table.read_text()
    kept = next(p for p in (directory.path / "cells").glob("plain*"))
    moment = kept.stat().st_mtime_ns
    again = smidgen_process("study", path)
    assert "1 run to do" in again.out
    assert kept.stat().st_mtime_ns == moment
    assert write_results(directory)["cells"] == {"planned": 2, "finished": 1}


def start(path: Path, cwd: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "smidgen", "study", str(path), "train.checkpoint_steps=20"],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_until_training(directory: StudyDirectory, finished: int) -> None:
    """Wait until so many cells are finished and the next one has saved something."""
    for _ in range(600):
        saved = list(directory.runs.glob("*/checkpoints/*")) if directory.runs.is_dir() else []
        if len(directory.keys()) >= finished and saved:
            return
        time.sleep(0.2)
    raise AssertionError("the study did not come that far")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_study_leaves_nobody_at_work_and_goes_on(tmp_path: Path, number: signal.Signals):
    path = write(tmp_path, HEAD.replace("1536", str(512 * 400)), PLAIN)
    directory = StudyDirectory(tmp_path / "runs" / "trial")
    process = start(path, tmp_path)
    wait_until_training(directory, finished=1)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == (0 if number == signal.SIGINT else -9), said
    (first,) = directory.keys()
    moment = directory.record(first).stat().st_mtime_ns
    process = start(path, tmp_path)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "all finished" in said
    assert directory.record(first).stat().st_mtime_ns == moment
    (second,) = directory.keys() - {first}
    notes = [json.loads(line) for line in directory.run(second).metrics.read_text().splitlines()]
    assert any("resumed at step" in note.get("text", "") for note in notes)


@pytest.mark.parametrize("most", [300, 2_000, 10**6])
def test_held_out_text_is_the_same_bytes_for_every_tokenizer(tmp_path: Path, most: int):
    texts = [f"Nº {n}: " + "dvě kočky, 猫が二匹 " * (3 * n % 40) + "\n" for n in range(300)]
    pieces, _ = train_bpe(texts, BpeConfig(vocab_size=400))
    held = []
    for name, tokenizer in (("bytes", ByteTokenizer()), ("pieces", pieces)):
        documents = [Document(text=text) for text in texts]
        shards = prepare(documents, tokenizer, tmp_path / name, "test", PrepareConfig(validation_fraction=0.3))
        held.append(hold_out(Material(tokenizer, shards), most))
    assert held[0].digest == held[1].digest
    assert 0 < held[0].bytes == held[1].bytes <= most
    assert held[0].documents != held[1].documents
