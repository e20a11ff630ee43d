"""Self-play, end to end: a model learns the rules of a game from transcripts of random games, then to win by playing.

Three commands, as anybody would give them (docs/selfplay.md), and a line of JSON. The model after self-play stands
beside the same model before it (`peer`): wins against a random player, in both roles, sampled at temperature 1 on the
same seeds, with Wilson intervals. The ratio is of those wins; against an optimal player see `after` and `before`, where
at tic-tac-toe draws are all that can be won.

    python -m benchmarks.selfplay [--game tictactoe] [--learn 1m45s] [--play 6m] [--quick] [KEY=VALUE ...]

What follows goes to `smidgen adapt`: by.play.opponents={self=1,past=1} by.play.discount=1. Every part goes on where it
was stopped when the same command is given again with the same --out.
"""

import argparse
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from smidgen.planning.units import parse_time
from smidgen.runs import RunDirectory
from smidgen.runtime import describe_hardware

RECIPES = Path(__file__).resolve().parent.parent / "recipes"


def smidgen(*arguments: str | Path) -> None:
    """Give a command; a failed one ends the benchmark."""
    done = subprocess.run([sys.executable, "-m", "smidgen", *map(str, arguments)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def play(options: argparse.Namespace) -> RunDirectory:
    """Make transcripts, train on them, improve by self-play; return the last run."""
    out, seed = options.out, f"seed={options.seed}"
    games = (f"name={options.game.partition(':')[0]}", f"generator.game={options.game}")
    made = f"documents={options.documents}"
    smidgen("data", "synthesize", RECIPES / "games/tictactoe.toml", *games, made, seed, "--out", out / "games")
    train = ("train", RECIPES / "tictactoe.toml", f"data.path={out / 'games'}", "--time", options.learn)
    smidgen(*train, "--name", "rules", "--out", out)
    begins = ("--task", f"game:{options.game}", "--name", "play", "--out", out, "--limit", str(options.rated))
    # For playing alone: --time would be for the whole command, measuring included.
    budget = ("budget.type=time", f"budget.seconds={parse_time(options.play)}")
    smidgen("adapt", out / "rules", *begins, "--seed", str(options.seed), *budget, *options.settings)
    return RunDirectory(out / "play")


def summarize(figures: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Return the line of JSON."""
    before, after = (task["rates"] for task in figures["tasks"])
    ours, peer = (rates["random"]["both"]["wins"]["value"] for rates in (after, before))
    return {
        "bench": "selfplay",
        "ratio": round(ours / max(peer, 1 / options.rated), 4),
        "ours": ours,
        "peer": peer,
        "unit": "share of games won against a random player",
        "hardware": describe_hardware(),
        "versions": {name: metadata.version(name) for name in ("torch", "textarena")},
        "seed": options.seed,
        "game": options.game,
        "steps": figures["step"],
        "settings": options.settings,
        "before": before,
        "after": after,
        "gains": figures["gains"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="of the adaptation")
    parser.add_argument("--game", default="tictactoe")
    parser.add_argument("--documents", type=int, default=12_000, help="turns to learn the rules from")
    parser.add_argument("--learn", default="1m45s", help="time for learning the rules")
    parser.add_argument("--play", default="6m", help="time for self-play")
    parser.add_argument("--rated", type=int, default=1000, help="games against each player, before and after")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/selfplay"))
    parser.add_argument("--quick", action="store_true", help="a minute and a half in all: does it run, does it improve")
    options = parser.parse_args()
    if options.quick:
        options.learn, options.play, options.rated, options.out = "45s", "30s", 200, options.out / "quick"
    run = play(options)
    if not run.is_finished:
        raise SystemExit("Stopped. The same command goes on.")
    print(json.dumps(summarize(run.read_final_metrics(), options)))


if __name__ == "__main__":
    main()
