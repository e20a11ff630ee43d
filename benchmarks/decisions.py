"""Memory and seconds of the decisions over a whole corpus, on tables of as many documents as are asked for.

What a decision reads is generated, table by table as the parts of a corpus would give them (8,000 documents of 4 kB;
one in twenty a copy), and no text with it; each decision is then taken in a process of its own. Told are the peak over
what the process held before, and what the step says it holds; the ratio is the least of said over measured.

    python -m benchmarks.decisions [--documents N ...] [--quick]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.data.cleaning.boilerplate import BoilerplateConfig
from smidgen.data.cleaning.diversity import DiversityConfig
from smidgen.data.cleaning.exact import ExactConfig
from smidgen.data.cleaning.minhash import Near, NearConfig
from smidgen.data.cleaning.step import Columns, CorpusStep
from smidgen.data.cleaning.steps import StepConfig, build_step
from smidgen.data.pipeline.parts import StoredTable, write_columns

SEED = 0
PART = 8_000
COPIES = 0.05
LINES = 10
"""Lines of a document that may be boilerplate, or are long enough to be compared."""
STEPS: dict[str, StepConfig] = {
    "near": NearConfig(),
    "exact": ExactConfig(),
    "exact (line)": ExactConfig(unit="line"),
    "boilerplate": BoilerplateConfig(),
    "diversity": DiversityConfig(max_bytes=1 << 30),
}


def make_tables(name: str, documents: int) -> Iterator[Columns]:
    """Yield the tables of a corpus of so many documents, of which some are copies of some in its first part."""
    draw, width = np.random.default_rng(SEED), Near(NearConfig()).banding
    rows = PART * LINES if name in ("exact (line)", "boilerplate") else PART
    first: dict[str, np.ndarray] = {}
    for _ in range(0, documents, PART):
        key = draw.integers(0, 1 << 63, rows, dtype=np.uint64)
        hashes = draw.integers(0, 1 << 64, (2, rows), dtype=np.uint64)
        table = {"key": key, "hash": hashes[0]}
        if name == "near":
            bands = draw.integers(0, 1 << 32, (width.bands, rows), dtype=np.uint32)
            table = {"key": key, "bands": bands, "minima": draw.integers(0, 256, (rows, width.hashes), dtype=np.uint8)}
        elif name == "exact":
            table = {"key": key, "low": hashes[0], "high": hashes[1]}
        elif name == "boilerplate":
            table = {"line": hashes[0], "count": np.ones(rows, np.uint32)}
        elif name == "diversity":
            points = draw.normal(size=(rows, 64)).astype(np.float16)
            table = {"key": key, "bytes": np.full(rows, 4000, np.uint64), "projection": points}
        copies = draw.integers(0, rows, round(rows * COPIES))
        for column in table.keys() & first.keys() - {"key"}:
            which = (slice(None), copies) if column == "bands" else copies
            table[column][which] = first[column][which]
        first = first or {column: values.copy() for column, values in table.items()}
        order = next((column for column in ("low", "hash", "line") if column in table), None)
        ranked = np.argsort(table[order], kind="stable") if order else slice(None)
        yield {column: values[ranked] for column, values in table.items()} if order else table


def decide(name: str, folder: Path) -> dict[str, float]:
    """Take a decision; return its rows, its seconds, megabytes held at the peak and megabytes promised."""
    step = build_step(STEPS[name])
    assert isinstance(step, CorpusStep)
    tables = [StoredTable(path) for path in sorted(folder.glob("*.npz"))]
    before, started = _status("VmRSS"), time.process_time()
    decision = step.decide(tables)
    seconds, rows = time.process_time() - started, sum(table.rows for table in tables)
    return {
        "rows": rows,
        "decided": len(next(iter(decision.values()))),
        "cpu_seconds": round(seconds, 2),
        "megabytes": round((_status("VmHWM") - before) / 1e6, 1),
        "said": round(step.held(rows) / 1e6, 1),
    }


def _status(name: str) -> int:
    told = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in told if line.startswith(name))


def measure(name: str, documents: int, scratch: Path) -> dict[str, float]:
    """Make the tables of one decision, take it in a process of its own, remove them."""
    folder = scratch / f"{name}-{documents}"
    for number, table in enumerate(make_tables(name, documents)):
        write_columns(folder / f"{number:06d}.npz", table)
    command = [sys.executable, "-m", "benchmarks.decisions", "--step", name, "--folder", str(folder)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    for path in folder.iterdir():
        path.unlink()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--documents", type=int, nargs="*", help="default: one and four million")
    parser.add_argument("--steps", nargs="*", choices=STEPS, default=list(STEPS))
    parser.add_argument("--quick", action="store_true", help="100 and 400 thousand documents")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step:
        print(json.dumps(decide(chosen.step, chosen.folder)))
        return
    from smidgen.runtime import describe_hardware

    cases: dict[str, Any] = {}
    print(f"{'decision':<16}{'documents':>12}{'rows':>12}{'CPU s':>8}{'MB held':>9}{'said':>8}", flush=True)
    with tempfile.TemporaryDirectory(prefix="smidgen-bench-") as scratch:
        for name in chosen.steps:
            for documents in chosen.documents or ([100_000, 400_000] if chosen.quick else [1_000_000, 4_000_000]):
                found = cases[f"{name}, {documents}"] = measure(name, documents, Path(scratch))
                told = f"{found['cpu_seconds']:>8.1f}{found['megabytes']:>9.0f}{found['said']:>8.0f}"
                print(f"{name:<16}{documents:>12,}{found['rows']:>12,}{told}", flush=True)
    least = min(case["said"] / max(case["megabytes"], 0.1) for case in cases.values())
    print(
        json.dumps(
            {
                "bench": "decisions",
                "ratio": round(least, 3),
                "ours": max(case["megabytes"] for case in cases.values()),
                "peer": max(case["said"] for case in cases.values()),
                "unit": "MB held by the largest decision; peer is what is promised",
                "hardware": describe_hardware(),
                "seed": SEED,
                "cases": cases,
            }
        )
    )


if __name__ == "__main__":
    main()
