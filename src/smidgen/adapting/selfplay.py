"""Learning a game by playing it, and the exam that shows what came of it: matches against players without a model."""

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from smidgen.adapting.config import Adaptation, SelfPlayMethod
from smidgen.adapting.examine import Marks, score_name
from smidgen.adapting.lesson import Learned, Lesson, fit_lesson
from smidgen.checkpoint import LoadedModel, oldest_training_step
from smidgen.errors import ConfigError, TrainingError
from smidgen.evaluation.games import MOVE_SYMBOLS, Policy, WinRates, win_rates
from smidgen.evaluation.intervals import estimate_share
from smidgen.inference import Engine, SamplingParams
from smidgen.surgery.config import FullConfig
from smidgen.tasks.games import Game, load_game, load_player
from smidgen.training.selfplay import Played, SelfPlay

MATCHES = 400
"""Against each player: a share of a half is known to 5 points."""
SMALL = 10_000_000
"""Parameters below which a model is small."""
FULL_RATE = 5e-4
"""Peak learning rate of all weights of a small model: 0.8M parameters gained 25 points against chance in 4 minutes; at
1e-3 they were certain of their moves within 30 steps, and learned no more (LOG.md, 2026-11-22)."""


@dataclass(frozen=True)
class Games:
    """Matches against each of some players, half of them in each role; draws and openings are the same each time."""

    name: str
    """The game, with its options."""
    players: tuple[str, ...]
    """Whom the model meets: random, and optimal where optimal play is known."""
    matches: int
    """Matches against each."""
    sampling: SamplingParams
    """How moves are drawn."""
    rows: int = 128

    @property
    def parts(self) -> Mapping[str, str]:
        """One part for each player."""
        return {f"against {player}": f"games against the {player} player" for player in self.players}

    @property
    def scores(self) -> Mapping[str, str]:
        """What became of a match."""
        return {"wins": "won", "draws": "drawn", "losses": "lost", "wrong moves": "by wrong moves"}

    def why_no_control(self, shots: int) -> str | None:
        """Say that a game has no worked examples."""
        return f"{self.name} is a game."

    def sit(self, engine: Engine, shots: int) -> Marks:
        """Play all matches."""
        began, policy = time.perf_counter(), Policy(engine, self.sampling)
        rates = {name: win_rates(self.name, policy, load_player(name), self.matches) for name in self.players}
        grades = {
            score_name(score, f"against {name}"): marks
            for name, rate in rates.items()
            for score, marks in zip(self.scores, _grades(rate), strict=True)
        }
        figures: dict[str, Any] = {
            "n": self.matches * len(rates),
            "unit": "games",
            "seconds": time.perf_counter() - began,
        }
        shares = [{"name": name, **estimate_share(marks).as_dict()} for name, marks in grades.items()]
        return Marks(
            figures | {"shares": shares, "rates": {name: rate.as_dict() for name, rate in rates.items()}}, grades
        )


def open_games(asked: Adaptation, loaded: LoadedModel, say: Callable[[str], object]) -> Games:
    """Return the exam of a game, which the model can at least read.

    Raises ConfigError if there is no such game, or the model knows no conversations, MissingExtraError without the
    textarena library, DataError if the model's context is too short.
    """
    assert asked.game is not None
    game = load_game(asked.game)
    players = ("random", "optimal") if game.is_solved else ("random",)
    if not game.is_solved:
        say(f"Nobody knows optimal play of {game.name}: it is measured against the random player alone.")
    matches = MATCHES if asked.test_examples is None else asked.test_examples
    if matches % 2:
        raise ConfigError(f"{matches} matches cannot be half in each role. Give --limit an even number.")
    symbols = asked.test_symbols or MOVE_SYMBOLS.max_symbols
    sampling = MOVE_SYMBOLS.model_copy(update={"max_symbols": symbols})
    _require_reader(game, loaded, sampling)
    return Games(asked.game, players, matches, sampling)


def _require_reader(game: Game, loaded: LoadedModel, sampling: SamplingParams) -> None:
    """Have the model read the first position."""
    if loaded.tokenizer.chat_template is None:
        raise ConfigError("this model has no chat template, so it cannot be told a position. Take one that converses.")
    loaded.model.eval()
    Policy(Engine(loaded.model, loaded.tokenizer, max_rows=1), sampling).moves([game], [0])


def learn_by_play(lesson: Lesson, config: SelfPlayMethod) -> Learned:
    """Play matches, and make the moves of who won likelier.

    Raises TrainingError, after the first step's matches, if there is nothing to learn from.
    """
    game, speak = lesson.asked.game, lesson.speaker()
    assert game is not None

    def see(played: Played) -> None:
        lesson.tell(played.as_record())
        if played.step == 0 and played.at_once == 1:
            raise TrainingError(
                f"no first move of {config.play.matches} matches was a legal one, such as {played.sample[0]!r}: there "
                "is nothing to learn from. Teach it the rules first, from transcripts (docs/selfplay.md)."
            )
        scores = ", ".join(f"{name.partition('/')[2]} {score:+.2f}" for name, score in played.scores.items())
        speak(f"step {played.step + 1:,}: {scores}; {played.illegal:.1%} lost by wrong moves, {played.seconds:.1f} s")

    source = SelfPlay(
        lesson.model,
        lesson.tokenizer,
        game,
        config.play,
        lesson.asked.seed,
        lesson.runtime,
        lesson.run.path / "selfplay",
        see,
        functools.partial(oldest_training_step, lesson.run.checkpoints),
    )
    return fit_lesson(lesson, source.batches_from, config.objective, config.learning_rate or _rate(lesson))


def _rate(lesson: Lesson) -> float | None:
    """Return where to begin with all weights of a small model; of anything else `fine_tuning_config` knows."""
    small = lesson.adapter.n_parameters < SMALL
    return FULL_RATE if small and isinstance(lesson.asked.adapter, FullConfig) else None


def _grades(rates: WinRates) -> tuple[list[float], ...]:
    """Return wins, draws, losses and wrong moves, match by match."""
    wins, draws, losses = ([float(holds(r)) for r in rates.rewards] for holds in _OUTCOMES)
    return wins, draws, losses, [float(wrong) for wrong in rates.wrong]


_OUTCOMES: tuple[Callable[[float], bool], ...] = (lambda r: r > 0, lambda r: r == 0, lambda r: r < 0)
