"""Games as training text: each turn a conversation of its own, what the player saw and what it did.

A position is told whole in every turn, so a turn needs no turn before it; a model trained on these reads a position and
answers with a move, which is how it is asked when it plays. Training text is deduplicated: of many games there remains
each position with each move that was made in it, once.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from smidgen.data.documents import Document
from smidgen.errors import ConfigError
from smidgen.runs import atomic_write
from smidgen.seeds import derive_seed
from smidgen.tasks.games.loading import game_maker
from smidgen.tasks.games.match import Match, Player, load_player, play_matches
from smidgen.tokenizers.chat import Message


def transcripts(game: str, n: int, seed: int = 0, players: Sequence[str] = ("random",)) -> Iterator[Document]:
    """Yield the turns of `n` games as conversations, game after game; each game's two players are drawn from `players`.

    Raises ConfigError if there is no such game or player, or one that cannot play it.
    """
    if n < 1 or not players:
        raise ConfigError(f"{n} games of {len(players)} players make no text. Ask for at least one of each.")
    known: list[Player] = [load_player(name) for name in players]
    playing = game_maker(game)()
    for number in range(n):
        own = derive_seed(seed, "transcripts", number)
        first, second = (known[derive_seed(own, role) % len(known)] for role in (0, 1))
        match = Match(playing, (first, second), own)
        play_matches([match])
        for place, turn in enumerate(match.turns):
            talk = (Message("user", turn.seen), Message("assistant", turn.move.text))
            yield Document(messages=talk, source=f"{game}:{number}:{place}")


def write_transcripts(path: Path | str, game: str, n: int, seed: int = 0, players: Sequence[str] = ("random",)) -> int:
    """Write transcripts as a JSONL file that `smidgen train` reads; return how many turns it has.

    The folder must exist. Raises RunError if the file cannot be written.
    """
    lines = [
        json.dumps({"messages": [{"role": message.role, "content": message.content} for message in turn.messages]})
        for turn in transcripts(game, n, seed, players)
    ]
    atomic_write(Path(path), "\n".join(lines) + "\n")
    return len(lines)
