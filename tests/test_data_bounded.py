"""A pipeline holds a worker's parts and some bytes a document, however much text there is."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from smidgen.config import validate_config
from smidgen.data.pipeline.definition import PipelineConfig
from smidgen.data.pipeline.order import ORDER_BYTES
from smidgen.data.pipeline.steps import held_by

pytest.importorskip("pyarrow")

STEPS = [{"type": "boilerplate"}, {"type": "exact"}, {"type": "exact", "unit": "line"}, {"type": "near"}]
SIZES = (20_000_000, 80_000_000)
_RUN = """
import sys, threading, time
from pathlib import Path
from smidgen.data.pipeline.conduct import prepare_pipeline
from smidgen.data.pipeline.definition import PipelineConfig
from smidgen.data.pipeline.engine import Engine

def own():
    # Pages of mapped files are the kernel's to take back; what cannot be taken back is what is held.
    told = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in told if line.startswith("RssAnon"))

def watch():
    while True:
        peak[0] = max(peak[0], own())
        time.sleep(0.005)

peak = [0]
threading.Thread(target=watch, daemon=True).start()
prepare_pipeline(PipelineConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Engine(0))
print(peak[0])
"""


def _write(folder: Path, size: int) -> int:
    """Write about so much text as lines of JSON, never holding more than a document of it; return the documents."""
    draw, held, documents = np.random.default_rng(0), 0, 0
    words = np.array(["".join(row) for row in draw.choice(list("abcdefghijklmnop"), (20_000, 6))])
    folder.mkdir(parents=True)
    with (folder / "text.jsonl").open("w") as file:
        while held < size:
            text = "\n".join(" ".join(draw.choice(words, 14)) for _ in range(8))
            file.write(json.dumps({"text": text}) + "\n")
            held += len(text)
            documents += 1
    return documents


@pytest.mark.slow
def test_memory_grows_by_the_stated_bytes_of_a_document_and_by_no_text(tmp_path: Path) -> None:
    peaks, documents, said = list[int](), list[int](), list[int]()
    for size in SIZES:
        documents.append(_write(tmp_path / str(size) / "in", size))
        table = {
            "sources": [{"name": "s", "path": str(tmp_path / str(size) / "in")}],
            "steps": STEPS,
            "output": {"tokenizer": {"type": "bytes"}},
            "part_bytes": 2 << 20,
        }
        config = validate_config(table, PipelineConfig, "test")
        lines = {0: 8, 2: 8}
        decisions = (held_by(step, lines.get(at, 1) * documents[-1]) for at, step in enumerate(config.steps))
        said.append(max(ORDER_BYTES * documents[-1], *decisions))
        command = [sys.executable, "-c", _RUN, config.model_dump_json(), str(tmp_path / str(size) / "out")]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    print(f"{documents} documents: peaks {peaks}, decisions said {said}")
    # Parts of the allocator that are not given back: 40 MB, two thirds of the text that came on top.
    assert peaks[1] - peaks[0] <= said[1] - said[0] + 40_000_000
