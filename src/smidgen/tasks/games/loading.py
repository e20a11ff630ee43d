"""From what a person types to a game: `tictactoe`, `nim:piles=1-2-3`, `kuhn:hands=5,style=textarena`."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from smidgen.config import Config, apply_overrides, validate_config
from smidgen.errors import ConfigError
from smidgen.tasks.games.arena import ArenaGame, load_library
from smidgen.tasks.games.game import Game
from smidgen.tasks.games.kuhn import KuhnConfig, kuhn
from smidgen.tasks.games.negotiation import NegotiationConfig, negotiation
from smidgen.tasks.games.nim import NimConfig, nim
from smidgen.tasks.games.rules import Rules
from smidgen.tasks.games.tictactoe import TicTacToeConfig, tictactoe
from smidgen.tasks.options import full_name


@dataclass(frozen=True)
class GameKind:
    """A game before its options are known."""

    config: type[Config]
    """Its options, `style` among them."""
    rules: Callable[[Any], Rules[Any]]
    """Its rules, given them."""


GAMES: Mapping[str, GameKind] = {
    "tictactoe": GameKind(TicTacToeConfig, tictactoe),
    "kuhn": GameKind(KuhnConfig, kuhn),
    "nim": GameKind(NimConfig, nim),
    "negotiation": GameKind(NegotiationConfig, negotiation),
}
"""Games by name."""


def load_game(text: str) -> Game:
    """Return the game that `name[:key=value,...]` means.

    Raises ConfigError if there is no such game or option, MissingExtraError without the textarena library.
    """
    return game_maker(text)()


def game_maker(text: str) -> Callable[[], Game]:
    """Return what makes as many games of a kind as are asked for; read once, since many are played at a time."""
    name, _, options = text.partition(":")
    if name not in GAMES:
        near = difflib.get_close_matches(name, GAMES, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{text!r} is no game.{hint} Known: {', '.join(GAMES)}.")
    kind = GAMES[name]
    config: Any = _read(text, options, kind.config)
    rules, library, named = kind.rules(config), load_library(), full_name(name, options)
    return lambda: ArenaGame(named, rules, config.style, library)


def _read(text: str, options: str, config: type[Config]) -> Config:
    said = [part.strip() for part in options.split(",") if part.strip()]
    wrong = next((part for part in said if "=" not in part), None)
    if wrong is not None:
        raise ConfigError(
            f"game {text}: {wrong!r} is no option. Write key=value; keys: {', '.join(config.model_fields)}."
        )
    return validate_config(apply_overrides({}, said), config, f"game {text}")
