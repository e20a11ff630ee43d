"""Abuse and obscenity: a word list proposes, a classifier decides.

A list alone takes medicine, scripture and dictionaries with it (Dodge et al. 2021, arXiv 2104.08758: C4's list removed
such pages by the thousand); a classifier alone is slow and easily surprised. So only paragraphs with a listed word are
shown to the classifier (linear, trained on 200,000 human judgements, `alt-profanity-check`).
"""

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import resources
from typing import Annotated, Literal, cast

from pydantic import Field

from smidgen.config import Config
from smidgen.data.cleaning.quality import join_lines
from smidgen.data.cleaning.step import Dropped, Kept, Verdict
from smidgen.errors import MissingExtraError

_WORDS = "offensive.txt"
_LONG = 600
"""From so many characters on a paragraph is judged sentence by sentence: the classifier was trained on comments."""
_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"(?<=[.!?] )")


class OffensiveConfig(Config):
    """What is offensive, and what happens to it."""

    type: Literal["offensive"] = "offensive"
    action: Literal["cut", "drop", "mask"] = "cut"
    """`cut` the passages (paragraphs, or sentences of long ones), `drop` the document, or `mask` the listed words."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """From this probability on the classifier's word is taken: of 4,300 clean articles 24 then lose a sentence, and 52
    at 0.5."""
    max_share: Annotated[float, Field(gt=0, le=1)] = 0.3
    """A document of which more would be cut or masked is dropped, whatever the action."""
    words: tuple[str, ...] = ()
    """Further words that propose a paragraph, as they are spelled, in lower case."""
    mask: str = "***"
    """What stands in the place of a masked word."""


class Offensive:
    """Cuts, masks or drops what is abusive."""

    name = "offensive"

    def __init__(self, config: OffensiveConfig) -> None:
        self.config = config

    @cached_property
    def _words(self) -> list[str]:
        lines = resources.files("smidgen.data.cleaning").joinpath(_WORDS).read_text(encoding="utf-8").splitlines()
        words = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        return sorted({*words, *self.config.words}, key=lambda word: (-len(word), word))

    @cached_property
    def _listed(self) -> re.Pattern[str]:
        words = (re.escape(word).replace(r"\ ", r"\s+") for word in self._words)
        return re.compile(r"\b(?:" + "|".join(words) + r")\b", re.IGNORECASE)

    @cached_property
    def _beginnings(self) -> frozenset[str]:
        """The first word of each entry: no text without any of them is searched, which is what most time went to."""
        return frozenset(first for word in self._words for first in _WORD.findall(word)[:1])

    @cached_property
    def _probabilities(self) -> Callable[[Sequence[str]], Sequence[float]]:
        try:
            from profanity_check import predict_prob
        except ImportError:
            raise MissingExtraError("Judging offensive text", "offensive") from None
        return cast(Callable[[Sequence[str]], Sequence[float]], predict_prob)

    def __call__(self, text: str) -> Verdict:
        """Return the text without what is offensive; what no listed word is in is not looked at."""
        if self._beginnings.isdisjoint(_WORD.findall(text.lower())) or not self._listed.search(text):
            return Kept(text)
        parts = self._parts(text)
        suspects = [n for n, part in enumerate(parts) if self._listed.search(part)]
        chances = self._probabilities([parts[n] for n in suspects])
        bad = {n for n, chance in zip(suspects, chances, strict=True) if chance >= self.config.threshold}
        if not bad:
            return Kept(text)
        share = sum(len(parts[n]) for n in bad) / len(text)
        if self.config.action == "drop" or share > self.config.max_share:
            return Dropped("offensive:text", f"{len(bad)} passages, {share:.0%} of the text")
        if self.config.action == "mask":
            masked = (self._listed.sub(self.config.mask, part) if n in bad else part for n, part in enumerate(parts))
            return Kept("".join(masked), {"offensive:masked": len(bad)})
        kept = "".join(part for n, part in enumerate(parts) if n not in bad)
        return Kept(join_lines([line.rstrip(" ") for line in kept.split("\n")]), {"offensive:cut": len(bad)})

    def _parts(self, text: str) -> list[str]:
        """Return the text in pieces: short paragraphs whole, long ones in sentences, line ends on their own."""
        parts: list[str] = []
        for line in text.split("\n"):
            parts += _SENTENCE.split(line) if len(line) > _LONG else [line]
            parts.append("\n")
        return parts[:-1]
