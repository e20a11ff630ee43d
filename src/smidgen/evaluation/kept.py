"""What was scored before, so that a killed evaluation goes on where it was and a second one costs nothing.

Kept are log-probabilities, not scores: what a metric makes of them may change. An answer is found again by the model,
the protocol, the task's version and the item with all its strings; anything else is another question. Whoever calls
brings the place where answers are kept (`journey.kept` has one); this room writes no file.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from smidgen.tasks.choice import ChoiceItem


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to one item."""

    nats: tuple[float, ...]
    """Log-probability of each candidate."""
    greedy: tuple[bool, ...]
    """Whether every symbol of a candidate was the likeliest at its place."""
    symbols: tuple[int, ...]
    """Symbols of each candidate."""
    cut: int
    """Most symbols that a candidate's context lost because it did not fit."""


class Kept(Protocol):
    """Answers to the items of one task by one model, under one protocol."""

    def find(self, key: str) -> Answer | None:
        """Return the answer to an item, named by `item_key`, if it is kept."""
        ...

    def add(self, answers: Mapping[str, Answer]) -> None:
        """Keep the answers of one batch: all of them, or, if killed meanwhile, none."""
        ...


def item_key(item: ChoiceItem) -> str:
    """Return the name of an item and of all its strings: an item whose text changed is another one."""
    strings = [[choice.context, choice.continuation] for choice in item.choices]
    return f"{item.id} {_digest(strings)}"


def items_hash(keys: list[str]) -> str:
    """Return one short name for a whole set of items."""
    return _digest(keys)


def conditions_key(conditions: Mapping[str, Any]) -> str:
    """Return a short name for all that decides an answer beside the item: model, versions, protocol."""
    return _digest(dict(conditions))


def _digest(value: object) -> str:
    plain = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:16]
