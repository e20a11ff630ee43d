"""Quality per minute: `smidgen train TEXT --size 10M --time 10m` beside a GPT-2-style model of the same size and time.

The baseline is GPT-2's recipe as small trainers run it (benchmarks/gpt2.py: LayerNorm, GELU, learned positions) under
plain AdamW with a cosine. It is given what we have: the same symbols, the same evaluator, the faster of fp32 and bf16,
torch.compile when it pays, and the whole time for training alone, while ours must also read, plan and evaluate in it.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import torch

from benchmarks.gpt2 import GPT2, gpt2_of
from smidgen.checkpoint import load_model
from smidgen.data.shards import TokenShards
from smidgen.data.stream import Layout, PackedStream
from smidgen.evaluation.bits_per_byte import Protocol, bits_per_byte_of_symbols
from smidgen.planning.units import parse_time
from smidgen.runs import RunDirectory, read_records
from smidgen.runtime import describe_hardware, open_runtime
from smidgen.training import Outside, TrainConfig, fit
from smidgen.training.config import AdamWConfig, ScheduleConfig, TimeBudget
from smidgen.training.objectives.next_token import next_token
from smidgen.training.parallel import as_written

LEARNING_RATES = (1e-3, 3e-3)
"""The baseline's: nanoGPT's for a model of this size, and three times it; the better one counts."""


def train_ours(text: Path, size: str, duration: str, out: Path) -> tuple[RunDirectory, float]:
    """Run the command a person would type; return its run and its wall seconds."""
    command = [sys.executable, "-m", "smidgen", "train", str(text), "--size", size, "--time", duration]
    start = time.monotonic()
    subprocess.run([*command, "--out", str(out), "--name", "ours"], check=True)
    return RunDirectory(out / "ours"), time.monotonic() - start


def train_baseline(run: RunDirectory, parameters: int, seconds: float, rate: float) -> tuple[GPT2, dict[str, float]]:
    """Train the baseline on the symbols of our run for `seconds`."""
    runtime = open_runtime("auto")
    tokenizer = load_model(run.path).tokenizer
    shards = TokenShards(next(run.path.rglob("manifest.json")).parent)
    model = GPT2(gpt2_of(parameters, tokenizer.vocab_size))
    for block in model.blocks:  # `fit` compiles our own kind of block, so the baseline's are compiled here
        block.compile()
    layout = Layout(seq_len=512, rows=16, micros=1, rank=0, world=1)
    stream = PackedStream(shards.train, tokenizer, layout, 0)
    config = TrainConfig(
        budget=TimeBudget(seconds=seconds),
        batch_tokens=8192,
        optimizer=AdamWConfig(learning_rate=rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
        schedule=ScheduleConfig(type="cosine", warmup=0.02, floor=0.1),
    )
    records: list[dict] = []
    done = fit(model, stream.batches_from, next_token, config, runtime, Outside(on_record=[records.append]))
    return model, {"steps": done.step, "tokens": done.symbols, "seconds": done.seconds, "learning_rate": rate}


def measure(model: torch.nn.Module, run: RunDirectory, documents: int) -> float:
    """Return bits per byte on the run's held-out documents, context 512, no sliding: learned positions end there."""
    tokenizer = load_model(run.path).tokenizer
    shards = TokenShards(next(run.path.rglob("manifest.json")).parent)
    held_out = islice(shards.validation.documents(), documents)
    with as_written():
        return bits_per_byte_of_symbols(model, tokenizer, held_out, Protocol(context=512, stride=512)).bits_per_byte


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path, nargs="?", default=Path("../shared/data/text"))
    parser.add_argument("--size", default="10M")
    parser.add_argument("--time", default="10m")
    parser.add_argument("--out", type=Path, default=Path("runs/quality_per_minute"))
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--one-rate", action="store_true", help="train the baseline at its first learning rate only")
    parser.add_argument("--quick", action="store_true", help="1M parameters and 30 seconds: does it run at all")
    options = parser.parse_args()
    if not options.text.exists():
        raise SystemExit(f"{options.text}: no such text. Give a folder of English text.")
    if options.quick:
        options.size, options.time, options.one_rate, options.documents = "1M", "30s", True, 50
    out = options.out / time.strftime("%Y%m%d-%H%M%S")
    run, wall = train_ours(options.text, options.size, options.time, out)
    loaded = load_model(run.path, dtype=torch.float32)
    parameters = sum(weight.numel() for weight in loaded.model.parameters())
    steps = [record for record in read_records(run.metrics) if record["kind"] == "train"]
    ours = measure(loaded.model, run, options.documents)
    seconds = parse_time(options.time)
    print(
        f"\nours: {parameters:,} parameters, {steps[-1]['symbols']:,} symbols in {wall:.0f} s: {ours:.4f} bits per byte"
    )
    rows = []
    for rate in LEARNING_RATES[: 1 if options.one_rate else None]:
        model, facts = train_baseline(run, parameters, seconds, rate)
        count = sum(weight.numel() for weight in model.parameters())
        rows.append(facts | {"parameters": count, "bits_per_byte": measure(model, run, options.documents)})
        print(
            f"GPT-2 at {rate:g}: {count:,} parameters ({dataclasses.asdict(model.config)}), "
            f"{facts['tokens']:,} symbols in {facts['seconds']:.0f} s: {rows[-1]['bits_per_byte']:.4f} bits per byte"
        )
    best = min(row["bits_per_byte"] for row in rows)
    summary = {
        "bench": "quality_per_minute",
        "ratio": round(best / ours, 4),
        "ours": round(ours, 4),
        "peer": round(best, 4),
        "unit": "bits per byte",
        "hardware": describe_hardware(),
        "versions": {"torch": torch.__version__},
        "seed": 0,
        "improvement": round(1 - ours / best, 4),
        "wall_seconds": round(wall, 1),
        "asked_seconds": seconds,
        "baseline": rows,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
