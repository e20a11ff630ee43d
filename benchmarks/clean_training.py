"""Does cleaning pay: a model trained on a messy slice as it is, beside one trained on the same slice cleaned.

Both sides go through `smidgen data prepare`, one without any step and one with those that are recommended, each with a
vocabulary of its own text, then through `smidgen train` with the same recipe for the same processor time, then through
`smidgen eval` on the same clean text that neither has seen. What is done is not done again: stop at any moment, the
same command goes on. Bar: fewer bits per byte after cleaning, by the mean over seeds.

    python -m benchmarks.clean_training --data DIR --held-out FILE [--seconds 120] [--seeds 0,1,2] [--jobs 2] [--quick]
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

from smidgen.runs import atomic_write
from smidgen.runtime import describe_hardware

RECIPE = Path(__file__).parents[1] / "recipes" / "studies" / "tokens-3m.toml"
SIDES = {"raw": "steps = []\n", "clean": ""}
"""What each side's pipeline says of its steps; nothing: what is recommended for English."""
HELD_OUT_BYTES = 400_000


def run(chosen: argparse.Namespace, log: str, *arguments: str) -> str:
    """Run a verb on one thread and return what it printed; what it said stays in a file."""
    with (chosen.out / f"{log}.txt").open("a", encoding="utf-8") as told:
        command = [sys.executable, "-m", "smidgen", *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=told, text=True, check=True
        ).stdout


def prepare(side: str, chosen: argparse.Namespace) -> Path:
    """Return the shards of a side, made unless they are there."""
    pipeline, folder = chosen.out / f"{side}.toml", chosen.out / side
    said = f'name = "{side}"\n{SIDES[side]}[[sources]]\nname = "messy"\npath = {json.dumps(str(chosen.data))}\n'
    atomic_write(pipeline, said + '[output]\ntokenizer = { type = "bpe", vocab_size = 4096 }\n')
    if not (folder / "manifest.json").is_file():
        run(chosen, side, "data", "prepare", str(pipeline), "--out", str(folder))
    return folder


def measure(side: str, seed: int, chosen: argparse.Namespace) -> float:
    """Train a cell unless it is done, and return its bits per byte of the held-out text."""
    name = f"{side}-{seed}"
    told = chosen.out / f"{name}.json"
    if not told.is_file():
        data = f'data={{type="prepared",path={json.dumps(str(chosen.out / side))}}}'
        budget = [f"train.budget.seconds={chosen.seconds:g}", "train.budget.clock=processor", "train.samples=0"]
        named = ["--out", str(chosen.out / "runs"), f"name={name}", f"seed={seed}"]
        run(chosen, name, "train", str(RECIPE), data, *budget, *named)
        scored = run(
            chosen,
            name,
            *("eval", str(chosen.out / "runs" / name), str(chosen.held_out), "--json"),
            *("--max-bytes", str(HELD_OUT_BYTES)),
        )
        atomic_write(told, scored)
    return float(json.loads(told.read_text(encoding="utf-8"))["validation"]["bits_per_byte"])


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="messy text: a file or folder")
    parser.add_argument("--held-out", type=Path, required=True, help="clean text of the same kind, in neither side")
    parser.add_argument("--out", type=Path, default=Path("runs/clean-training"))
    parser.add_argument("--seconds", type=float, default=120.0, help="processor time of training in each cell")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="cells at once, one thread each")
    parser.add_argument("--quick", action="store_true", help="ten seconds each, one seed")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    chosen.data, chosen.held_out = chosen.data.resolve(), chosen.held_out.resolve()
    if chosen.quick:
        chosen.seconds, chosen.seeds, chosen.out = 10.0, [0], chosen.out.with_name(f"{chosen.out.name}-quick")
    chosen.out.mkdir(parents=True, exist_ok=True)
    for side in SIDES:
        prepare(side, chosen)
    cells = [(side, seed) for seed, side in product(chosen.seeds, SIDES)]
    with ThreadPoolExecutor(chosen.jobs) as pool:
        bits = dict(zip(cells, pool.map(lambda cell: measure(*cell, chosen), cells), strict=True))
    print(f"{'seed':<8}{'raw':>10}{'clean':>10}{'gained':>10}")
    gains = [bits["raw", seed] - bits["clean", seed] for seed in chosen.seeds]
    for seed, gain in zip(chosen.seeds, gains, strict=True):
        print(f"{seed:<8}{bits['raw', seed]:>10.4f}{bits['clean', seed]:>10.4f}{gain:>+10.4f}")
    error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None
    print(f"mean{fmean(gains):>+34.4f}" + (f" ± {error:.4f}" if error is not None else ""))
    means = {side: fmean(bits[side, seed] for seed in chosen.seeds) for side in SIDES}
    result = {
        "bench": "clean_training",
        "ratio": round(means["raw"] / means["clean"], 4),
        "ours": round(means["clean"], 4),
        "peer": round(means["raw"], 4),
        "unit": f"bits per byte of clean text after {chosen.seconds:g} s, bar: ratio above 1",
        "gains": [round(gain, 4) for gain in gains],
        "standard_error": error,
        "hardware": describe_hardware(),
        "versions": {"torch": version("torch")},
        "seeds": chosen.seeds,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
