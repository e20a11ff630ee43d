"""What is learned with how many numbers: the ladder of adapters by rewards, by right answers and by search.

Every cell is `smidgen adapt` with a method, a rung and a seed for the same processor time, so that other work on the
machine takes nothing from it; the whole test set is asked, and of the base only once. The table has strict and lenient
scores, means over seeds, beside the base and the base shown worked examples; the page draws them against trained
numbers. A cell that is done is not done again: stop at any moment, the same command goes on.

    python -m benchmarks.adapter_ladder [--out DIR] [--jobs 2] [--seconds 240] [--seeds 0,1,2] [--only rl,search]
    python -m benchmarks.adapter_ladder --scale 0.3 --seeds 7     # other learning rates, on a seed of its own
"""

import argparse
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

import smidgen.reports
from smidgen.reports.chart import Dot, Level, Measure, draw_dots
from smidgen.reports.quantities import count
from smidgen.runs import atomic_write

MODEL, TASK, SYMBOLS = "smollm2-135m", "arithmetic", 32
BASE, CONTROL, ADAPTED = "base", "base, shown examples", "adapted"
RUNGS = ("tinylora:1", "tinylora:13", "tinylora:120", "lora_xs:r=2", "lora_xs:r=7", "lora_xs:r=22", "lora:r=3")
"""1, 13, 120, 840, 10,290, 101,640 and 915,840 numbers."""
SEARCHED = RUNGS[:3]
"""Only TinyLoRA's vectors can be brought by rows."""
RATES = {
    "rl": {"tinylora": 2e-2, "lora_xs": 2e-3, "lora_xs:r=22": 6e-4, "lora": 5e-4},
    "sft": {"tinylora": 1e-2, "lora_xs": 4e-3, "lora": 5e-4},
}
"""By rung, else by kind. With 2e-3 by rewards lora_xs:r=22 answered nothing any more after ten steps: its update has
ten times the numbers of r=7, each of which moves as far."""
METHODS = ("rl", "sft", "search")
SCORES = ("strict", "lenient")


@dataclass(frozen=True)
class Cell:
    """One adaptation."""

    method: str
    rung: str
    seed: int
    scale: float

    @property
    def name(self) -> str:
        told = f"{self.method}-{self.rung.replace(':', '-').replace('=', '')}-{self.seed}"
        return told if self.scale == 1 else f"{told}-x{self.scale:g}"

    def command(self, out: Path, seconds: float) -> list[str]:
        told = [sys.executable, "-m", "smidgen", "adapt", MODEL, "--task", TASK, "--adapter", self.rung]
        told += ["--by", self.method, "--seed", str(self.seed), "--name", self.name, "--out", str(out)]
        if self.method != "search":
            rates = RATES[self.method]
            rate = rates.get(self.rung, rates.get(self.rung.partition(":")[0]))
            assert rate is not None
            told += ["--lr", f"{self.scale * rate:g}"]
        if self.method == "rl":
            told.append(f"by.rollouts.sampling.max_symbols={SYMBOLS}")
        if self.method == "search":
            told.append(f"by.sampling.max_symbols={SYMBOLS}")
        return [*told, "budget.type=time", f"budget.seconds={seconds:g}", "budget.clock=processor"]


def cells(chosen: argparse.Namespace) -> list[Cell]:
    """Return every cell, a seed after the other, so that a study that is stopped has whole seeds."""
    asked = [(method, rung) for method in chosen.only for rung in (SEARCHED if method == "search" else RUNGS)]
    return [Cell(method, rung, seed, chosen.scale) for seed, (method, rung) in product(chosen.seeds, asked)]


def work(cell: Cell, chosen: argparse.Namespace) -> None:
    """Do a cell, or go on with it, unless it is done."""
    run = chosen.out / cell.name
    if result(run) is not None:
        return
    kept = chosen.out / "base.json"
    if kept.is_file() and not (run / "examined.json").is_file():
        run.mkdir(parents=True, exist_ok=True)
        atomic_write(run / "examined.json", kept.read_text(encoding="utf-8"))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (chosen.out / f"{cell.name}.txt").open("a", encoding="utf-8") as log:
        ended = subprocess.run(
            cell.command(chosen.out, chosen.seconds), stdout=log, stderr=subprocess.STDOUT, env=environment
        )
    if ended.returncode:
        print(f"{cell.name}: ended with {ended.returncode}, see {chosen.out / cell.name}.txt", flush=True)
        return
    if not kept.is_file():
        examined = json.loads((run / "examined.json").read_text(encoding="utf-8"))
        atomic_write(kept, json.dumps({who: examined[who] for who in (BASE, CONTROL)}) + "\n")
    told = result(run)
    if told is not None:
        print(f"{cell.name}: {told['strict']:.1%} strict, {told['lenient']:.1%} lenient, {told['steps']} steps")


def result(run: Path) -> dict | None:
    """Return a cell's figures, or None if it is not done."""
    metrics = run / "metrics.json"
    if not metrics.is_file():
        return None
    figures = json.loads(metrics.read_text(encoding="utf-8"))
    if not figures.get("finished"):
        return None
    scores = {name.partition(", ")[2]: task for task in figures["tasks"] if (name := task["name"])}
    adapted = scores[ADAPTED]
    gains = {(gain["against"], gain["score"]): gain for gain in figures["gains"]}
    return {
        "numbers": figures["adapter_parameters"],
        "steps": figures["step"],
        "n": adapted["n"],
        **{score: adapted[score]["value"] for score in SCORES},
        "formatted": adapted["format"]["value"],
        "p": gains[BASE, "strict"]["p"],
        "p_beyond_form": gains[CONTROL, "strict"]["p"] if (CONTROL, "strict") in gains else None,
    }


def summarize(chosen: argparse.Namespace) -> list[dict]:
    """Return one row a method and rung, over the seeds that are done."""
    rows = []
    every = cells(chosen)
    for method, rung in dict.fromkeys((cell.method, cell.rung) for cell in every):
        found = [
            told
            for cell in every
            if (cell.method, cell.rung) == (method, rung) and (told := result(chosen.out / cell.name)) is not None
        ]
        if not found:
            continue
        row = {"method": method, "rung": rung, "numbers": found[0]["numbers"], "seeds": len(found), "n": found[0]["n"]}
        for score in (*SCORES, "formatted"):
            values = [one[score] for one in found]
            row[score] = fmean(values)
            row[f"{score}_error"] = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        row["steps"] = round(fmean(one["steps"] for one in found))
        row["largest_p"] = max(one["p"] for one in found)
        beyond = [one["p_beyond_form"] for one in found if one["p_beyond_form"] is not None]
        row["largest_p_beyond_form"] = max(beyond) if beyond else None
        rows.append(row)
    return rows


def table(rows: list[dict], base: dict) -> str:
    """Return the results in Markdown."""
    lines = ["| by | adapter | numbers | seeds | steps | strict | lenient | format | p against base, at most |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for who in (BASE, CONTROL):
        shares = [f"{base[who]['figures'][score]['value']:.1%}" for score in (*SCORES, "format")]
        lines.append(f"| | {who} | | | | {' | '.join(shares)} | |")
    for row in rows:
        shares = [_share(row, score) for score in (*SCORES, "formatted")]
        told = "< 0.0001" if row["largest_p"] < 1e-4 else f"{row['largest_p']:.2g}"
        numbers = f"{row['numbers']:,} | {row['seeds']} | {row['steps']}"
        lines.append(f"| {row['method']} | {row['rung']} | {numbers} | {' | '.join(shares)} | {told} |")
    return "\n".join(lines) + "\n"


def _share(row: dict, score: str) -> str:
    error = row[f"{score}_error"]
    return f"{row[score]:.1%}" + (f" ± {100 * error:.1f}" if error is not None else "")


def figure(rows: list[dict], base: dict, score: str) -> str:
    """Return a score against the number of trained numbers: a line a method, beside what training nothing earns."""
    measure = Measure(
        f"{score} score",
        False,
        lambda v: f"{v:.1%}",
        lambda v: f"{100 * v:.1f} points",
        lambda v: f"{100 * v:.3g}%",
    )
    dots = [
        Dot(
            k + 1,
            f"{row['method']} {row['rung']}",
            row["numbers"],
            row[score],
            row[f"{score}_error"],
            METHODS.index(row["method"]),
        )
        for k, row in enumerate(rows)
    ]
    levels = [Level(who, base[who]["figures"][score]["value"]) for who in (BASE, CONTROL)]
    return draw_dots(dots, "trained numbers", count, measure, levels, METHODS)


def style() -> str:
    place = Path(smidgen.reports.__file__ or "").parent
    return "".join((place / name).read_text(encoding="utf-8") for name in ("report.css", "study.css"))


def page(rows: list[dict], base: dict, heading: str) -> str:
    """Return a page with both scores."""
    figures = "".join(f"<figure>{figure(rows, base, score)}</figure>" for score in SCORES)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{heading}</title><style>{style()}</style>'
        f"<main><h1>{heading}</h1>{figures}</main></html>\n"
    )


def picture(rows: list[dict], base: dict) -> str:
    """Return the strict score as a file of its own, for a page that holds no style."""
    drawn = figure(rows, base, "strict")
    head, rest = drawn[: drawn.index(">")], drawn[drawn.index(">") + 1 :]
    look = 'width="720" height="480" style="background: var(--card); font-family: sans-serif"'
    return f'{head} xmlns="http://www.w3.org/2000/svg" {look}><style>{style()}</style>{rest}\n'


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/adapter-ladder"))
    parser.add_argument("--jobs", type=int, default=2, help="cells at once, one thread each")
    parser.add_argument("--seconds", type=float, default=240.0, help="processor time of learning in each cell")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(METHODS), help="methods")
    parser.add_argument("--scale", type=float, default=1.0, help="times the learning rates of gradient methods")
    parser.add_argument("--quick", action="store_true", help="two rungs by rewards, one seed, half a minute each")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    todo = cells(chosen)
    if chosen.quick:
        chosen.seconds, chosen.out = 30.0, chosen.out.with_name("adapter-ladder-quick")
        todo = [cell for cell in todo if cell.method == "rl" and cell.rung in ("tinylora:13", "lora:r=3")][:2]
    chosen.out.mkdir(parents=True, exist_ok=True)
    if not (chosen.out / "base.json").is_file():
        work(todo[0], chosen)  # alone: what it learns of the base is not asked again
    with ThreadPoolExecutor(chosen.jobs) as pool:
        list(pool.map(lambda cell: work(cell, chosen), todo))
    rows = summarize(chosen)
    base = json.loads((chosen.out / "base.json").read_text(encoding="utf-8"))
    told = table(rows, base)
    atomic_write(chosen.out / "results.md", told)
    heading = f"{MODEL}, {TASK}: what is learned with how many numbers"
    atomic_write(chosen.out / "results.html", page(rows, base, heading))
    atomic_write(chosen.out / "strict.svg", picture(rows, base))
    print(told)
    from smidgen.runtime import describe_hardware

    best = max(rows, key=lambda row: row["strict"])
    before = base[CONTROL]["figures"]["strict"]["value"]
    result_line = {
        "bench": "adapter_ladder",
        "ratio": round(best["strict"] / before, 3) if before else None,
        "ours": best["strict"],
        "peer": before,
        "unit": f"strict score on {best['n']} questions: {best['method']} {best['rung']}; peer: {CONTROL}",
        "hardware": describe_hardware(),
        "versions": {name: version(name) for name in ("torch", "cmaes")},
        "seed": chosen.seeds[0],
        "rows": rows,
    }
    print(json.dumps(result_line))


if __name__ == "__main__":
    main()
