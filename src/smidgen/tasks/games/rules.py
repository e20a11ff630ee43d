"""What this house knows of one of textarena's games; the rules themselves, and who won, are textarena's alone.

Everything we say about a game is a function of a *position*: a small immutable value holding what one role may know.
"""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

P = TypeVar("P")

State = Mapping[str, Any]
"""textarena's own state of a game, with both roles' secrets: its `game_state`, with `turn` and `max_turns` added."""


@dataclass(frozen=True)
class Rules(Generic[P]):
    """One game as this house reads it."""

    environment: str
    """textarena's name for the game."""
    settings: Mapping[str, Any]
    """What textarena's environment is made with."""
    roles: tuple[str, str]
    """What textarena's player 0 and player 1 are called in our prompts."""
    position: Callable[[State, int], P]
    """Takes out of the state what a role, whose turn it is, may know."""
    describe: Callable[[P], str]
    """Tells a position in a few lines, role first."""
    legal: Callable[[P], tuple[str, ...]]
    """Lists the moves of a position without textarena's brackets; where there are too many, some that are legal."""
    best: Callable[[P], Mapping[str, float]] | None = None
    """Returns with what probability optimal play makes each move; None where nobody knows."""
    careless: Callable[[P], Mapping[str, float]] | None = None
    """Returns with what probability a player makes each move that knows the rules and nothing else; None: evenly."""
    repair: Callable[[MutableMapping[str, Any], str], None] | None = None
    """Sets right, before an action, what textarena's prompt promises of it and its code forgets."""


def evenly(moves: tuple[str, ...]) -> dict[str, float]:
    """Return moves that are equally good, each as likely as the others."""
    return dict.fromkeys(moves, 1 / len(moves))
