"""A model that learns by playing: matches, many at once, against itself and others, as batches for the one `fit`.

Both roles are one model, told by the prompt which it is. Each turn is a row: what was seen, what was answered; what the
match earned its role is compared with what that role has earned against such an opponent so far, because who begins may
win more often without playing better. Source: SPIRAL (Liu et al. 2025, arXiv 2506.24119).

What is played in a step follows from seed, step, weights and what earlier steps left (`past.PlayMemory`). With a
directory that is on disk, and a run that was killed goes on bit for bit.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, field_validator

from smidgen.config import Config
from smidgen.data.batch import Batch
from smidgen.evaluation.games import MOVE_SYMBOLS, Policy
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.models import Model
from smidgen.runtime import Runtime
from smidgen.seeds import derive_seed
from smidgen.tasks.games import PLAYERS, Game, Match, Player, game_maker, load_player, play_matches
from smidgen.tokenizers.base import Tokenizer
from smidgen.training.advantages import role_advantages
from smidgen.training.past import PastSelf, PlayMemory, trained_weights
from smidgen.training.policy_batches import Answered, policy_batches
from smidgen.training.rollouts import answering, follow

OPPONENTS = ("self", "past", *PLAYERS)
"""Whom a model can learn against."""


class SelfPlayConfig(Config):
    """How a game is played to learn it: how often, against whom, and what each move is credited with."""

    matches: Annotated[int, Field(ge=1)] = 64
    """Matches of a step, on each rank."""
    opponents: dict[str, Annotated[float, Field(gt=0)]] = Field(default={"self": 1.0}, min_length=1)
    """Whom it plays, and which share of the matches: self, past, random, optimal, mixed; several make a mixture."""
    opening: Annotated[int, Field(ge=0)] = 4
    """Moves made at random before a match begins: from none to this many, drawn. A model that plays itself soon opens
    always alike, and forgets what it would meet elsewhere."""
    sampling: SamplingParams = MOVE_SYMBOLS
    """How moves are drawn; seeds are given to each. Log-probabilities are the model's own, at temperature 1."""
    baseline_decay: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """How much of what a role has earned on average a match leaves of it; 0.95 in SPIRAL."""
    discount: Annotated[float, Field(gt=0, le=1)] = 0.7
    """What a role's move counts of what its next one does; below 1, the last moves are blamed and praised most. 1 in
    SPIRAL; with openings, 0.7 at a rate of 5e-4 won 61.5% against chance in 4 minutes, 1 at 3e-4 52.8% in 6 (LOG.md,
    2026-11-22)."""
    past_every: Annotated[int, Field(ge=1)] = 10
    """Steps after which the weights are kept as a past self; the first ones are."""
    past_kept: Annotated[int, Field(ge=1)] = 10
    """Past selves that are played against: the newest; of each step all meet the same one, drawn."""
    max_rows: Annotated[int, Field(ge=1)] = 128
    """Most moves under way at once."""
    micro_symbols: Annotated[int, Field(ge=1)] = 8192
    """Most symbols of a micro-batch, padding included."""
    kernels: Literal["prepared", "training"] = "prepared"
    """What moves: a copy of the model laid out for decoding, or the very model that trains, slower."""

    @field_validator("opponents")
    @classmethod
    def _check(cls, opponents: dict[str, float]) -> dict[str, float]:
        unknown = [name for name in opponents if name not in OPPONENTS]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no opponent. Known: {', '.join(OPPONENTS)}.")
        return opponents


@dataclass(frozen=True)
class Played:
    """What the matches of one step showed."""

    step: int
    scores: Mapping[str, float]
    """Mean reward of each role against each opponent, by `game/role/opponent`."""
    illegal: float
    """Share of the model's matches that it lost by a move the rules do not allow, a role at a time."""
    at_once: float
    """Share of the matches that it lost so with the first move of a role."""
    turns: int
    """Turns of the model, each a row of the step's batches."""
    seconds: float
    sample: tuple[str, ...]
    """The moves of the first match."""

    def as_record(self) -> dict[str, Any]:
        """Return plain values for the metrics log."""
        told = {"step": self.step, "illegal": self.illegal, "at_once": self.at_once, "turns": self.turns}
        told |= {"seconds": round(self.seconds, 3), "scores": dict(self.scores), "sample": list(self.sample)}
        return {"kind": "selfplay", **told}


@dataclass(eq=False)
class SelfPlay:
    """The batches of self-play: a step's matches are played when the step asks for them.

    Raises ConfigError if the game, or optimal play of it where that is asked for, is not known.
    """

    model: Model
    """What trains; what moves is it, or a copy for decoding that follows it."""
    tokenizer: Tokenizer
    game: str
    """The game, with its options: `kuhn:hands=5`."""
    config: SelfPlayConfig
    seed: int
    runtime: Runtime
    directory: Path | None = None
    """Where baselines and past selves are kept, for each rank its own; None: in memory alone."""
    on_played: Callable[[Played], object] = lambda played: None
    oldest_state: Callable[[], int] = lambda: 0
    """Returns the earliest step that a killed run could go on from: past selves that were met then stay on disk."""

    def __post_init__(self) -> None:
        """Open the engine and set up the games."""
        config, runtime, directory = self.config, self.runtime, self.directory
        own = self.model if config.kernels == "training" else prepare_for_decoding(self.model, runtime.dtype)
        self.policy = Policy(Engine(own, self.tokenizer, max_rows=config.max_rows), config.sampling)
        if directory is not None and runtime.world > 1:
            directory = directory / f"rank-{runtime.rank}"
        self.memory = PlayMemory(directory, config.past_kept)
        make = game_maker(self.game)
        self._games = [make() for _ in range(config.matches)]
        self._scripted = {name: load_player(name) for name in config.opponents if name in PLAYERS}
        for name in self._scripted:
            _check_plays(self._scripted[name], self._games[0])

    def batches_from(self, step: int) -> Iterator[list[Batch]]:
        """Yield the micro-batches of a step, then of every step after it, for this rank.

        Raises RunError for a step whose earlier steps left nothing to go on from.
        """
        self.memory.resume(step)
        for number in count(step):
            yield self.play(number)

    def play(self, step: int) -> list[Batch]:
        """Play the matches of a step and return the model's turns as micro-batches."""
        began, config = time.perf_counter(), self.config
        if "past" in config.opponents and step % config.past_every == 0:
            self.memory.keep(step, trained_weights(self.model), self.oldest_state())
        follow(self.policy.engine, self.model)
        matches = self._pair(step)
        with answering(self.policy.engine.model):
            play_matches(matches)
        seats = [_Seat(match, role) for match in matches for role in (0, 1) if match.players[role] is self.policy]
        rewards = torch.tensor([seat.reward for seat in seats])
        names = [seat.name for seat in seats]
        advantages, baselines = role_advantages(rewards, names, self.memory.baselines, config.baseline_decay)
        answers: list[Answered] = []
        rated: list[float] = []
        for seat, advantage in zip(seats, advantages.tolist(), strict=True):
            answers += seat.answers
            rated += spread(advantage, len(seat.answers), config.discount)
        batches = policy_batches([answers], torch.tensor([rated]), config.micro_symbols)
        played = _see(step, seats, matches, time.perf_counter() - began)
        self.memory.finish(step, baselines, played.as_record())
        self.on_played(played)
        return batches

    def _pair(self, step: int) -> list[Match]:
        """Return a step's matches: so many against each opponent, the roles exchanged from match to match."""
        opponents = [name for name, n in _shares(self.config) for _ in range(n)]
        players: dict[str, Player] = {"self": self.policy, **self._scripted}
        if self.memory.selves:
            past = Random(derive_seed(self.seed, "past", step, self.runtime.rank)).choice(self.memory.selves)
            players["past"] = PastSelf(self.policy, self.model, past)
        matches = []
        for number, (game, name) in enumerate(zip(self._games, opponents, strict=True)):
            sides = (self.policy, players[name])
            first, second = sides if (number + step) % 2 == 0 else sides[::-1]
            seed = derive_seed(self.seed, step, self.runtime.rank, number)
            opening = derive_seed(seed, "opening") % (self.config.opening + 1)
            matches.append(Match(game, (first, second), seed, opening))
        return matches


def spread(advantage: float, n: int, discount: float) -> list[float]:
    """Return what each of a role's `n` moves is credited with: the last with all, each before it with less."""
    return [advantage * discount**left for left in reversed(range(n))]


@dataclass(frozen=True)
class _Seat:
    """The model in one role of one match."""

    match: Match
    role: int

    @property
    def reward(self) -> float:
        return self.match.outcome.rewards[self.role]

    @property
    def name(self) -> str:
        """The role by which it is compared: who is opposite counts too, a draw is much against one who errs never."""
        other = self.match.players[1 - self.role]
        opponent = "self" if other is self.match.players[self.role] else other.name
        return f"{self.match.game.name}/{self.match.game.roles[self.role]}/{opponent}"

    @property
    def answers(self) -> list[Answered]:
        return [turn.move.record for turn in self.match.turns if turn.role == self.role]


def _check_plays(player: Player, game: Game) -> None:
    """Let a player move once. Raises ConfigError if it cannot play this game."""
    game.reset(0)
    player.moves([game], [0])


def _shares(config: SelfPlayConfig) -> list[tuple[str, int]]:
    """Return how many matches each opponent gets: its share, rounded so that all are played."""
    total = sum(config.opponents.values())
    shares = {name: config.matches * weight / total for name, weight in config.opponents.items()}
    counts = {name: int(share) for name, share in shares.items()}
    left = config.matches - sum(counts.values())
    for name in sorted(shares, key=lambda name: counts[name] - shares[name])[:left]:
        counts[name] += 1
    return list(counts.items())


def _see(step: int, seats: Sequence[_Seat], matches: Sequence[Match], seconds: float) -> Played:
    earned: dict[str, list[float]] = {}
    for seat in seats:
        earned.setdefault(seat.name, []).append(seat.reward)
    wrong = [seat for seat in seats if seat.match.outcome.illegal == seat.role]
    return Played(
        step=step,
        scores={name: sum(rewards) / len(rewards) for name, rewards in sorted(earned.items())},
        illegal=len(wrong) / len(seats),
        at_once=sum(len(seat.answers) == 1 for seat in wrong) / len(matches),
        turns=sum(len(seat.answers) for seat in seats),
        seconds=seconds,
        sample=tuple(turn.move.text for turn in matches[0].turns),
    )
