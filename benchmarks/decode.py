"""Decoding beside `transformers` generate: tokens/s and time to the first token, greedy, prompt 64, 128 new symbols.

Every contestant has its own process and the same weights: a catalogued name's are the pulled model's, another shape's
are random. The parent asks them in turn (A B A B ...), so that what else the machine does falls on all alike. Both
sides are whole calls, from prompt ids to the list of new ids: `Engine.generate` and `model.generate`. Bars: 1.5x at
batch 1, 1.0x at batch 16, against the peer's best of fp32, bf16.

    python -m benchmarks.decode [--quick] [--threads N] [--models 10m,smollm2-135m] [--batches 1,16]
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from statistics import median

import torch

from benchmarks.shapes import SHAPES
from smidgen.checkpoint import load_model
from smidgen.checkpoint.cache import CATALOGUE, pull
from smidgen.data.village import tell
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.models import build_model
from smidgen.models.llama import Llama, LlamaConfig
from smidgen.runtime import choose_dtype, describe_hardware, keep_large_blocks
from smidgen.tokenizers.loading import load_tokenizer

SEED = 0
PROMPT = 64
MODELS = ("10m", "smollm2-135m")
BARS = {1: 1.5, 16: 1.0}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Generate = Callable[[list[list[int]], int], list[list[int]]]


def prompts(name: str, rows: int) -> list[list[int]]:
    """Return prompts of a real model from real text, of a random one from random ids."""
    if name not in CATALOGUE:
        generator = torch.Generator().manual_seed(SEED + rows)
        return torch.randint(SHAPES[name].vocab_size, (rows, PROMPT), generator=generator).tolist()
    tokenizer = load_tokenizer(pull(name))
    ids = [i for at in range(8 * rows) for i in tokenizer.encode(tell(SEED, "test", at, detail=0.4).text)]
    return [ids[row * PROMPT : (row + 1) * PROMPT] for row in range(rows)]


def weights(name: str) -> Llama:
    """Return the pulled model of a catalogued name, a random one of any other shape."""
    return load_model(name, dtype=torch.float32).model if name in CATALOGUE else build_model(SHAPES[name], SEED)


def open_ours(name: str, dtype: torch.dtype) -> Generate:
    model = prepare_for_decoding(weights(name), dtype)

    def generate(ids: list[list[int]], n_new: int) -> list[list[int]]:
        # A fresh engine each time: nothing of an earlier call is used again.
        engine = Engine(model, max_rows=len(ids))
        return [s.symbols for s in engine.generate(ids, SamplingParams(max_symbols=n_new, stop_ids=frozenset()))]

    return generate


def open_peer(name: str, dtype: torch.dtype) -> Generate:
    import transformers

    transformers.logging.set_verbosity_error()
    if name in CATALOGUE:
        peer = transformers.AutoModelForCausalLM.from_pretrained(pull(name))
    else:
        peer = transformers.LlamaForCausalLM(llama_config(SHAPES[name]))
        peer.load_state_dict(weights(name).state_dict(), strict=False)
    peer = peer.to(dtype).eval()
    # Every side generates all that is asked: no stop symbol, and none of the model's own sampling settings.
    peer.generation_config = transformers.GenerationConfig(do_sample=False, pad_token_id=0)

    def generate(ids: list[list[int]], n_new: int) -> list[list[int]]:
        batch = torch.tensor(ids)
        out = peer.generate(batch, attention_mask=torch.ones_like(batch), max_new_tokens=n_new)
        return out[:, PROMPT:].tolist()

    return generate


def llama_config(config: LlamaConfig):
    import transformers

    stack = config.stack
    return transformers.LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=stack.d_model,
        num_hidden_layers=len(stack.layers),
        num_attention_heads=stack.attention.n_heads,
        num_key_value_heads=stack.attention.kv_heads,
        intermediate_size=stack.mlp.d_ff,
        rms_norm_eps=stack.norm_eps,
        max_position_embeddings=config.max_seq_len,
        rope_parameters={"rope_type": "default", "rope_theta": stack.attention.rope_theta},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )


def work(contestant: str, name: str) -> None:
    """Answer requests `rows n_new` on standard input with one JSON line each."""
    keep_large_blocks()
    side, dtype = contestant.split()
    generate = {"smidgen": open_ours, "transformers": open_peer}[side](name, DTYPES[dtype])
    generate(prompts(name, 1), 4)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        rows, n_new = map(int, line.split())
        ids = prompts(name, rows)
        started = time.perf_counter()
        symbols = generate(ids, n_new)
        print(json.dumps({"seconds": time.perf_counter() - started, "symbols": symbols}), flush=True)


class Contestant:
    def __init__(self, contestant: str, name: str, threads: int) -> None:
        command = [
            sys.executable,
            "-m",
            "benchmarks.decode",
            "--worker",
            contestant,
            "--models",
            name,
            "--threads",
            str(threads),
        ]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.read()

    def read(self) -> object:
        return json.loads(self.process.stdout.readline())

    def ask(self, rows: int, n_new: int) -> dict:
        self.process.stdin.write(f"{rows} {n_new}\n")
        self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def measure(name: str, rows: int, n_new: int, repeats: int, sides: dict[str, Contestant]) -> list[dict]:
    """Ask every contestant in turn and return one row of figures for each."""
    seconds, firsts, symbols = ({side: [] for side in sides} for _ in range(3))
    for _ in range(repeats):
        for side, contestant in sides.items():
            firsts[side].append(contestant.ask(rows, 1)["seconds"])
            answer = contestant.ask(rows, n_new)
            seconds[side].append(answer["seconds"])
            symbols[side] = [symbol for row in answer["symbols"] for symbol in row]
    reference = symbols["transformers fp32"]
    return [
        {
            "model": name,
            "batch": rows,
            "side": side,
            "tokens_per_second": rows * n_new / median(seconds[side]),
            "first_token_ms": 1000 * median(firsts[side]),
            "agrees": sum(a == b for a, b in zip(symbols[side], reference, strict=True)) / len(reference),
        }
        for side in sides
    ]


def read_bandwidth() -> float:
    """Return GB/s of reading memory far larger than the caches: the floor under decoding at batch 1."""
    block = torch.ones(2**26)
    times = []
    for _ in range(8):
        started = time.perf_counter()
        block.sum()
        times.append(time.perf_counter() - started)
    return block.nbytes / min(times) / 1e9


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="32 new symbols, two rounds: under two minutes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(name: str, batches: list[int], n_new: int, rounds: int, threads: int) -> list[dict]:
    """Measure one model at each batch, print its lines of the table and return ours beside the best of the peer."""
    own = {torch.bfloat16: "bf16", torch.float32: "fp32"}[choose_dtype("auto", torch.device("cpu"))]
    names = [f"smidgen {own}", "transformers fp32", "transformers bf16"]
    sides = {side: Contestant(side, name, threads) for side in names}
    cases = []
    for rows in batches:
        figures = measure(name, rows, n_new, rounds, sides)
        ours, best = figures[0], max(figures[1:], key=lambda f: f["tokens_per_second"])
        ratio = ours["tokens_per_second"] / best["tokens_per_second"]
        for f in figures:
            mark = f"{ratio:>8.2f}{BARS.get(rows, 1.0):>6}" if f is ours else ""
            rates = f"{f['tokens_per_second']:>10.1f}{f['first_token_ms']:>10.1f}{f['agrees']:>8.0%}"
            print(f"{name:<14}{rows:>6}  {f['side']:<20}{rates}{mark}", flush=True)
        cases.append({"ratio": ratio, "ours": ours, "peer": best})
    for contestant in sides.values():
        contestant.close()
    return cases


def main() -> None:
    chosen = options()
    torch.set_num_threads(chosen.threads)
    if chosen.worker:
        work(chosen.worker, chosen.models)
        return
    n_new, rounds = (32, 2) if chosen.quick else (128, chosen.rounds)
    batches = [int(rows) for rows in chosen.batches.split(",")]
    bandwidth = read_bandwidth()
    print(f"memory read {bandwidth:.1f} GB/s, {chosen.threads} threads, {n_new} new symbols, {rounds} rounds\n")
    print(f"{'model':<14}{'batch':>6}  {'side':<20}{'tokens/s':>10}{'first ms':>10}{'same':>8}{'ratio':>8}{'bar':>6}")
    cases = [c for name in chosen.models.split(",") for c in compare(name, batches, n_new, rounds, chosen.threads)]
    weakest = min(cases, key=lambda c: c["ratio"] / BARS.get(c["ours"]["batch"], 1.0))
    result = {
        "bench": "decode",
        "ratio": round(weakest["ratio"], 3),
        "ours": round(weakest["ours"]["tokens_per_second"], 1),
        "peer": round(weakest["peer"]["tokens_per_second"], 1),
        "unit": f"tokens/s, {weakest['ours']['model']}, batch {weakest['ours']['batch']} (nearest to its bar)",
        "hardware": describe_hardware() | {"read_gb_per_second": round(bandwidth, 1)},
        "versions": {"torch": torch.__version__, "transformers": version("transformers")},
        "seed": SEED,
        "cases": cases,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
