"""Which items of an evaluation stood in the text a model was trained on, and its score with and without them.

What of an item is looked for is what its makers wrote: the question and the right answer, without the words that a
prompt puts around every item alike ("Question:", "Answer:", an instruction). Finding is `data/ngrams.py`'s.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from smidgen.data.ngrams import Find, NgramIndex
from smidgen.evaluation.intervals import Estimate, estimate_share
from smidgen.tasks.base import Example
from smidgen.tasks.choice import ChoiceItem

_WHOLE = 0.8
"""Share of an item's words from which on it was found whole. Source: Touvron et al. 2023, arXiv 2307.09288, A.6."""
_COMMON = 0.05
"""A line of a prompt that stands in more than this share of a task's items, and in three at least, is of the prompt."""
_LABEL = re.compile(r"^\s*[A-Z][a-z]*:(?=\s|$)")
_OPTION = re.compile(r"^\s*\(?([A-Z])[.)]\s+(.*)$")
_PASSAGES_KEPT = 3


@dataclass(frozen=True)
class ItemText:
    """What is looked for of one item."""

    id: str
    text: str


@dataclass(frozen=True)
class Touched:
    """An item of which something was found."""

    id: str
    covered: float
    """Share of its words that stand in a run that was found."""
    texts: int
    """Texts it was found in."""
    passages: tuple[str, ...]
    """What was found first in a few of them, as it stands there."""


@dataclass(frozen=True)
class Exposure:
    """What of one task was found in a body of text."""

    words: int
    """How long a run must be; an item that is shorter must be found whole."""
    items: int
    touched: Mapping[str, Touched]
    unsearchable: frozenset[str]
    """Items of too few words to be looked for."""
    texts: int
    """Texts read."""
    text_bytes: int

    @property
    def share(self) -> float:
        """Return the share of touched items among those that could be looked for."""
        return len(self.touched) / max(1, self.items - len(self.unsearchable))

    def as_dict(self, scores: Mapping[str, float]) -> dict[str, Any]:
        """Return plain values for `evals.json`: the share of touched items among those scored, the scores apart.

        `scores` are those of the items that were asked, by their names. Items too short to be looked for count as
        clean, and are told.
        """
        found = [score for id, score in scores.items() if id in self.touched]
        clean = [score for id, score in scores.items() if id not in self.touched]
        asked = [self.touched[id] for id in scores if id in self.touched]
        return {
            "words": self.words,
            "items": len(scores),
            "touched": len(found),
            "share": len(found) / max(1, len(scores)),
            "whole": sum(one.covered >= _WHOLE for one in asked),
            "unsearchable": sum(id in self.unsearchable for id in scores),
            "texts": self.texts,
            "text_bytes": self.text_bytes,
            "score_touched": _estimate(found).as_dict() if found else None,
            "score_clean": _estimate(clean).as_dict() if clean else None,
        }


def texts_of_choices(items: Iterable[ChoiceItem]) -> list[ItemText]:
    """Return what is looked for of each item: its context and right continuation without the prompt's own words."""
    items = list(items)
    lines = [[_LABEL.sub("", line).strip() for line in _right(item).split("\n")] for item in items]
    seen = Counter(line for some in lines for line in dict.fromkeys(some))
    most = max(2, _COMMON * len(items))
    return [
        ItemText(item.id, "\n".join(line for line in some if line and seen[line] <= most))
        for item, some in zip(items, lines, strict=True)
    ]


def texts_of_examples(examples: Iterable[Example]) -> list[ItemText]:
    """Return what is looked for of each example: the question and its right answer."""
    return [ItemText(example.id, f"{example.question}\n{example.answer}") for example in examples]


def look_for(tasks: Mapping[str, Sequence[ItemText]], texts: Iterable[str]) -> dict[str, Exposure]:
    """Return, for each task, which of its items stand in the texts, which are read once and not kept."""
    owners = [(name, item) for name, items in tasks.items() for item in items]
    index = NgramIndex(item.text for _, item in owners)
    read = _Read(texts)
    sights: dict[int, _Sight] = {}
    for find in index.find(read):
        sights.setdefault(find.item, _Sight()).add(find)
    touched: dict[str, dict[str, Touched]] = {name: {} for name in tasks}
    for number in sorted(sights):
        name, item = owners[number]
        touched[name][item.id] = sights[number].tell(item.id, index.lengths[number])
    unsearchable: dict[str, set[str]] = {name: set() for name in tasks}
    for number in index.unsearchable:
        unsearchable[owners[number][0]].add(owners[number][1].id)
    return {
        name: Exposure(index.words, len(items), touched[name], frozenset(unsearchable[name]), read.texts, read.bytes)
        for name, items in tasks.items()
    }


@dataclass
class _Sight:
    """What was found of one item so far."""

    words: set[int] = field(default_factory=set)
    texts: int = 0
    latest: int = -1
    passages: list[str] = field(default_factory=list)

    def add(self, find: Find) -> None:
        self.words.update(range(find.at, find.at + find.words))
        if find.text != self.latest:  # finds come text by text
            self.latest, self.texts = find.text, self.texts + 1
            if len(self.passages) < _PASSAGES_KEPT:
                self.passages.append(find.passage)

    def tell(self, id: str, length: int) -> Touched:
        return Touched(id, len(self.words) / length, self.texts, tuple(self.passages))


class _Read:
    """Texts as they stream by, counted."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._source = texts
        self.texts = self.bytes = 0

    def __iter__(self) -> Iterator[str]:
        for text in self._source:
            self.texts += 1
            self.bytes += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
            yield text


def _right(item: ChoiceItem) -> str:
    """Return an item's question with its right answer; where that is a letter, what the letter stands for."""
    right = item.choices[item.right]
    options = {m[1]: m for m in map(_OPTION.match, right.context.split("\n")) if m}
    if (chosen := options.get(right.continuation.strip())) is None:
        return right.context + right.continuation
    kept = (line for line in right.context.split("\n") if not _OPTION.match(line))
    return "\n".join([*kept, chosen[2]])


def _estimate(scores: Sequence[float]) -> Estimate:
    """Return the mean with its interval: Wilson's for shares, the normal one for what is none."""
    if all(0 <= score <= 1 for score in scores):
        return estimate_share(scores)
    n = len(scores)
    mean = sum(scores) / n
    reach = 1.96 * (sum((s - mean) ** 2 for s in scores) / max(1, n - 1) / n) ** 0.5
    return Estimate(mean, mean - reach, mean + reach, n)
