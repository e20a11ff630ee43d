"""Two-player zero-sum text games: textarena's rules and outcomes, told so that a tiny model can read them.

GAMES is the visible list. Who plays is in `match`; games as training text in `transcripts`. Pure text: a model that
plays is `evaluation.games.Policy`, one that learns by playing is `training.selfplay`.
"""

from smidgen.tasks.games.game import Game, Outcome
from smidgen.tasks.games.loading import GAMES, game_maker, load_game
from smidgen.tasks.games.match import PLAYERS, Match, Move, Player, load_player, play_matches
from smidgen.tasks.games.transcripts import record_game, transcripts

__all__ = [
    "GAMES",
    "PLAYERS",
    "Game",
    "Match",
    "Move",
    "Outcome",
    "Player",
    "game_maker",
    "load_game",
    "load_player",
    "play_matches",
    "record_game",
    "transcripts",
]
