"""Kuhn poker: three cards, one chip to stay in, one bet; several hands, and who has more chips at the end wins.

    kuhn poker as player 1      move: call
    hand 2 of 3, chips -1
    card Q, check bet
    fold call

textarena's prompt says that a bet and a call put a chip into the pot, and its code (0.7.4) leaves the pot as it was:
then nobody has a reason to fold. `put_in_bets` keeps the promise; without it this would not be Kuhn's game.

Optimal play is the equilibrium of a single hand, in which a number alpha may be chosen freely: how often the first
player bluffs with the jack. It loses nothing to anybody over many hands but 1/18 of a chip a hand to the seat that
comes second; a match of few hands, where only more or less counts, may have a slightly better answer.
Source: Kuhn 1950, Contributions to the Theory of Games 1, 97-103.
"""

import re
from collections.abc import Mapping, MutableMapping
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from smidgen.config import Config
from smidgen.tasks.games.game import Style
from smidgen.tasks.games.rules import Rules, State

ROLES = ("player 0", "player 1")
CARDS = "JQK"
ANTES = 2
"""Chips in the pot before anybody bets."""

_ACTION = re.compile(r"\[(check|bet|fold|call)\]", re.IGNORECASE)


class KuhnConfig(Config):
    """Options of `kuhn`."""

    hands: Annotated[int, Field(ge=1, le=99)] = 3
    """Hands of a match; who begins changes from hand to hand. textarena's KuhnPoker-v0 has 3."""
    alpha: Annotated[float, Field(ge=0, le=1 / 3)] = 1 / 3
    """How often optimal play opens with a bet on the jack: from 0 to 1/3, all of them equally good."""
    style: Style = "compact"
    """How the game is told."""


class Hand(NamedTuple):
    """A position."""

    role: str
    number: int
    """Which hand this is, from 1."""
    hands: int
    chips: int
    """What this role has won so far, or lost; what lies in the pot is in neither."""
    card: str
    history: tuple[str, ...]
    """What was done in this hand, in turn."""
    legal: tuple[str, ...]


def kuhn(config: KuhnConfig) -> Rules[Hand]:
    """Return the rules of Kuhn poker."""

    def position(state: State, role: int) -> Hand:
        legal = tuple(state["current_legal_action_tree"])
        opened = role == state["starting_player"]
        history = (() if opened else ("check",)) if "check" in legal else (("check", "bet") if opened else ("bet",))
        # The ante is already paid when it is a role's turn; before this hand both were level with their chips.
        chips = state["player_chips"][role] + 1
        card = CARDS[state["player_cards"][role]]
        return Hand(ROLES[role], state["current_round"], config.hands, chips, card, history, legal)

    return Rules(
        "KuhnPoker-v0",
        {"max_rounds": config.hands},
        ROLES,
        position,
        _describe,
        lambda hand: hand.legal,
        lambda hand: equilibrium(hand.card, hand.history, config.alpha),
        repair=put_in_bets,
    )


def put_in_bets(state: MutableMapping[str, Any], action: str) -> None:
    """Put the bet and the call into the pot where a bet is called and the pot holds the antes alone.

    After a fold there is nothing to set right: the bet goes back to who made it.
    """
    found = _ACTION.search(action)
    called = found is not None and found[1].lower() == "call" and "call" in state["current_legal_action_tree"]
    if called and state["pot"] == ANTES:
        state["pot"] += 2
        for role in (0, 1):
            state["player_chips"][role] -= 1


def equilibrium(card: str, history: tuple[str, ...], alpha: float) -> Mapping[str, float]:
    """Return with what probability each move is made in equilibrium."""
    if history in ((), ("check",)):
        chances = {
            (): {"J": alpha, "Q": 0.0, "K": 3 * alpha},
            ("check",): {"J": 1 / 3, "Q": 0.0, "K": 1.0},
        }[history]
        return {"check": 1 - chances[card], "bet": chances[card]}
    middle = 1 / 3 if history == ("bet",) else alpha + 1 / 3
    call = {"J": 0.0, "Q": middle, "K": 1.0}[card]
    return {"fold": 1 - call, "call": call}


def _describe(hand: Hand) -> str:
    history = ", " + " ".join(hand.history) if hand.history else ""
    return "\n".join(
        [
            f"kuhn poker as {hand.role}",
            f"hand {hand.number} of {hand.hands}, chips {hand.chips}",
            f"card {hand.card}{history}",
            " ".join(hand.legal),
        ]
    )
