"""Games: textarena decides; what we say of a position, its moves and its best moves agrees with that everywhere."""

import random
from collections import Counter
from collections.abc import Iterator
from itertools import permutations, product

import pytest

from smidgen.errors import ConfigError, MissingExtraError
from smidgen.tasks.games import GAMES, Game, Match, arena, load_game, load_player, play_matches
from smidgen.tasks.games.kuhn import equilibrium
from smidgen.tasks.games.nim import nim_sum
from smidgen.tasks.games.tictactoe import Board, value

pytest.importorskip("textarena")
STYLES = ("compact", "textarena")


def random_games(name: str, n: int) -> Iterator[tuple[Game, random.Random]]:
    game, rng = load_game(name), random.Random(name)
    for seed in range(n):
        game.reset(seed)
        yield game, rng


def play_on(game: Game, rng: random.Random) -> None:
    game.play(rng.choice(game.legal_moves()))


@pytest.mark.parametrize("name", [f"{game}:style={style}" for game in GAMES for style in STYLES])
def test_every_move_called_legal_is_taken_and_every_game_ends_zero_sum(name: str):
    for game, rng in random_games(name, 20):
        turns = 0
        while game.outcome is None:
            play_on(game, rng)
            turns += 1
        assert game.outcome.illegal is None
        assert sum(game.outcome.rewards) == 0
        assert turns <= 30


@pytest.mark.parametrize("name", ["tictactoe", "nim", "kuhn"])
def test_every_move_not_called_legal_loses_at_once(name: str):
    moves = {
        "tictactoe": [str(square) for square in range(10)],
        "nim": [f"{pile} {taken}" for pile in range(4) for taken in range(7)],
        "kuhn": ["check", "bet", "call", "fold"],
    }[name]
    for game, rng in random_games(name, 6):
        for _ in range(rng.randrange(3)):
            play_on(game, rng)
        if game.outcome is not None:
            continue
        role, legal = game.to_move, set(game.legal_moves())
        wrong = rng.choice([move for move in moves if move not in legal])
        outcome = game.play(wrong)
        assert outcome is not None
        assert outcome.illegal == role
        assert outcome.rewards[role] == -1


@pytest.mark.parametrize("wrong", ["", "what?", "4 5", "[4", "four", "-1", "4\n[5]", "９９", "\x00" * 9])
def test_babble_loses_and_never_raises(wrong: str):
    for name in ("tictactoe", "kuhn", "nim"):
        game = load_game(name)
        role = game.to_move
        if (outcome := game.play(wrong)) is not None:
            assert outcome.illegal == role


def test_talk_in_a_negotiation_is_no_wrong_move_but_what_one_has_not_cannot_be_offered():
    game = load_game("negotiation")
    assert game.play("let us be friends") is None
    outcome = game.play("Offer: 99 Ore -> 1 Wood")
    assert outcome is not None
    assert outcome.illegal == 1


@pytest.mark.parametrize("name", [*GAMES, "kuhn:style=textarena"])
def test_a_game_follows_from_seed_and_moves_whatever_is_drawn_around_it(name: str):
    def tell(noise: bool) -> list[str]:
        game, other, rng = load_game(name), load_game("kuhn"), random.Random(1)
        game.reset(5)
        told = []
        while game.outcome is None:
            told.append(game.observation(game.to_move))
            if noise:
                random.random()
                other.reset(len(told))
                play_on(other, rng_of_other)
            play_on(game, rng)
        return [*told, str(game.outcome)]

    rng_of_other = random.Random(2)
    assert tell(noise=False) == tell(noise=True)


def test_games_leave_the_generator_that_all_share_as_it_was():
    random.seed(7)
    expected = random.random()
    random.seed(7)
    game = load_game("kuhn")
    game.play("bet")
    assert random.random() == expected


def test_a_role_sees_nothing_of_what_is_hidden():
    """Deals that differ only in the other's card look the same."""
    seen: dict[str, set[int]] = {}
    game = load_game("kuhn")
    for seed in range(60):
        game.reset(seed)
        cards = game._env.state.game_state["player_cards"]  # type: ignore[attr-defined]
        mine, other = cards[game.to_move], cards[1 - game.to_move]
        assert f"card {'JQK'[mine]}" in game.observation(game.to_move)
        seen.setdefault(game.observation(game.to_move), set()).add(other)
    assert sorted(len(others) for others in seen.values()) == [2, 2, 2]


def test_tic_tac_toe_is_a_draw_and_our_search_says_who_won_as_textarena_does():
    assert value(Board("012345678", "O")) == 0
    for game, rng in random_games("tictactoe", 40):
        board = ["012345678"]
        while game.outcome is None:
            role = game.to_move
            move = rng.choice(game.legal_moves())
            game.play(move)
            board.append(board[-1].replace(move, "OX"[role]))
            worth = value(Board(board[-1], "OX"[1 - role]))
            if game.outcome is not None:
                assert worth == game.outcome.rewards[1 - role]


@pytest.mark.parametrize("first", ["optimal", "random", "mixed"])
def test_optimal_players_never_do_worse_than_the_game_allows(first: str):
    players = load_player(first), load_player("optimal")
    matches = [Match(load_game("tictactoe"), players, seed) for seed in range(40)]
    matches += [Match(load_game("tictactoe"), players[::-1], seed) for seed in range(40)]
    play_matches(matches)
    optimal = [match.outcome.rewards[match.players.index(players[1])] for match in matches]
    assert min(optimal) >= 0
    if first == "optimal":
        assert set(optimal) == {0.0}


def test_in_nim_who_is_not_left_with_sum_0_wins_and_plays_like_that():
    player = load_player("optimal")
    for piles in ("3-4-5", "1-2-3", "7-7", "1-1-1-1", "6"):
        match = Match(load_game(f"nim:piles={piles}"), (player, player), 0)
        play_matches([match])
        won = nim_sum(tuple(map(int, piles.split("-")))) != 0
        assert match.outcome.rewards[0] == (1 if won else -1)


LINES = ((), ("check",), ("bet",), ("check", "bet"))


def hand_value(cards: tuple[str, str], chances, history: tuple[str, ...] = ()) -> float:
    """Return chips of who begins, by Kuhn's rules written down again: antes of 1, a bet of 1, the higher card wins."""
    wins = 1 if "JQK".index(cards[0]) > "JQK".index(cards[1]) else -1
    if history[-1:] == ("fold",):
        return 1 if len(history) == 2 else -1
    if history[-1:] == ("call",) or history == ("check", "check"):
        return wins * (2 if history[-1] == "call" else 1)
    mover = len(history) % 2
    return sum(
        chance * hand_value(cards, chances, (*history, move))
        for move, chance in chances(mover, cards[mover], history).items()
    )


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1 / 3])
@pytest.mark.parametrize("seat", [0, 1])
def test_nobody_gains_on_the_equilibrium_of_kuhn(alpha: float, seat: int):
    """Every pure strategy of the other seat, all 64: who begins loses at least 1/18 of a chip, and not more."""
    own = LINES[:1] + LINES[3:] if seat == 1 else LINES[1:3]  # where the other, in seat 1 - seat, decides
    deals = list(permutations("JQK", 2))
    values = []
    for answers in product((0, 1), repeat=6):
        pure = dict(zip(product(own, "JQK"), answers, strict=True))

        def chances(mover: int, card: str, history: tuple[str, ...], pure=pure):
            if mover == seat:
                return equilibrium(card, history, alpha)
            moves = ("check", "bet") if history in LINES[:2] else ("fold", "call")
            return {moves[pure[history, card]]: 1.0}

        values.append(sum(hand_value(deal, chances) for deal in deals) / 6)
    worst = min(values) if seat == 0 else max(values)
    assert worst == pytest.approx(-1 / 18)


def test_a_called_bet_is_in_the_pot():
    """Without `put_in_bets` textarena plays a called bet for the antes alone, and Kuhn's equilibrium would be wrong."""
    lost = Counter()
    for moves in (("check", "check"), ("bet", "fold"), ("bet", "call"), ("check", "bet", "call")):
        game = load_game("kuhn:hands=2")
        for move in moves:
            game.play(move)
        chips = game._env.state.game_state["player_chips"]  # type: ignore[attr-defined]
        lost[moves] = abs(chips[0] - chips[1]) // 2
    assert list(lost.values()) == [1, 1, 2, 2]


def test_a_match_in_parts_is_the_match_alone():
    """What is drawn in a match depends neither on its companions nor on their order."""
    player = load_player("random")
    together = [Match(load_game("tictactoe"), (player, player), seed) for seed in range(10)]
    play_matches(together)
    alone = [Match(load_game("tictactoe"), (player, player), seed) for seed in reversed(range(10))]
    for match in alone:
        play_matches([match])
    assert [m.turns for m in together] == [m.turns for m in reversed(alone)]


def test_an_opening_is_random_moves_that_nobody_answers_for():
    player = load_player("optimal")
    matches = [Match(load_game("tictactoe"), (player, player), seed, opening=4) for seed in range(100)]
    play_matches(matches)
    assert all(len(match.turns) <= 5 for match in matches)
    assert len({match.turns[0].seen for match in matches}) > 20
    assert {match.outcome.rewards[0] for match in matches} == {-1, 0, 1}
    short = Match(load_game("nim:piles=1-1"), (player, player), 0, opening=9)
    play_matches([short])
    assert [turn.role for turn in short.turns] == [1]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("chess", "'chess' is no game. Known: tictactoe, kuhn"),
        ("tictacto", "Did you mean tictactoe?"),
        ("nim:piles=0-1", "greater than or equal to 1"),
        ("nim:5", "'5' is no option. Write key=value; keys: piles, style."),
        ("kuhn:hand=3", "did you mean 'hands'?"),
        ("kuhn:alpha=0.5", "game kuhn:alpha=0.5 is not valid"),
    ],
)
def test_bad_names_are_refused_in_words(name: str, told: str):
    with pytest.raises(ConfigError) as caught:
        load_game(name)
    assert told in str(caught.value)


def test_what_nobody_knows_is_refused():
    with pytest.raises(ConfigError, match="nobody knows optimal play"):
        load_game("negotiation").best_moves()
    with pytest.raises(ConfigError, match="Known: random, optimal, mixed"):
        load_player("grandmaster")
    game = load_game("nim:piles=1")
    game.play("0 1")
    with pytest.raises(ConfigError, match="is over"):
        game.play("0 1")


def test_without_textarena_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "textarena", None)
    with pytest.raises(MissingExtraError, match=r"smidgen\[games\]"):
        arena.load_library()
