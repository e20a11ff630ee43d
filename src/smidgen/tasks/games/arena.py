"""The one place that knows the textarena library: it keeps the rules and says who won, we read and write text.

Source: Guertler et al. 2025, TextArena, arXiv 2504.11442. What it needs of us: it draws from Python's own generator,
which all games and everything else in the process share, so each game here brings its own along; and it gives a second
chance after a wrong move, which is taken away.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic

from smidgen.errors import ConfigError, MissingExtraError
from smidgen.tasks.games.game import Outcome, Style
from smidgen.tasks.games.rules import P, Rules, evenly


@dataclass(frozen=True)
class Library:
    """What is used of textarena."""

    make: Callable[..., Any]
    """Makes an environment by name."""
    remember: Callable[[Any], Any]
    """Wraps one so that a player sees all it was ever told."""


def load_library() -> Library:
    """Import textarena. Raises MissingExtraError if it is not installed."""
    try:
        import textarena
        from textarena.wrappers import LLMObservationWrapper
    except ImportError:
        raise MissingExtraError("playing games", "games") from None
    return Library(textarena.make, LLMObservationWrapper)


class ArenaGame(Generic[P]):
    """A game of textarena, told in its own words or in ours. See `game.Game`."""

    def __init__(self, name: str, rules: Rules[P], style: Style, library: Library) -> None:
        self.name = name
        self._rules = rules
        self._style: Style = style
        self._library = library
        self._outcome: Outcome | None = None
        self.reset(0)

    @property
    def roles(self) -> tuple[str, str]:
        """Return what role 0 and role 1 are called."""
        return self._rules.roles

    @property
    def outcome(self) -> Outcome | None:
        """Return how it ended; None while it goes on."""
        return self._outcome

    @property
    def to_move(self) -> int:
        """Return the role whose turn it is."""
        return self._env.state.current_player_id

    def reset(self, seed: int) -> None:
        """Begin anew, in a fresh environment: one that was played in keeps its deck as it was last shuffled."""
        self._env = self._library.make(f"{self._rules.environment}-raw", **self._rules.settings)
        self._told = self._library.remember(self._env)
        self._outcome = None
        self._random = random.getstate()  # replaced by what the environment's own seeding leaves
        with self._own_random():
            self._env.reset(num_players=2, seed=seed)
        self._env.state.error_allowance = 0

    def observation(self, role: int) -> str:
        """Return what a role may know; in textarena's style, all that it was told so far."""
        if self._style == "compact":
            return self._rules.describe(self._position(role))
        pending = self._env.state.observations[role]
        self._env.state.observations[role] = []
        return self._told.observation(role, pending).strip()

    def legal_moves(self) -> tuple[str, ...]:
        """Return the moves of the role whose turn it is."""
        return tuple(map(self._worded, self._rules.legal(self._position(self.to_move))))

    def careless_moves(self) -> Mapping[str, float]:
        """Return with what probability a player makes each move that knows the rules and nothing else."""
        position, careless = self._position(self.to_move), self._rules.careless
        return self._wordings(careless(position) if careless else evenly(self._rules.legal(position)))

    @property
    def is_solved(self) -> bool:
        """Return whether optimal play is known."""
        return self._rules.best is not None

    def best_moves(self) -> Mapping[str, float]:
        """Return with what probability optimal play makes each move. Raises ConfigError where nobody knows."""
        if self._rules.best is None:
            raise ConfigError(f"game {self.name}: nobody knows optimal play. Other opponents: self, past, random.")
        return self._wordings(self._rules.best(self._position(self.to_move)))

    def play(self, move: str) -> Outcome | None:
        """Make a move; in our style it needs no brackets, and has none."""
        if self._outcome is not None:
            raise ConfigError(f"game {self.name} is over ({self._outcome.reason}): reset it before another move.")
        action = move if self._style == "textarena" else f"[{move.strip().replace('[', '').replace(']', '')}]"
        if self._rules.repair:
            self._rules.repair(self._env.state.game_state, action)
        with self._own_random():
            done, _ = self._env.step(action)
        if done:
            rewards, told = self._env.close()
            illegal = next((role for role in (0, 1) if told[role]["invalid_move"]), None)
            self._outcome = Outcome((float(rewards[0]), float(rewards[1])), str(told[0]["reason"]), illegal)
        return self._outcome

    def _position(self, role: int) -> P:
        state = self._env.state
        return self._rules.position({**state.game_state, "turn": state.turn, "max_turns": state.max_turns}, role)

    def _wordings(self, chances: Mapping[str, float]) -> dict[str, float]:
        return {self._worded(move): chance for move, chance in chances.items() if chance > 0}

    def _worded(self, move: str) -> str:
        return move if self._style == "compact" else f"[{move}]"

    @contextmanager
    def _own_random(self) -> Iterator[None]:
        """Let the game draw from its own generator, and leave everybody else's as it was."""
        others = random.getstate()
        random.setstate(self._random)
        try:
            yield
        finally:
            self._random = random.getstate()
            random.setstate(others)
