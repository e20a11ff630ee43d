"""The suite's choices by our scorer and by lm-evaluation-harness' HF backend: the same files, every item, SmolLM2-135M.

Both sides are asked in turn, a chunk of items of a task each (A B A B), and what each said of every candidate is kept
in OUT/TASK.jsonl: stop at any moment, the same command goes on, and tells what is there. The table has the metric of
each task by both, with our interval, the share of items decided alike, and the ratio of seconds.

    python -m benchmarks.suite [--data DIR] [--out DIR] [--tasks a,b] [--limit N] [--seconds N] [--threads N]
"""

import argparse
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.score import MODEL, OURS, SEED, TASKS, Contestant, Said, decisions, load_items
from smidgen.evaluation.choices import Answer, score_item
from smidgen.evaluation.intervals import estimate_share
from smidgen.runs import read_records
from smidgen.runtime import describe_hardware
from smidgen.tasks.choice import ChoiceItem, ChoiceTask
from smidgen.tasks.suite import load_suite_task

CHUNK = 50
SIDES = (OURS, "lm-eval")


def ask(task: str, items: list[ChoiceItem], chosen: argparse.Namespace, sides: dict[str, Contestant]) -> list[dict]:
    """Return what both said of a task's items, asking for those that are not known yet while there is time."""
    path = chosen.out / f"{task}.jsonl"
    known = read_records(path) if path.is_file() else []
    with path.open("a", encoding="utf-8") as file:
        while len(known) < len(items) and time.monotonic() < chosen.until:
            here = slice(len(known), min(len(known) + CHUNK, len(items)))
            told = {side: contestant.ask(task, here, chosen.batch) for side, contestant in sides.items()}
            n = here.stop - here.start
            seconds = {side: answer["seconds"] / n for side, answer in told.items()}
            for at, item in enumerate(items[here]):
                record = {"id": item.id, "seconds": seconds, "said": {side: told[side]["said"][at] for side in sides}}
                file.write(json.dumps(record) + "\n")
                known.append(record)
            file.flush()
    return known


def row(task: ChoiceTask, items: list[ChoiceItem], known: list[dict]) -> dict:
    """Return a task's figures."""
    told: dict = {"task": task.name, "version": task.version, "metric": task.main, "items": len(known), "of": task.rows}
    said: dict[str, Said] = {side: [record["said"][side] for record in known] for side in SIDES}
    for side in SIDES:
        scores = []
        for item, choices in zip(items, said[side], strict=False):
            answer = Answer(tuple(nats for nats, _ in choices), tuple(greedy for _, greedy in choices), (), 0)
            scores.append(score_item(item, answer, task).scores[task.main])
        told[side] = estimate_share(scores).as_dict()
        told[f"{side} seconds"] = sum(record["seconds"][side] for record in known)
    mine, theirs = map(decisions, said.values())
    told["same"] = sum(a == b for a, b in zip(mine, theirs, strict=True)) / len(known)
    return told


def table(rows: list[dict]) -> str:
    """Return the figures in Markdown."""
    lines = [
        "| task | version | metric | items | smidgen | 95% | lm-eval, HF | same decision | seconds, theirs / ours |"
    ]
    lines.append("| --- | --- | --- | ---: | ---: | --- | ---: | ---: | ---: |")
    for one in rows:
        mine, theirs = one[OURS], one["lm-eval"]
        asked = f"{one['items']:,}" + (f" of {one['of']:,}" if one["items"] < one["of"] else "")
        ratio = one["lm-eval seconds"] / one[f"{OURS} seconds"]
        lines.append(
            f"| {one['task']} | {one['version']} | {one['metric']} | {asked} | {mine['value']:.1%} | "
            f"{mine['low']:.1%} to {mine['high']:.1%} | {theirs['value']:.1%} | {one['same']:.1%} | {ratio:.2f} |"
        )
    return "\n".join(lines) + "\n"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/eval"), help="folder of the sets")
    parser.add_argument("--out", type=Path, default=Path("runs/suite"))
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--limit", type=int, default=sys.maxsize, help="items of each task, spread evenly; all")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="ask nothing new after as long")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=8, help="of the peer; what was best in benchmarks.score")
    parser.add_argument("--dtype", default="bf16", help="of the peer")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    if not chosen.data.is_dir():
        sys.exit(f"{chosen.data}: is no folder. --data names the one of the evaluation sets (docs/evaluation.md).")
    chosen.until = time.monotonic() + chosen.seconds
    chosen.out.mkdir(parents=True, exist_ok=True)
    loaded = load_items(chosen)
    sides = {OURS: Contestant(OURS, chosen), "lm-eval": Contestant(chosen.dtype, chosen)}
    rows = []
    for name, items in sorted(loaded.items(), key=lambda pair: len(pair[1])):
        known = ask(name, items, chosen, sides)
        if known:
            rows.append(row(load_suite_task(name, chosen.data), items, known))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    for contestant in sides.values():
        contestant.close()
    (chosen.out / "results.md").write_text(table(rows), encoding="utf-8")
    print("\n" + table(rows))
    ours, peer = (sum(one[f"{side} seconds"] for one in rows) for side in SIDES)
    result = {
        "bench": "suite",
        "ratio": round(peer / ours, 3),
        "ours": round(ours, 1),
        "peer": round(peer, 1),
        "unit": f"seconds for {sum(one['items'] for one in rows)} items of {len(rows)} tasks, {MODEL}",
        "hardware": describe_hardware(),
        "versions": {name: version(name) for name in ("torch", "transformers", "lm_eval")},
        "seed": SEED,
        "rows": rows,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
