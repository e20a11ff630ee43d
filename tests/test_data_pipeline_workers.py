"""Workers that stay for a whole run do what pieces come up, one or many, and a run says what it cannot hold."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from smidgen.data.pipeline import memory
from smidgen.data.pipeline.definition import PipelineConfig
from smidgen.data.pipeline.engine import Engine, crew, start
from smidgen.data.pipeline.items import Split
from smidgen.data.pipeline.parts import StoredTable, write_columns
from smidgen.data.pipeline.work import Piece
from smidgen.errors import ConfigError, DataError


@pytest.fixture
def tables(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.npz" for number in range(3)]
    for path in paths:
        write_columns(path, {"key": np.zeros(1000, np.uint64)})
    return paths


def test_stages_of_one_piece_and_of_many_are_done_by_workers_that_start_once(tmp_path: Path) -> None:
    pytest.importorskip("daft")
    engine = Engine(2)
    start(engine)
    pipeline = PipelineConfig.model_validate({"sources": [{"name": "s", "path": "x"}]}).model_dump_json()
    with crew(pipeline, tmp_path, engine) as workers:
        for pieces in (1, 5, 1):
            told = list(workers.work([Piece("encode", f"{number}", part="no.parquet") for number in range(pieces)]))
            assert len(told) == pieces
            assert all("no.parquet" in refusal for refusal in told)


def test_tables_that_memory_does_not_hold_are_refused_by_the_name_of_their_step(
    tables: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PipelineConfig.model_validate({"sources": [{"name": "s", "path": "x"}], "steps": [{"type": "near"}]})
    rows = sum(StoredTable(path).rows for path in tables)
    assert rows == 3000
    memory.check_decision(config, 0, rows, Engine(2))
    monkeypatch.setattr(memory, "free_bytes", lambda: 1 << 20)
    with pytest.raises(ConfigError, match=r"step 'near' takes .* may be used"):
        memory.check_decision(config, 0, rows, Engine(2))


def test_a_worker_that_is_killed_is_one_clear_line(tmp_path: Path) -> None:
    pytest.importorskip("daft")
    children = list(Path("/proc/self/task").glob("*/children"))
    if not children:
        pytest.skip("this system does not tell who started whom")
    os.mkfifo(tmp_path / "waits.jsonl")  # whoever reads it waits for somebody who writes
    engine, writers = Engine(1), list[int]()
    start(engine)
    pipeline = PipelineConfig.model_validate({"sources": [{"name": "s", "path": "x"}]}).model_dump_json()

    def kill() -> None:
        while not writers:
            with contextlib.suppress(OSError):
                writers.append(os.open(tmp_path / "waits.jsonl", os.O_WRONLY | os.O_NONBLOCK))
            time.sleep(0.02)
        for process in {
            int(p) for task in Path("/proc/self/task").glob("*/children") for p in task.read_text().split()
        }:
            if b"udf_worker" in Path(f"/proc/{process}/cmdline").read_bytes():
                os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with (
        pytest.raises(DataError, match=r"a worker was killed, .* same command goes on"),
        crew(pipeline, tmp_path, engine) as workers,
    ):
        list(workers.work([Piece("read", "waits", split=Split("s", "", str(tmp_path / "waits.jsonl"), "waits.jsonl"))]))
    killer.join()
    os.close(writers[0])
