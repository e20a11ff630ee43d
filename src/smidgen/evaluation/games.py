"""A model at play: as a player in matches, and how often it wins, in each role, with an interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from smidgen.errors import ConfigError, DataError
from smidgen.evaluation.intervals import Estimate, estimate_share
from smidgen.inference import Engine, SamplingParams
from smidgen.seeds import derive_seed
from smidgen.tasks.games import Game, Match, Move, Player, game_maker, play_matches
from smidgen.tokenizers.chat import Message, encode_chat

MOVE_SYMBOLS = SamplingParams(temperature=1.0, max_symbols=16)
"""How a move is drawn: as the model is trained to play; the longest move of four games, an offer, has 25 bytes."""
KEPT_PROMPTS = 20_000
"""Encoded positions a player remembers: rendering a template takes longer than a small model's answer."""


class Policy:
    """A model as a player: sees a position as a message, and answers with a move."""

    def __init__(
        self,
        engine: Engine,
        params: SamplingParams = MOVE_SYMBOLS,
        name: str = "policy",
        vector: Float[Tensor, " n"] | None = None,
    ) -> None:
        """Take an engine with a tokenizer; `params.seed` is not read. `vector` is a TinyLoRA vector to play with.

        Raises ConfigError if the engine has no tokenizer.
        """
        if engine.tokenizer is None:
            raise ConfigError("a model plays in text: give its engine a tokenizer.")
        self.engine = engine
        self.params = params
        self.name = name
        self.vector = vector
        self._tokenizer = engine.tokenizer
        self._prompts: dict[str, list[int]] = {}

    def moves(self, games: Sequence[Game], seeds: Sequence[int]) -> list[Move]:
        """Return a move for each game, all generated together; each keeps the sequence it came of.

        Raises DataError if a position leaves no room for a move in the engine's context.
        """
        drawn = [self.params.model_copy(update={"seed": seed}) for seed in seeds]
        prompts = [self._prompt(game.observation(game.to_move)) for game in games]
        answers = [self.engine.add(prompt, own, self.vector) for prompt, own in zip(prompts, drawn, strict=True)]
        try:
            while any(answer.done is None for answer in answers):
                self.engine.step()
        finally:
            for answer in answers:
                self.engine.cancel(answer)
        return [Move(answer.text.strip(), answer) for answer in answers]

    def _prompt(self, seen: str) -> list[int]:
        ids = self._prompts.get(seen)
        if ids is None:
            if len(self._prompts) >= KEPT_PROMPTS:
                self._prompts.clear()
            ids = encode_chat(self._tokenizer, [Message("user", seen)], add_generation_prompt=True)
            if len(ids) >= self.engine.max_len:  # cut, it would be another position
                told = f"a position takes {len(ids)} symbols and leaves no room for a move in a context of"
                raise DataError(f"{told} {self.engine.max_len}. Take a model of a longer one, or a smaller game.")
            self._prompts[seen] = ids
        return ids


@dataclass(frozen=True)
class Results:
    """Shares of some matches, from one player's side."""

    wins: Estimate
    draws: Estimate
    losses: Estimate
    """Those by a wrong move too."""
    illegal: Estimate
    """Matches it lost by a move that the rules do not allow."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {name: getattr(self, name).as_dict() for name in ("wins", "draws", "losses", "illegal")}


@dataclass(frozen=True)
class WinRates:
    """How a player does against another."""

    game: str
    player: str
    opponent: str
    both: Results
    """Of all matches, half of them in each role."""
    roles: dict[str, Results]
    """By role; role 0 first."""
    rewards: tuple[float, ...]
    """What the player got in each match, for comparison of two players on the same seeds (`estimate_difference`)."""
    wrong: tuple[bool, ...]
    """Whether it lost the match by a move that the rules do not allow."""

    def __str__(self) -> str:
        lines = [f"{self.game}: {self.player} against {self.opponent}"]
        for role, results in {"both roles": self.both, **self.roles}.items():
            told = f"wins {results.wins}, draws {results.draws.value:.1%}, losses {results.losses.value:.1%}"
            lines.append(f"  {role}: {told}, by a wrong move {results.illegal.value:.1%}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        roles = {role: results.as_dict() for role, results in self.roles.items()}
        told = {"game": self.game, "player": self.player, "opponent": self.opponent}
        return {**told, "both": self.both.as_dict(), "roles": roles}


def win_rates(game: str, player: Player, opponent: Player, n: int = 400, seed: int = 0, at_once: int = 128) -> WinRates:
    """Play `n` matches, every other one with the roles exchanged, and return the shares with Wilson intervals.

    The same seed gives the same matches but for what the players do. Raises ConfigError if `n` is no even number.
    """
    if n < 2 or n % 2:
        raise ConfigError(f"{n} matches cannot be half in each role. Ask for an even number.")
    make = game_maker(game)
    games = [make() for _ in range(min(n, at_once))]
    ends: list[tuple[float, bool]] = []
    for start in range(0, n, len(games)):
        matches = [
            Match(own, (opponent, player) if number % 2 else (player, opponent), derive_seed(seed, "win_rates", number))
            for number, own in enumerate(games[: n - start], start=start)
        ]
        play_matches(matches)
        for number, match in enumerate(matches, start=start):
            side, outcome = number % 2, match.outcome
            ends.append((outcome.rewards[side], outcome.illegal == side))
    roles = {role: _results(ends[side::2]) for side, role in enumerate(_seats(games[0]))}
    rewards, wrong = zip(*ends, strict=True)
    return WinRates(game, player.name, opponent.name, _results(ends), roles, rewards, wrong)


def _seats(game: Game) -> tuple[str, str]:
    first, second = game.roles
    return f"as {first}", f"as {second}"


def _results(ends: Sequence[tuple[float, bool]]) -> Results:
    def share(holds: Callable[[float, bool], bool]) -> Estimate:
        return estimate_share([float(holds(reward, wrong)) for reward, wrong in ends])

    return Results(
        wins=share(lambda reward, wrong: reward > 0),
        draws=share(lambda reward, wrong: reward == 0),
        losses=share(lambda reward, wrong: reward < 0),
        illegal=share(lambda reward, wrong: wrong),
    )
