"""A simple negotiation: two traders to whom the same goods are worth different things; who gains more wins.

    negotiation as player 0         move: Offer: 2 Wood -> 1 Ore
    turn 3 of 7, gain -5
    12 Wheat at 5
    ...
    offered: 3 Sheep for 1 Brick    (you get 3 sheep and give 1 brick)

A turn answers the offer that lies on the table (`Accept`; anything else leaves it there) and may make a new one. Nobody
knows optimal play: what goods are worth to the other is hidden.
"""

from collections.abc import Mapping
from itertools import permutations
from typing import Annotated, NamedTuple

from pydantic import Field

from smidgen.config import Config
from smidgen.tasks.games.game import Style
from smidgen.tasks.games.rules import Rules, State, evenly

ROLES = ("player 0", "player 1")
MOST_LISTED = 3
"""Offers of up to so many of one good for up to so many of another are listed as legal moves: 180, of thousands."""


class NegotiationConfig(Config):
    """Options of `negotiation`."""

    turns: Annotated[int, Field(ge=2, le=99)] = 6
    """Turns of both together that the prompt promises, as SimpleNegotiation-v0-short does; textarena gives one more."""
    style: Style = "compact"
    """How the game is told."""


class Offer(NamedTuple):
    """What the other wants to trade, from the side of who is asked."""

    gets: Mapping[str, int]
    gives: Mapping[str, int]


class Trader(NamedTuple):
    """A position."""

    role: str
    turn: int
    turns: int
    gain: int
    """What the goods are worth now, less what they were worth at the beginning."""
    goods: Mapping[str, int]
    worth: Mapping[str, int]
    """What one of each is worth to this role."""
    offer: Offer | None


def negotiation(config: NegotiationConfig) -> Rules[Trader]:
    """Return the rules of the negotiation."""
    settings = {"max_turns": config.turns}
    return Rules("SimpleNegotiation-v0", settings, ROLES, _position, _describe, _legal, careless=_careless)


def _position(state: State, role: int) -> Trader:
    lying = state["current_offer"]
    offer = None
    if lying is not None and lying["from_player"] != role:
        offer = Offer(lying["offered_resources"], lying["requested_resources"])
    return Trader(
        ROLES[role],
        state["turn"] + 1,
        state["max_turns"] + 1,  # as it counts them
        state["inventory_value"][role]["change"],
        state["player_resources"][role],
        state["player_values"][role],
        offer,
    )


def _describe(trader: Trader) -> str:
    lines = [f"negotiation as {trader.role}", f"turn {trader.turn} of {trader.turns}, gain {trader.gain}"]
    lines += [f"{n} {good} at {trader.worth[good]}" for good, n in trader.goods.items()]
    if trader.offer:
        lines.append(f"offered: {_told(trader.offer.gets)} for {_told(trader.offer.gives)}")
    return "\n".join(lines)


def _told(goods: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {good}" for good, n in goods.items())


def _legal(trader: Trader) -> tuple[str, ...]:
    moves = ["Deny"]
    if trader.offer and all(trader.goods[good] >= n for good, n in trader.offer.gives.items()):
        moves.append("Accept")
    amounts = range(1, MOST_LISTED + 1)
    for given, wanted in permutations(trader.goods, 2):
        moves += [f"Offer: {n} {given} -> {m} {wanted}" for n in amounts if n <= trader.goods[given] for m in amounts]
    return tuple(moves)


def _careless(trader: Trader) -> dict[str, float]:
    """Answer an offer, or wait, as often as make one: of 180 offers one is not 180 times as likely as to accept."""
    moves = _legal(trader)
    offers = tuple(move for move in moves if move.startswith("Offer"))
    chances = {move: 1.0 for move in moves if move not in offers} | evenly(offers)
    return {move: chance / sum(chances.values()) for move, chance in chances.items()}
