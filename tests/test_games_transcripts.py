"""Games as text: each turn a conversation, right moves only, the same from a seed, read by the ordinary reader."""

from collections import Counter

import pytest

from smidgen.errors import ConfigError
from smidgen.tasks.games import load_game, transcripts

pytest.importorskip("textarena")


def test_transcripts_follow_from_their_seed():
    one, two, other = (list(transcripts("kuhn", 5, seed)) for seed in (1, 1, 2))
    assert one == two
    assert one != other


def test_a_game_played_again_from_its_transcript_ends_as_it_did():
    turns = list(transcripts("tictactoe", 3, seed=4))
    for number in range(3):
        game = load_game("tictactoe")
        for turn in (turn for turn in turns if turn.source.startswith(f"tictactoe:{number}:")):
            seen, made = turn.messages
            assert seen.content == game.observation(game.to_move)
            game.play(made.content)
        assert game.outcome is not None
        assert game.outcome.illegal is None


def test_optimal_transcripts_hold_no_mistake():
    for turn in transcripts("nim", 4, players=["optimal"]):
        sizes = [int(size) for size in turn.messages[0].content.splitlines()[1].split()[1:]]
        pile, taken = map(int, turn.messages[1].content.split())
        before = sizes[0] ^ sizes[1] ^ sizes[2]
        after = before ^ sizes[pile] ^ (sizes[pile] - taken)
        assert before == 0 or after == 0


def test_players_take_turns_at_random():
    first = Counter(turn.messages[1].content for turn in transcripts("nim", 60, players=["optimal", "random"])
                    if turn.source.endswith(":0"))  # fmt: skip
    assert first["0 2"] > 25
    assert len(first) > 5


@pytest.mark.parametrize(("n", "players"), [(0, ("random",)), (1, ())])
def test_no_games_are_refused(n: int, players: tuple[str, ...]):
    with pytest.raises(ConfigError, match="make no text"):
        list(transcripts("nim", n, players=players))
