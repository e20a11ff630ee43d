"""Games as training text: each turn a conversation of its own, what the player saw and what it did.

A position is told whole in every turn, so a turn needs no turn before it; a model trained on these reads a position and
answers with a move, which is how it is asked when it plays. `smidgen data synthesize` leaves copies out: of many games
there remains each position with each move that was made in it, once.
"""

from collections.abc import Iterator, Sequence

from smidgen.data.documents import Document
from smidgen.errors import ConfigError
from smidgen.seeds import derive_seed
from smidgen.tasks.games.game import Game
from smidgen.tasks.games.loading import load_game
from smidgen.tasks.games.match import Match, Player, load_player, play_matches
from smidgen.tokenizers.chat import Message


def transcripts(game: str, n: int, seed: int = 0, players: Sequence[str] = ("random",)) -> Iterator[Document]:
    """Yield the turns of `n` games as conversations, game after game; each game's two players are drawn from `players`.

    Raises ConfigError if there is no such game or player, or one that cannot play it.
    """
    if n < 1 or not players:
        raise ConfigError(f"{n} games of {len(players)} players make no text. Ask for at least one of each.")
    known: list[Player] = [load_player(name) for name in players]
    playing = load_game(game)
    for number in range(n):
        for place, (seen, move) in enumerate(record_game(playing, known, derive_seed(seed, "transcripts", number))):
            talk = (Message("user", seen), Message("assistant", move))
            yield Document(messages=talk, source=f"{game}:{number}:{place}")


def record_game(game: Game, players: Sequence[Player], seed: int) -> list[tuple[str, str]]:
    """Play a game between two drawn from the players; return what was seen and the move made, turn by turn."""
    first, second = (players[derive_seed(seed, role) % len(players)] for role in (0, 1))
    match = Match(game, (first, second), seed)
    play_matches([match])
    return [(turn.seen, turn.move.text) for turn in match.turns]
