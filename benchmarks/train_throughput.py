"""Training throughput, tokens/s: ours beside `transformers` at its best and a GPT-2 as nanoGPT trains it on a CPU.

Same shape, same symbols, AdamW on every side, one process each, taking turns (A B C A B C ...); medians. Compilation
and two warm-up steps are not counted; the seconds they took are shown. `--quick` compares with one peer only.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import torch

from benchmarks.gpt2 import GPT2, gpt2_of
from benchmarks.shapes import SHAPES
from smidgen.data.batch import Batch
from smidgen.models import LlamaConfig, build_model
from smidgen.planning.measure import measure_machine
from smidgen.runtime import Runtime, choose_dtype, describe_hardware, open_runtime
from smidgen.training import parallel
from smidgen.training.config import AdamWConfig, TrainConfig
from smidgen.training.objectives.next_token import next_token
from smidgen.training.optim import build_optimizer

LENGTH, STEP_TOKENS = 512, 8192
PEERS = [
    "hf-fp32-eager",
    "hf-fp32-compile",
    "hf-autocast-eager",
    "hf-autocast-compile",
    "hf-bf16-eager",
    "hf-bf16-compile",
]


def our_step(config: LlamaConfig, ids: torch.Tensor, compiled: bool):
    """Return a function that does one of our training steps."""
    runtime = open_runtime("auto")
    model = build_model(config)
    model.compute_dtype = runtime.dtype
    train = TrainConfig()
    loss_of = parallel.apply(parallel.wrap(model, next_token, train, runtime), train, runtime, compiled)
    optimizer = build_optimizer(model, AdamWConfig(), runtime.dtype)
    batch = Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), torch.ones(ids.shape[0], LENGTH))

    def step() -> None:
        optimizer.zero_grad()
        (loss_of(batch).loss / STEP_TOKENS).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(1.0)

    return step


def nanogpt_step(config: LlamaConfig, ids: torch.Tensor):
    """Return one step of a GPT-2 of the same parameter count: fp32 and compiled, nanoGPT's defaults on a CPU."""
    parameters = sum(weight.numel() for weight in build_model(config).parameters())
    model = GPT2(gpt2_of(parameters, config.vocab_size, depth=len(config.stack.layers), max_seq_len=LENGTH))
    compiled = torch.compile(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    x, y = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(compiled(x).flatten(0, 1), y.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def hf_step(config: LlamaConfig, ids: torch.Tensor, precision: str, compiled: bool):
    """Return one step of transformers' LlamaForCausalLM."""
    from transformers import LlamaConfig as HFConfig
    from transformers import LlamaForCausalLM

    stack = config.stack
    model = LlamaForCausalLM(
        HFConfig(
            vocab_size=config.vocab_size,
            hidden_size=stack.d_model,
            intermediate_size=stack.mlp.d_ff,
            num_hidden_layers=len(stack.layers),
            num_attention_heads=stack.attention.n_heads,
            num_key_value_heads=stack.attention.kv_heads,
            max_position_embeddings=config.max_seq_len,
            tie_word_embeddings=config.tie_embeddings,
        )
    )
    if precision == "bf16":
        model = model.to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    forward = torch.compile(model) if compiled else model
    x = ids[:, :-1].contiguous()

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
            loss = forward(input_ids=x, labels=x).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def work(name: str, shape: str) -> None:
    """Be one contender: build, warm up, then do as many steps as each line of standard input asks for."""
    config = SHAPES[shape]
    ids = torch.randint(0, config.vocab_size, (STEP_TOKENS // LENGTH, LENGTH + 1))
    start = time.perf_counter()
    if name.startswith("ours"):
        step = our_step(config, ids, compiled=name == "ours")
    elif name == "nanogpt":
        step = nanogpt_step(config, ids)
    else:
        _, precision, mode = name.split("-")
        step = hf_step(config, ids, precision, mode == "compile")
    for _ in range(2):
        step()
    print(json.dumps({"warm": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            step()
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


def race(shape: str, names: list[str], rounds: int, steps: int) -> dict[str, dict[str, float]]:
    """Let the contenders take turns; return tokens/s (median) and warm-up seconds of each."""
    workers, result = {}, {}
    for name in names:
        command = [sys.executable, "-m", "benchmarks.train_throughput", "--worker", name, "--shape", shape]
        workers[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        result[name] = {"warm_seconds": round(json.loads(workers[name].stdout.readline())["warm"], 1)}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, worker in workers.items():
            worker.stdin.write(f"{steps}\n")
            worker.stdin.flush()
            seconds[name].append(json.loads(worker.stdout.readline())["seconds"])
    for name, worker in workers.items():
        worker.stdin.close()
        worker.wait()
        result[name]["tokens_per_second"] = round(STEP_TOKENS * steps / statistics.median(seconds[name]))
    return result


def training_flops(config: LlamaConfig) -> float:
    """Return FLOPs to train on one symbol: 6 per matrix parameter and the causal half of attention."""
    matrices = sum(weight.numel() for weight in build_model(config).parameters() if weight.ndim == 2)
    stack = config.stack
    return 6 * matrices + 6 * len(stack.layers) * stack.attention.n_heads * stack.d_head * LENGTH


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker")
    parser.add_argument("--shape")
    parser.add_argument("--quick", action="store_true", help="one shape, one peer, eager, two rounds")
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.shape)
        return
    names = ["ours-eager", "hf-autocast-eager"] if options.quick else ["ours", "ours-eager", *PEERS, "nanogpt"]
    shapes = [options.shape] if options.shape else ["10m"] if options.quick else ["10m", "50m"]
    dtype = choose_dtype("auto", torch.device("cpu"))
    peak = measure_machine(Runtime(torch.device("cpu"), dtype)).matmul_flops
    print(f"matmul peak in {dtype}: {peak / 1e12:.2f} TFLOP/s")
    table = {}
    for shape in shapes:
        table[shape] = race(shape, names, rounds=2 if options.quick else 5, steps=1 if options.quick else 2)
        print(f"\n{shape}: tokens/s, {STEP_TOKENS} tokens a step, sequence {LENGTH}")
        for name, row in table[shape].items():
            mfu = row["tokens_per_second"] * training_flops(SHAPES[shape]) / peak
            shown = f"{row['tokens_per_second']:>8,}   MFU {mfu:5.1%}   warm-up {row['warm_seconds']:6.1f} s"
            print(f"  {name:<22}{shown}")
    rows = table[shapes[0]]
    ours = max(row["tokens_per_second"] for name, row in rows.items() if name.startswith("ours"))
    best = max(row["tokens_per_second"] for name, row in rows.items() if name.startswith("hf"))
    summary = {
        "bench": "train_throughput",
        "ratio": round(ours / best, 3),
        "ours": ours,
        "peer": best,
        "unit": "tokens/s",
        "hardware": describe_hardware(),
        "versions": {"torch": torch.__version__},
        "seed": 0,
        "shapes": table,
    }
    if "nanogpt" in rows:
        summary["ratio_nanogpt"] = round(ours / rows["nanogpt"]["tokens_per_second"], 3)
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
