"""Early exit: tokens/s of decoding against bits per byte, at several confidences, whole model as the peer.

Without --run a small model is first trained for --seconds on village stories, with an exit after every second depth.
Bits per byte are of held-out text fed symbol by symbol through the exits, memory propagated as in decoding; tokens/s
are whole calls of `Engine.generate`, greedy, one row at a time, all confidences in turn (A B A B ...), medians.
`ratio` is that of the fastest confidence that costs at most 1% of the bits per byte.

    python -m benchmarks.early_exit [--quick] [--run runs/NAME] [--seconds 60]
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

import torch

from smidgen.checkpoint import LoadedModel, load_model
from smidgen.data.shards import TokenShards
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.models import LanguageModel
from smidgen.models.exits import decode_early
from smidgen.runtime import describe_hardware, open_runtime

SEED = 0
CONFIDENCES = (0.99, 0.95, 0.9, 0.8, 0.7, 0.5)
ALLOWED = 1.01
PROMPT, ROWS = 16, 4
RECIPE = """
name = "early_exit"
data = { type = "village", text_bytes = 4_000_000 }
tokenizer = { type = "bpe", vocab_size = 512 }
[model]
vocab_size = 512
max_seq_len = 256
heads = { exit = { every = 2 } }
[model.stack]
d_model = 128
layers = [0, 1, 2, 3, 4, 5, 6, 7]
attention = { n_heads = 4, n_kv_heads = 2, qk_norm = true }
mlp = { type = "relu2", d_ff = 512 }
[train]
seq_len = 256
batch_tokens = 2048
evaluations = 1
samples = 1
objective = { type = "early_exit", scale = 1.0 }
"""


def train(folder: Path, seconds: int) -> Path:
    """Train the small model as a person would; return its run."""
    recipe = folder / "early_exit.toml"
    recipe.write_text(f'{RECIPE}budget = {{ type = "time", seconds = {seconds} }}\n')
    command = [sys.executable, "-m", "smidgen", "train", str(recipe), "--out", str(folder), "--name", "run"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return folder / "run"


@torch.inference_mode()
def bits_per_byte(model: LanguageModel, rows: Sequence[list[int]], sizes: list[int], confidence: float) -> float:
    """Feed held-out rows symbol by symbol, each leaving where it is sure; return bits per byte of all but the first."""
    length = min(map(len, rows))
    ids = torch.tensor([row[:length] for row in rows])
    state, nats = model.init_state(len(rows), length), 0.0
    for at in range(length - 1):
        out = decode_early(model, ids[:, at : at + 1], state, range(len(rows)), [confidence] * len(rows))
        nats -= float(out.logits.log_softmax(-1).gather(1, ids[:, at + 1 : at + 2]).sum())
    return nats / math.log(2) / sum(sizes[symbol] for row in ids[:, 1:].tolist() for symbol in row)


def decode(model: LanguageModel, prompts: list[list[int]], confidence: float | None, n_new: int) -> tuple[float, float]:
    """Return tokens/s and the mean depth of greedy answers, one prompt after the other."""
    params = SamplingParams(max_symbols=n_new, stop_ids=frozenset(), exit_confidence=confidence)
    started, depths = time.perf_counter(), []
    for prompt in prompts:
        [answer] = Engine(model).generate([prompt], params)
        depths += answer.depths
    seconds = time.perf_counter() - started
    return len(prompts) * n_new / seconds, fmean(depths or [len(model.config.stack.layers)])


def measure(run: Path, n_rows: int, n_new: int, rounds: int) -> list[dict]:
    """Measure the whole model and every confidence; return one row of figures for each, the whole model first."""
    runtime = open_runtime("auto", device="cpu")
    loaded: LoadedModel = load_model(run, dtype=runtime.dtype)
    model = prepare_for_decoding(loaded.model)
    held_out = TokenShards(next(run.rglob("manifest.json")).parent).validation.documents()
    context = loaded.model.config.max_seq_len
    rows = [list(ids[:context]) for ids in held_out if len(ids) >= context // 2][:n_rows]
    prompts = [row[:PROMPT] for row in rows[:ROWS]]
    cases = [{"confidence": c, "speeds": []} for c in (None, *CONFIDENCES)]
    for _ in range(rounds):
        for case in cases:
            speed, case["depth"] = decode(model, prompts, case["confidence"], min(n_new, context - PROMPT - 1))
            case["speeds"].append(speed)
    sizes = loaded.tokenizer.symbol_bytes()
    for case in cases:
        case["tokens_per_second"] = median(case.pop("speeds"))
        case["bits_per_byte"] = bits_per_byte(model, rows, sizes, case["confidence"] or 1.0)
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="45 seconds of training, two rounds: under two minutes")
    parser.add_argument("--run", type=Path, help="a finished run whose model has exits, instead of training one")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        run = chosen.run or train(Path(folder), 45 if chosen.quick else chosen.seconds)
        cases = measure(run, *((8, 64, 2) if chosen.quick else (16, 200, 5)))
    whole = cases[0]
    print(f"{'confidence':>12}{'depth':>8}{'tokens/s':>10}{'ratio':>8}{'bits/byte':>11}{'cost':>8}")
    for case in cases:
        case["ratio"] = case["tokens_per_second"] / whole["tokens_per_second"]
        cost = case["bits_per_byte"] / whole["bits_per_byte"] - 1
        name = "whole model" if case["confidence"] is None else f"{case['confidence']:.2f}"
        figures = f"{case['tokens_per_second']:>10.1f}{case['ratio']:>8.2f}{case['bits_per_byte']:>11.4f}{cost:>8.1%}"
        print(f"{name:>12}{case['depth']:>8.2f}{figures}")
    good = [case for case in cases[1:] if case["bits_per_byte"] <= ALLOWED * whole["bits_per_byte"]]
    best = max(good or cases[1:2], key=lambda case: case["ratio"])
    result = {
        "bench": "early_exit",
        "ratio": round(best["ratio"], 3),
        "ours": round(best["tokens_per_second"], 1),
        "peer": round(whole["tokens_per_second"], 1),
        "unit": f"tokens/s, one row, confidence {best['confidence']}, against the same model whole",
        "hardware": describe_hardware(),
        "versions": {"torch": torch.__version__},
        "seed": SEED,
        "cases": cases,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
