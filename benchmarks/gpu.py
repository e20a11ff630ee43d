"""Training throughput and MFU on a CUDA device, through the same `fit` as everything else: `make gpu`.

TinyLlama's most quoted figures are 24k tokens/s per A100-40G and 56% MFU (facts.md §1); this table is told the same
way: model FLOPs (6 per matrix parameter and symbol, plus causal attention) over the measured bf16 matmul peak.
"""

import argparse
import json
import statistics
import time

import torch

from benchmarks.shapes import SHAPES
from smidgen.data.batch import Batch
from smidgen.models import LlamaConfig, build_model
from smidgen.runtime import Runtime, choose_dtype, describe_hardware
from smidgen.training import Outside, TrainConfig, fit
from smidgen.training.config import MuonConfig, StepBudget
from smidgen.training.objectives.next_token import next_token

ROWS = {"10m": 64, "50m": 64, "smollm2-135m": 32, "tinyllama-1.1b": 8}
"""Rows of 2,048 symbols in one forward, as fits 80 GB."""


def matmul_peak(device: torch.device, size: int = 8192) -> float:
    """Return the measured bf16 matrix-product rate on random data, FLOP/s."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    rates = []
    for _ in range(20):
        torch.cuda.synchronize()
        start = time.perf_counter()
        a @ b
        torch.cuda.synchronize()
        rates.append(2 * size**3 / (time.perf_counter() - start))
    return statistics.median(rates)


def training_flops(config: LlamaConfig, length: int) -> float:
    """Return FLOPs to train on one symbol: 6 per matrix parameter, and causal attention at this length."""
    stack = config.stack
    model = build_model(config)
    embedding = config.vocab_size * stack.d_model
    matrices = sum(w.numel() for w in model.parameters() if w.ndim == 2) - (0 if config.tie_embeddings else embedding)
    attention = 6 * len(stack.layers) * stack.attention.n_heads * stack.d_head * length
    return 6 * matrices + attention


def measure(name: str, steps: int, peak: float, compiled: bool) -> dict[str, object]:
    """Train `steps` steps on random symbols and return the median throughput after warm-up."""
    config, rows, length = SHAPES[name], ROWS[name], 2048
    device = torch.device("cuda")
    torch.cuda.reset_peak_memory_stats()
    model = build_model(config, device=device)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, config.vocab_size, (rows, length + 1), generator=generator)
    batch = Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), torch.ones(rows, length))

    def batches_from(step):
        while True:
            yield [batch]

    train = TrainConfig(
        budget=StepBudget(steps=steps),
        seq_len=length,
        batch_tokens=rows * length,
        optimizer=MuonConfig(),
        compile="on" if compiled else "off",
    )
    speeds: list[float] = []
    outside = Outside(on_record=[lambda record: speeds.append(record["tokens_per_second"])])
    start = time.perf_counter()
    fit(model, batches_from, next_token, train, Runtime(device, choose_dtype("auto", device)), outside)
    speed = statistics.median(speeds[len(speeds) // 2 :])
    return {
        "model": name,
        "compile": compiled,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "tokens_per_second": round(speed),
        "mfu": round(speed * training_flops(config, length) / peak, 3),
        "memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 1),
        "wall_seconds": round(time.perf_counter() - start, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--models", default=",".join(SHAPES))
    parser.add_argument("--eager", action="store_true", help="also measure without torch.compile")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks.gpu needs a CUDA device; this machine shows none.")
    torch.set_float32_matmul_precision("high")
    peak = matmul_peak(torch.device("cuda"))
    print(f"bf16 matmul peak {peak / 1e12:.0f} TFLOP/s", flush=True)
    rows = []
    for name in options.models.split(","):
        for compiled in (True, False) if options.eager else (True,):
            rows.append(measure(name, options.steps, peak, compiled))
            print(json.dumps(rows[-1]), flush=True)
            torch.compiler.reset()
            torch.cuda.empty_cache()
    best = max(rows, key=lambda row: row["mfu"])
    print(
        json.dumps(
            {
                "bench": "gpu",
                "ratio": round(best["mfu"] / 0.56, 3),
                "ours": best["mfu"],
                "peer": 0.56,
                "unit": "MFU against TinyLlama's 56%",
                "hardware": describe_hardware(),
                "versions": {"torch": torch.__version__},
                "seed": 0,
                "rows": rows,
            }
        )
    )


if __name__ == "__main__":
    main()
