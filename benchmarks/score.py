"""Scoring choices beside lm-evaluation-harness' HF backend: the same items of real sets, SmolLM2-135M, on the CPU.

Both sides are whole calls, from the strings of the requests to their log-probabilities: `score_choices` and
`HFLM.loglikelihood`. Each contestant is a process of its own with its weights loaded; they are asked in turn (A B A B),
task by task. The peer plays with the precision and batch size that were fastest for it on a few items of every task.
Bar: a third of its seconds over all tasks.

    python -m benchmarks.score [--data DIR] [--quick] [--threads N] [--tasks a,b] [--limit N] [--rounds N]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import median

import torch

from smidgen.runtime import describe_hardware, keep_large_blocks
from smidgen.tasks.choice import ChoiceItem, ChoiceTask
from smidgen.tasks.suite import SUITE, load_suite_task

MODEL = "smollm2-135m"
TASKS = tuple(name for name in SUITE if name != "gsm8k")
PEERS = ("bf16 1", "bf16 4", "bf16 8", "bf16 16", "bf16 32", "fp32 1", "fp32 8", "fp32 32")
OURS = "smidgen bf16"
BAR = 3.0
SEED = 0


def load_items(chosen: argparse.Namespace) -> dict[str, list[ChoiceItem]]:
    """Return `limit` items of each task, spread evenly over its file."""
    loaded = {}
    for name in chosen.tasks.split(","):
        task = load_suite_task(name, chosen.data)
        assert isinstance(task, ChoiceTask)
        items = list(task.items())
        n = min(chosen.limit, len(items))
        loaded[name] = [items[at * len(items) // n] for at in range(n)]
    return loaded


Said = list[list[tuple[float, bool]]]
"""Of each item and candidate its log-probability in nats, and whether each of its symbols was the likeliest."""


def open_ours():
    from smidgen.checkpoint import load_model
    from smidgen.evaluation.likelihood import score_choices
    from smidgen.inference import prepare_for_decoding

    loaded = load_model(MODEL, dtype=torch.bfloat16)
    model = prepare_for_decoding(loaded.model)

    def score(items: list[ChoiceItem], batch: int) -> Said:
        found = iter(score_choices(model, loaded.tokenizer, [choice for item in items for choice in item.choices]))
        return [[(one.nats, one.greedy) for one in islice(found, len(item.choices))] for item in items]

    return score


def open_peer(dtype: str):
    import transformers
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from smidgen.checkpoint.cache import pull

    transformers.logging.set_verbosity_error()
    peer = HFLM(pretrained=str(pull(MODEL)), dtype={"fp32": "float32", "bf16": "bfloat16"}[dtype], device="cpu")

    def score(items: list[ChoiceItem], batch: int) -> Said:
        requests = [
            Instance("loglikelihood", {}, (choice.context, choice.continuation), number)
            for item in items
            for number, choice in enumerate(item.choices)
        ]
        peer.batch_size_per_gpu = batch
        found = iter(peer.loglikelihood(requests, disable_tqdm=True))
        return [[(nats, bool(greedy)) for nats, greedy in islice(found, len(item.choices))] for item in items]

    return score


def work(chosen: argparse.Namespace) -> None:
    """Answer requests `task first last batch` on standard input with one JSON line each."""
    out, sys.stdout = sys.stdout, sys.stderr  # libraries talk
    loaded = load_items(chosen)
    if chosen.worker == OURS:
        keep_large_blocks()
        score = open_ours()
    else:
        score = open_peer(chosen.worker)
    score(loaded[next(iter(loaded))][:16], 8)
    print(json.dumps("ready"), file=out, flush=True)
    for line in sys.stdin:
        name, first, last, batch = line.split()
        started, worked = time.perf_counter(), time.process_time()
        said = score(loaded[name][int(first) : int(last)], int(batch))
        seconds, worked = time.perf_counter() - started, time.process_time() - worked
        print(json.dumps({"seconds": seconds, "cpu_seconds": worked, "said": said}), file=out, flush=True)


class Contestant:
    def __init__(self, name: str, chosen: argparse.Namespace) -> None:
        command = [sys.executable, "-m", "benchmarks.score", "--worker", name, "--tasks", chosen.tasks]
        command += ["--data", str(chosen.data), "--limit", str(chosen.limit), "--threads", str(chosen.threads)]
        quiet = {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | quiet
        )
        self.read()

    def read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            sys.exit("a contestant has died; what it said stands above.")
        return json.loads(line)

    def ask(self, task: str, items: slice, batch: int) -> dict:
        self.process.stdin.write(f"{task} {items.start} {items.stop} {batch}\n")
        self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def find_best_peer(peers: dict[str, Contestant], settings: list[str], tasks: list[str], n: int) -> str:
    """Return the setting that needs the least seconds for a few items of every task."""
    seconds = {}
    for setting in settings:
        dtype, batch = setting.split()
        seconds[setting] = sum(peers[dtype].ask(task, slice(0, n), int(batch))["seconds"] for task in tasks)
        print(f"lm-eval {setting:<8} {seconds[setting]:>8.1f} s for {n} items of each task", flush=True)
    return min(seconds, key=seconds.__getitem__)


def decisions(said: Said) -> list[int]:
    """Return the likeliest candidate of each item, of equals the first; of a cloze, whether it is what is said."""
    return [max(range(len(item)), key=lambda at: item[at][0]) if len(item) > 1 else int(item[0][1]) for item in said]


def compare(task: str, n: int, sides: dict[str, Contestant], batch: int, rounds: int) -> dict:
    """Ask both sides in turn and return the medians."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    cpu_seconds: dict[str, list[float]] = {side: [] for side in sides}
    answers = {}
    for _ in range(rounds):
        for side, contestant in sides.items():
            answer = contestant.ask(task, slice(0, n), batch)
            seconds[side].append(answer["seconds"])
            cpu_seconds[side].append(answer["cpu_seconds"])
            answers[side] = answer["said"]
    ours, theirs = (median(values) for values in seconds.values())
    ours_cpu, theirs_cpu = (median(values) for values in cpu_seconds.values())
    same = sum(a == b for a, b in zip(*map(decisions, answers.values()), strict=True))
    n_items = len(answers[OURS])
    return {
        "task": task,
        "items": n_items,
        "requests": sum(map(len, answers[OURS])),
        "ours": round(ours, 3),
        "peer": round(theirs, 3),
        "ratio": round(theirs / ours, 3),
        "ours_cpu": round(ours_cpu, 3),
        "peer_cpu": round(theirs_cpu, 3),
        "same_decisions": round(same / n_items, 4),
    }


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/eval"), help="folder of the sets")
    parser.add_argument("--quick", action="store_true", help="8 items a task, two rounds: under two minutes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--limit", type=int, help="items of each task; default: 100")
    parser.add_argument("--rounds", type=int, help="default: 3")
    parser.add_argument("--peer", help="a setting of the peer, such as 'bf16 8', instead of the search for its best")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    chosen.limit = chosen.limit or (8 if chosen.quick else 100)
    chosen.rounds = chosen.rounds or (2 if chosen.quick else 3)
    return chosen


def main() -> None:
    chosen = options()
    torch.set_num_threads(chosen.threads)
    if chosen.worker:
        work(chosen)
        return
    if not chosen.data.is_dir():
        sys.exit(f"{chosen.data}: is no folder. --data names the one of the evaluation sets (docs/evaluation.md).")
    tasks = chosen.tasks.split(",")
    if unknown := [name for name in tasks if name not in TASKS]:
        sys.exit(f"{unknown[0]} is no task of choices. Known: {', '.join(TASKS)}.")
    settings = [chosen.peer] if chosen.peer else [s for s in PEERS if not chosen.quick or s in ("bf16 8", "fp32 8")]
    peers = {dtype: Contestant(dtype, chosen) for dtype in {setting.split()[0] for setting in settings}}
    ours = Contestant(OURS, chosen)
    best = settings[0] if len(settings) == 1 else find_best_peer(peers, settings, tasks, min(4, chosen.limit))
    dtype, batch = best.split()
    print(f"\n{'task':<16}{'items':>6}{'requests':>10}{'smidgen s':>11}{'lm-eval s':>11}{'ratio':>8}{'same':>7}")
    cases = []
    for task in tasks:
        case = compare(task, chosen.limit, {OURS: ours, best: peers[dtype]}, int(batch), chosen.rounds)
        figures = f"{case['ours']:>11.2f}{case['peer']:>11.2f}{case['ratio']:>8.2f}{case['same_decisions']:>7.0%}"
        print(f"{task:<16}{case['items']:>6}{case['requests']:>10}{figures}", flush=True)
        cases.append(case)
    for contestant in (ours, *peers.values()):
        contestant.close()
    mine, theirs, my_cpu, their_cpu = (
        sum(case[side] for case in cases) for side in ("ours", "peer", "ours_cpu", "peer_cpu")
    )
    print(f"{'all':<16}{'':>16}{mine:>11.2f}{theirs:>11.2f}{theirs / mine:>8.2f}   bar {BAR}")
    print(f"{'all, CPU time':<16}{'':>16}{my_cpu:>11.2f}{their_cpu:>11.2f}{their_cpu / my_cpu:>8.2f}")
    result = {
        "bench": "score",
        "ratio": round(theirs / mine, 3),
        "cpu_ratio": round(their_cpu / my_cpu, 3),
        "ours": round(mine, 2),
        "peer": round(theirs, 2),
        "unit": f"seconds for {sum(case['items'] for case in cases)} items of {len(cases)} tasks, {MODEL}; peer {best}",
        "hardware": describe_hardware(),
        "versions": {name: version(name) for name in ("torch", "transformers", "lm_eval")},
        "seed": SEED,
        "cases": cases,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
