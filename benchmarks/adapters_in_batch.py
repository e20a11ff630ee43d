"""Many TinyLoRA adapters in one batch: tokens/s with 1, 10, 100, 1,000 different ones in flight, beside none.

Every row has a vector of its own (or one of so many); the base is SmolLM2-135M's shape, prepared once. Contestants take
turns in one process (none, 1, 10, ... , none, 1, ...), greedy, from prompt ids to new symbols, prefill included: rows
are all in flight from the first step to the last. Bar: 1,000 adapters at least 0.9 of none. Below the bar's own table
stand smaller batches, where every row is another adapter, and 1,000 adapters that come and go through 64 rows.

    python -m benchmarks.adapters_in_batch [--quick] [--threads N] [--model smollm2-135m] [--rows 1000]
"""

import argparse
import gc
import json
import time
from collections.abc import Callable
from statistics import median

import torch

from benchmarks.decode import weights
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.models import LanguageModel
from smidgen.runtime import choose_dtype, describe_hardware, keep_large_blocks
from smidgen.surgery.adapter import attach
from smidgen.surgery.config import read_adapter

SEED = 0
BAR = 0.9


class Contest:
    """The base and, sharing nothing with it, the base with an adapter whose rows bring vectors."""

    def __init__(self, name: str, adapter: str, n_prompt: int) -> None:
        self.n_prompt = n_prompt
        dtype = choose_dtype("auto", torch.device("cpu"))
        model = weights(name)
        self.base = prepare_for_decoding(model, dtype)
        started = time.perf_counter()
        self.n = attach(model, read_adapter(adapter)).n_parameters
        self.attach_seconds = time.perf_counter() - started
        started = time.perf_counter()
        self.adapted = prepare_for_decoding(model, dtype)
        self.prepare_seconds = time.perf_counter() - started
        self.vocab_size = model.config.vocab_size

    def run(self, n_adapters: int, rows: int, sequences: int, n_new: int) -> float:
        """Answer prompts with so many different adapters; return new symbols per second."""
        gc.collect()
        generator = torch.Generator().manual_seed(SEED)
        prompts = torch.randint(self.vocab_size, (sequences, self.n_prompt), generator=generator).tolist()
        vectors = 0.1 * torch.randn(max(1, n_adapters), self.n, generator=generator)
        model: LanguageModel = self.adapted if n_adapters else self.base
        engine = Engine(model, max_rows=rows, max_len=self.n_prompt + n_new + 1)
        params = SamplingParams(max_symbols=n_new, stop_ids=frozenset())
        started = time.perf_counter()
        waiting = [
            engine.add(prompt, params, vectors[place % n_adapters] if n_adapters else None)
            for place, prompt in enumerate(prompts)
        ]
        while any(sequence.done is None for sequence in waiting):
            engine.step()
        return sequences * n_new / (time.perf_counter() - started)


def take_turns(cases: list[int], rounds: int, run: Callable[[int], float]) -> dict[int, float]:
    """Run every number of adapters in turn; return the median of each."""
    speeds: dict[int, list[float]] = {n: [] for n in cases}
    for _ in range(rounds):
        for n in cases:
            speeds[n].append(run(n))
    return {n: median(values) for n, values in speeds.items()}


def show(title: str, speeds: dict[int, float]) -> None:
    for n, speed in speeds.items():
        print(f"{title:<34}{n:>10}{speed:>12.1f}{speed / speeds[0]:>8.3f}", flush=True)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="none and all of them, 4 new symbols, two rounds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new", type=int, default=16, help="new symbols of every row")
    parser.add_argument("--prompt", type=int, default=16, help="symbols of every prompt")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rows", type=int, default=1000, help="rows, and most adapters in flight")
    parser.add_argument("--adapter", default="tinylora:13")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    torch.set_num_threads(chosen.threads)
    keep_large_blocks()
    rows, rounds, n_new = chosen.rows, (2 if chosen.quick else chosen.rounds), (4 if chosen.quick else chosen.new)
    contest = Contest(chosen.model, chosen.adapter, chosen.prompt)
    told = f"{chosen.model}, {chosen.adapter}, attached in {contest.attach_seconds:.2f} s"
    print(f"{told}, prepared in {contest.prepare_seconds:.2f} s, {chosen.threads} threads, {n_new} new symbols a row\n")
    print(f"{'rows':<34}{'adapters':>10}{'tokens/s':>12}{'ratio':>8}   bar {BAR}")
    contest.run(rows, rows, rows, 1)  # memory is touched for the first time, which costs whoever comes first
    cases = [0, rows] if chosen.quick else [0, *sorted({1, 10, 100, rows})]
    speeds = take_turns(cases, rounds, lambda n: contest.run(n, rows, rows, n_new))
    show(f"{rows} in flight", speeds)
    more: dict[str, dict[int, float]] = {}
    for small in () if chosen.quick else (1, 8, 64):
        more[f"{small} in flight"] = take_turns([0, small], rounds, lambda n, b=small: contest.run(n, b, b, 4 * n_new))
    if not chosen.quick:
        through = take_turns([0, rows], rounds, lambda n: contest.run(n, 64, rows // 4, n_new))
        more[f"{rows // 4} sequences through 64 rows"] = through
    for title, found in more.items():
        show(title, found)
    result = {
        "bench": "adapters_in_batch",
        "ratio": round(speeds[rows] / speeds[0], 3),
        "ours": round(speeds[rows], 1),
        "peer": round(speeds[0], 1),
        "unit": f"tokens/s, {chosen.model}, {rows} rows, {rows} adapters of {contest.n} numbers against none",
        "hardware": describe_hardware(),
        "versions": {"torch": torch.__version__},
        "seed": SEED,
        "attach_seconds": round(contest.attach_seconds, 3),
        "cases": {f"{rows} in flight": speeds, **more},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
