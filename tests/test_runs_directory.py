"""No crash leaves half a file, no two processes write one run, and every refusal is one clear line."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.config import validate_config
from smidgen.data.synthetic.make import make_text
from smidgen.data.synthetic.spec import SyntheticConfig
from smidgen.errors import RunError
from smidgen.journey.synthesis import open_writer
from smidgen.runs import MetricsLog, RunDirectory, atomic_write, describe_commit, describe_versions, read_records

HOLD = """
import sys, time
from smidgen.runs import RunDirectory
with RunDirectory(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def hold(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "metrics.json"
    atomic_write(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="the disk is full"):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_process_is_refused_and_told_who_holds_the_run(tmp_path: Path):
    holder = hold(tmp_path / "run")
    try:
        with (
            pytest.raises(RunError, match=f"is being written by process {holder.pid}"),
            RunDirectory(tmp_path / "run").lock(),
        ):
            pass
    finally:
        holder.kill()
        holder.wait()


def test_text_is_not_made_where_another_process_makes_it(tmp_path: Path):
    generator = {"type": "template", "texts": ["{name} came."], "slots": {"name": ["Ada", "Ben"]}}
    config = validate_config(
        {"name": "made", "documents": 2, "near": None, "generator": generator}, SyntheticConfig, ""
    )
    writer, facts = open_writer(config)
    holder = hold(tmp_path / "made")
    try:
        with pytest.raises(RunError, match="is being written by process"):
            make_text(config, writer, facts, tmp_path / "made", lambda done, of: None)
    finally:
        holder.kill()
        holder.wait()
    assert make_text(config, writer, facts, tmp_path / "made", lambda done, of: None)["counts"]["kept"] == 2


def test_a_killed_process_leaves_no_lock(tmp_path: Path):
    holder = hold(tmp_path / "run")
    (tmp_path / "run" / ".report.html.1.part").write_text("half")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with RunDirectory(tmp_path / "run").lock():
        assert not list((tmp_path / "run").glob("*.part"))


def test_a_place_that_cannot_be_written_is_refused_and_nothing_is_left(tmp_path: Path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(RunError, match=r"cannot be written .*--out"):
        RunDirectory(blocker / "runs" / "a").create()
    assert list(tmp_path.iterdir()) == [blocker]


@pytest.mark.parametrize("before", ["", "runs", "runs/a"])
def test_an_attempt_that_never_began_removes_the_folders_it_made_and_no_other(tmp_path: Path, before: str):
    (tmp_path / before).mkdir(parents=True, exist_ok=True)
    run = RunDirectory(tmp_path / "runs" / "a")
    with run.lock():
        run.write_resolved({})
        run.discard()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        str(folder) for folder in reversed([Path(before), *Path(before).parents]) if str(folder) != "."
    ]


def test_a_log_survives_a_crash_at_any_byte(tmp_path: Path):
    whole = "".join(json.dumps({"step": step, "text": "é"}, ensure_ascii=False) + "\n" for step in range(3)).encode()
    path = tmp_path / "metrics.jsonl"
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        log = MetricsLog(path)
        log.append({"step": 99})
        complete = whole[:cut].count(b"\n")
        assert [record["step"] for record in read_records(path)] == [*range(complete), 99]


def test_resuming_forgets_the_steps_that_will_happen_again(tmp_path: Path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(5):
        log.append({"kind": "train", "step": step})
    log.append({"kind": "note"})
    MetricsLog(tmp_path / "metrics.jsonl", resumed_step=2)
    assert [record.get("step") for record in read_records(tmp_path / "metrics.jsonl")] == [0, 1, 2, None]


def test_damage_inside_a_log_is_named(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(RunError, match="line 2"):
        read_records(tmp_path / "metrics.jsonl")


@given(st.dictionaries(st.text(), st.floats() | st.lists(st.floats()) | st.text() | st.none()))
def test_every_line_of_a_log_is_json_of_finite_numbers(tmp_path_factory: pytest.TempPathFactory, record: dict):
    path = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    MetricsLog(path).append(record)
    text = path.read_bytes().decode()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_a_run_is_finished_when_its_final_figures_stand(tmp_path: Path):
    run = RunDirectory(tmp_path)
    assert not run.is_finished
    with pytest.raises(RunError, match="not finished"):
        run.read_final_metrics()
    run.write_final_metrics({"bits_per_byte": 1.5, "odd": float("nan")})
    assert run.read_final_metrics() == {"bits_per_byte": 1.5, "odd": None}


def test_what_was_run_is_told(tmp_path: Path):
    run = RunDirectory(tmp_path)
    run.write_resolved({"seed": 1})
    resolved = run.read_resolved()
    assert resolved["seed"] == 1
    assert resolved["versions"] == describe_versions()
    assert resolved["git_commit"] == describe_commit()
    assert "torch" in resolved["versions"]
