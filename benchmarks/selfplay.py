"""Self-play, end to end: a model learns the rules of a game from transcripts of random games, then to win by playing.

The model after self-play stands beside the same model before it (`peer`): wins against a random and an optimal player,
in both roles, with Wilson intervals, all games sampled at temperature 1 on the same seeds. The ratio is of wins against
the random player. An optimal player cannot be beaten at tic-tac-toe: there, draws are what is won.

    python -m benchmarks.selfplay [--game tictactoe] [--learn 1m45s] [--play 6m] [--opponents self=1,past=1] [--quick]

Every part goes on where it was stopped when the same command is given again with the same --out.
"""

import argparse
import functools
import json
import subprocess
import sys
from pathlib import Path

import torch

from smidgen.checkpoint import load_model, load_training_state, save_model, save_training_state
from smidgen.evaluation.games import Policy, WinRates, win_rates
from smidgen.evaluation.intervals import estimate_difference
from smidgen.inference import Engine, prepare_for_decoding
from smidgen.models import Model
from smidgen.planning.units import parse_time
from smidgen.runtime import Runtime, describe_hardware, open_runtime
from smidgen.tasks.games import load_player, write_transcripts
from smidgen.tokenizers.base import Tokenizer
from smidgen.training import Outside, fit
from smidgen.training.config import TimeBudget
from smidgen.training.fine_tuning import fine_tuning_config
from smidgen.training.interrupts import stop_on_signals
from smidgen.training.objectives.policy import Policy as PolicyObjective
from smidgen.training.objectives.policy import PolicyConfig
from smidgen.training.outside import Saved
from smidgen.training.selfplay import Played, SelfPlay, SelfPlayConfig

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "tictactoe.toml"
RATED_BY = ("random", "optimal")


def learn_rules(options: argparse.Namespace) -> Path:
    """Write random games and train on them with the ordinary command; return its run."""
    games = options.out / "games"
    if not games.is_dir():
        games.mkdir(parents=True)
        turns = write_transcripts(games / "random.jsonl", options.game, options.games, options.seed)
        print(f"{options.games:,} random games, {turns:,} turns: {games}", flush=True)
    command = [sys.executable, "-m", "smidgen", "train", str(RECIPE), f"data.path={games}", "--name", "rules"]
    subprocess.run([*command, "--time", options.learn, "--out", str(options.out)], check=True)
    return options.out / "rules"


def tell(played: Played) -> None:
    if played.step % 10 == 0:
        scores = ", ".join(f"{name.partition('/')[2]} {score:+.2f}" for name, score in played.scores.items())
        print(f"step {played.step}: {scores}; illegal {played.illegal:.1%}; {played.seconds:.1f} s of play", flush=True)


def play(model: Model, tokenizer: Tokenizer, options: argparse.Namespace, runtime: Runtime) -> tuple[int, str]:
    """Improve a model by self-play, in place; return steps and how it ended."""
    weights = dict(part.split("=") for part in options.opponents.split(","))
    config = SelfPlayConfig(
        game=options.game,
        matches=options.matches,
        opponents={name: float(share) for name, share in weights.items()},
        opening=options.opening,
        discount=options.discount,
    )
    folder, states = options.out / "selfplay", options.out / "selfplay" / "checkpoints"
    selfplay = SelfPlay(model, tokenizer, config, options.seed, runtime, folder, tell)
    objective = PolicyConfig()
    budget = TimeBudget(seconds=parse_time(options.play))
    train = fine_tuning_config("full", objective, budget, options.learning_rate)

    def load() -> Saved | None:
        newest = load_training_state(states)
        return None if newest is None else (newest.step, newest.tensors, newest.meta)

    with stop_on_signals() as should_stop:
        save = functools.partial(save_training_state, states)
        outside = Outside(save_state=save, load_state=load, should_stop=should_stop, checkpoint_seconds=60)
        done = fit(model, selfplay.batches_from, PolicyObjective(objective), train, runtime, outside)
    return done.step, done.ended


def rate(model: Model, tokenizer: Tokenizer, options: argparse.Namespace) -> dict[str, WinRates]:
    """Return the win rates of a model against the scripted players."""
    engine = Engine(prepare_for_decoding(model, torch.float32), tokenizer, max_rows=128)
    rates = {}
    for name in RATED_BY:
        rates[name] = win_rates(options.game, Policy(engine), load_player(name), options.rated, options.seed)
        print(rates[name], flush=True)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="tictactoe")
    parser.add_argument("--games", type=int, default=6000, help="random games to learn the rules from")
    parser.add_argument("--learn", default="1m45s", help="time for learning the rules")
    parser.add_argument("--play", default="6m", help="time for self-play")
    parser.add_argument("--opponents", default="self=1", help="self=2,past=1,random=1: shares of the matches")
    parser.add_argument("--opening", type=int, default=4, help="random moves, at most, before a match begins")
    parser.add_argument("--discount", type=float, default=0.7, help="what a move counts of what the next one does")
    parser.add_argument("--matches", type=int, default=64, help="matches of a step")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--rated", type=int, default=1000, help="games against each player, before and after")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/selfplay"))
    parser.add_argument("--quick", action="store_true", help="a minute and a half in all: does it run, does it improve")
    options = parser.parse_args()
    if options.quick:
        options.learn, options.play, options.rated, options.out = "45s", "30s", 200, options.out / "quick"
    options.out.mkdir(parents=True, exist_ok=True)
    rules = learn_rules(options)
    runtime = open_runtime("fp32", "cpu")
    torch.manual_seed(options.seed)
    loaded = load_model(rules, dtype=torch.float32)
    print(f"\nBefore self-play, {sum(w.numel() for w in loaded.model.parameters()):,} parameters:")
    before = rate(loaded.model, loaded.tokenizer, options)
    steps, ended = play(loaded.model, loaded.tokenizer, options, runtime)
    if ended != "budget":
        raise SystemExit(f"Stopped after {steps} steps. The same command goes on.")
    save_model(options.out / "model", loaded.model, loaded.tokenizer)
    print(f"\nAfter {steps} steps of {options.matches} matches:")
    after = rate(loaded.model, loaded.tokenizer, options)
    gains = {
        name: estimate_difference(after[name].rewards, before[name].rewards, options.seed).as_dict() for name in before
    }
    ours, peer = (rates["random"].both.wins.value for rates in (after, before))
    summary = {
        "bench": "selfplay",
        "ratio": round(ours / max(peer, 1 / options.rated), 4),
        "ours": ours,
        "peer": peer,
        "unit": "share of games won against a random player",
        "hardware": describe_hardware(),
        "versions": {"torch": torch.__version__},
        "seed": options.seed,
        "game": options.game,
        "steps": steps,
        "matches": options.matches,
        "opponents": options.opponents,
        "opening": options.opening,
        "discount": options.discount,
        "before": {name: rates.as_dict() for name, rates in before.items()},
        "after": {name: rates.as_dict() for name, rates in after.items()},
        "reward_gained": gains,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
