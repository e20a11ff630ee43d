"""Matches: who plays whom, all of them at once, one turn of each in every round, so that a model moves for many.

Scripted players are here; a model that plays is `evaluation.games.Policy`. Every decision has a seed of its own, made
of the match's seed and the number of the turn: what is drawn depends neither on other matches nor on their order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from smidgen.errors import ConfigError
from smidgen.seeds import derive_seed
from smidgen.tasks.games.game import Game, Outcome


@dataclass(frozen=True, slots=True)
class Move:
    """What a player answers when it is its turn."""

    text: str
    record: Any = None
    """What the player keeps of how it came about: of a model, the sequence it generated."""


class Player(Protocol):
    """Somebody who plays."""

    @property
    def name(self) -> str:
        """Return what it is called in results."""
        ...

    def moves(self, games: Sequence[Game], seeds: Sequence[int]) -> list[Move]:
        """Return a move for each of some games in which it is this player's turn, with one seed for each."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """One move of a match."""

    role: int
    seen: str
    """What the role saw."""
    move: Move


@dataclass(eq=False)
class Match:
    """Two players, a game and a seed; then the turns and the outcome."""

    game: Game
    players: tuple[Player, Player]
    """Who plays role 0 and role 1; the same player may play both."""
    seed: int
    opening: int = 0
    """Moves made at random before the players begin: no turns of theirs; fewer where so many would end the game."""
    turns: list[Turn] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome:
        """Return how it ended. Raises ConfigError while it goes on."""
        if self.game.outcome is None:
            raise ConfigError(f"a match of {self.game.name} was not played to its end. Use play_matches.")
        return self.game.outcome


def play_matches(matches: Sequence[Match]) -> None:
    """Play all matches to their end; in every round each player moves once for all games that wait for it."""
    for match in matches:
        match.turns.clear()
        _open(match)
    going = list(matches)
    while going:
        waiting: dict[int, list[Match]] = {}
        for match in going:
            waiting.setdefault(id(match.players[match.game.to_move]), []).append(match)
        for several in waiting.values():
            _play_turns(several)
        going = [match for match in going if match.game.outcome is None]


def _open(match: Match) -> None:
    """Begin a match, and make the moves of its opening."""
    careless = random_player()
    for n in range(match.opening, -1, -1):
        match.game.reset(match.seed)
        for number in range(n):
            if match.game.outcome is None:
                match.game.play(careless.moves([match.game], [derive_seed(match.seed, "opening", number)])[0].text)
        if match.game.outcome is None:
            return


def _play_turns(matches: Sequence[Match]) -> None:
    """Let one player move in each of some matches."""
    player = matches[0].players[matches[0].game.to_move]
    seeds = [derive_seed(match.seed, len(match.turns)) for match in matches]
    games = [match.game for match in matches]
    seen = [game.observation(game.to_move) for game in games]
    for match, told, move in zip(matches, seen, player.moves(games, seeds), strict=True):
        match.turns.append(Turn(match.game.to_move, told, move))
        match.game.play(move.text)


@dataclass(frozen=True)
class Scripted:
    """A player that needs no model: from a game to the chances of its moves."""

    name: str
    chances: Callable[[Game], Mapping[str, float]]

    def moves(self, games: Sequence[Game], seeds: Sequence[int]) -> list[Move]:
        """Draw a move for each game."""
        return [Move(self._draw(game, Random(seed))) for game, seed in zip(games, seeds, strict=True)]

    def _draw(self, game: Game, rng: Random) -> str:
        chances = self.chances(game)
        return rng.choices(list(chances), list(chances.values()))[0]


def random_player() -> Scripted:
    """Return a player that knows the rules and nothing else."""
    return Scripted("random", lambda game: game.careless_moves())


def optimal_player() -> Scripted:
    """Return a player that makes no mistake; its first move raises ConfigError where nobody knows how."""
    return Scripted("optimal", lambda game: game.best_moves())


def mixed_player(share: float = 0.5) -> Scripted:
    """Return a player that makes this share of its moves without a mistake and the others at random."""
    if not 0 <= share <= 1:
        raise ConfigError(f"a mixed player makes a share of its moves optimally, from 0 to 1; {share} is none.")

    def chances(game: Game) -> dict[str, float]:
        best = game.best_moves()
        mixed = {move: (1 - share) * chance for move, chance in game.careless_moves().items()}
        return mixed | {move: mixed.get(move, 0.0) + share * chance for move, chance in best.items()}

    return Scripted("mixed", chances)


PLAYERS: Mapping[str, Callable[[], Scripted]] = {
    "random": random_player,
    "optimal": optimal_player,
    "mixed": mixed_player,
}
"""Scripted players by name."""


def load_player(name: str) -> Scripted:
    """Return a scripted player by name. Raises ConfigError naming those there are."""
    if name not in PLAYERS:
        raise ConfigError(f"{name!r} is no player. Known: {', '.join(PLAYERS)}.")
    return PLAYERS[name]()
