"""Tic-tac-toe: the board as nine marks, where a free square shows its own number; optimal play by searching it all.

tic-tac-toe X           move: 4
O 1 2
3 4 5
6 7 X
"""

import functools
from typing import NamedTuple

from smidgen.config import Config
from smidgen.tasks.games.game import Style
from smidgen.tasks.games.rules import Rules, State, evenly

MARKS = ("O", "X")
"""textarena's player 0 is O and begins."""
LINES = ("012", "345", "678", "036", "147", "258", "048", "246")
"""Squares that win together."""


class TicTacToeConfig(Config):
    """Options of `tictactoe`."""

    style: Style = "compact"
    """How the game is told."""


class Board(NamedTuple):
    """A position."""

    squares: str
    """Nine characters: O, X, or the number of a free square."""
    mark: str
    """Whose turn it is."""


def tictactoe(config: TicTacToeConfig) -> Rules[Board]:
    """Return the rules of tic-tac-toe."""
    return Rules("TicTacToe-v0", {}, MARKS, _position, _describe, _legal, lambda board: evenly(best_squares(board)))


def best_squares(board: Board) -> tuple[str, ...]:
    """Return the squares that keep the best outcome there is, whatever the other does."""
    values = {square: -value(_after(board, square)) for square in _legal(board)}
    most = max(values.values())
    return tuple(square for square, worth in values.items() if worth == most)


@functools.cache  # at most 5,478 positions
def value(board: Board) -> int:
    """Return what a position is worth to the mark that moves, both playing perfectly: 1, 0 or -1."""
    if any(len({board.squares[int(square)] for square in line}) == 1 for line in LINES):
        return -1  # the other has just made a line
    return max((-value(_after(board, square)) for square in _legal(board)), default=0)


def _after(board: Board, square: str) -> Board:
    return Board(board.squares.replace(square, board.mark), MARKS[1 - MARKS.index(board.mark)])


def _position(state: State, role: int) -> Board:
    cells = [cell for row in state["board"] for cell in row]
    return Board("".join(cell or str(number) for number, cell in enumerate(cells)), MARKS[role])


def _describe(board: Board) -> str:
    rows = [" ".join(board.squares[start : start + 3]) for start in (0, 3, 6)]
    return "\n".join([f"tic-tac-toe {board.mark}", *rows])


def _legal(board: Board) -> tuple[str, ...]:
    return tuple(square for square in board.squares if square.isdigit())
