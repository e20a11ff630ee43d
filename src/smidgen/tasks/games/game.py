"""What a two-player game is here: a seed, two roles, text to read, text to play, and one of three outcomes for each.

Games are zero-sum and end. A move that the rules do not allow loses at once, as in SPIRAL (arXiv 2506.24119): a player
that cannot keep to the form has nothing to gain from it. Pure text; no model, no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Style = Literal["compact", "textarena"]
"""How a game is told: in a few lines of ours that a model of a million parameters can read, or as textarena does."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a game ended."""

    rewards: tuple[float, float]
    """What each role gets: 1 for a win, -1 for a loss, 0 for a draw; together 0."""
    reason: str
    """Why, in textarena's words."""
    illegal: int | None = None
    """The role that lost by a move the rules do not allow; None if the game was played to its end."""


class Game(Protocol):
    """One game, played again after each `reset`; `name` is how it was asked for, options included."""

    name: str

    @property
    def roles(self) -> tuple[str, str]:
        """Return what role 0 and role 1 are called in the game's prompts."""
        ...

    @property
    def outcome(self) -> Outcome | None:
        """Return how it ended; None while it goes on."""
        ...

    @property
    def to_move(self) -> int:
        """Return the role whose turn it is."""
        ...

    def reset(self, seed: int) -> None:
        """Begin anew; the same seed and moves make the same game, whatever other games are played meanwhile."""
        ...

    def observation(self, role: int) -> str:
        """Return all that a role needs to choose its move: who it is, and what it may know."""
        ...

    def legal_moves(self) -> tuple[str, ...]:
        """Return the moves of the role whose turn it is, as `play` takes them.

        Where there are too many to list, as offers in a negotiation, some that are legal.
        """
        ...

    def careless_moves(self) -> Mapping[str, float]:
        """Return with what probability a player makes each move now that knows the rules and nothing else."""
        ...

    @property
    def is_solved(self) -> bool:
        """Return whether optimal play is known."""
        ...

    def best_moves(self) -> Mapping[str, float]:
        """Return with what probability optimal play makes each move now.

        Raises ConfigError for a game whose optimal play nobody knows.
        """
        ...

    def play(self, move: str) -> Outcome | None:
        """Make the move of the role whose turn it is; return the outcome if that ends the game."""
        ...
