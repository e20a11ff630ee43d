"""Nim: take any number from one pile; who takes the last object wins. Optimal play by the nim-sum.

    nim as player 0         move: 2 1 (from pile 2 take 1)
    piles 3 0 5

Source: Bouton 1901, doi 10.2307/1967631.
"""

import functools
import operator
from typing import Annotated, Any, NamedTuple

from pydantic import Field, field_validator

from smidgen.config import Config
from smidgen.tasks.games.game import Style
from smidgen.tasks.games.rules import Rules, State, evenly

ROLES = ("player 0", "player 1")


class NimConfig(Config):
    """Options of `nim`."""

    piles: Annotated[tuple[Annotated[int, Field(ge=1, le=99)], ...], Field(min_length=1, max_length=9)] = (3, 4, 5)
    """Objects of each pile at the beginning; `3-4-5` where a list would end an option."""
    style: Style = "compact"
    """How the game is told."""

    @field_validator("piles", mode="before")
    @classmethod
    def _split(cls, piles: Any) -> Any:
        parts = str(piles).split("-") if isinstance(piles, str | int) else []
        return tuple(map(int, parts)) if parts and all(map(str.isdecimal, parts)) else piles


class Piles(NamedTuple):
    """A position."""

    sizes: tuple[int, ...]
    role: str


def nim(config: NimConfig) -> Rules[Piles]:
    """Return the rules of Nim."""
    return Rules("Nim-v0", {"piles": list(config.piles)}, ROLES, _position, _describe, _legal, _best)


def nim_sum(sizes: tuple[int, ...]) -> int:
    """Return the sum without carrying: who leaves 0 wins, and from 0 every move leaves something else."""
    return functools.reduce(operator.xor, sizes)


def _best(piles: Piles) -> dict[str, float]:
    total = nim_sum(piles.sizes)
    winning = tuple(
        f"{pile} {size - (size ^ total)}" for pile, size in enumerate(piles.sizes) if total and size ^ total < size
    )
    return evenly(winning or _legal(piles))


def _position(state: State, role: int) -> Piles:
    return Piles(tuple(state["piles"]), ROLES[role])


def _describe(piles: Piles) -> str:
    return f"nim as {piles.role}\npiles {' '.join(map(str, piles.sizes))}"


def _legal(piles: Piles) -> tuple[str, ...]:
    return tuple(f"{pile} {taken}" for pile, size in enumerate(piles.sizes) for taken in range(1, size + 1))
