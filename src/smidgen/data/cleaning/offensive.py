"""Abuse and obscenity: a word list proposes, a classifier decides.

A list alone takes medicine, scripture and dictionaries with it (Dodge et al. 2021, arXiv 2104.08758: C4's list removed
such pages by the thousand); a classifier alone is slow and easily surprised. So only the paragraphs with a listed word
are shown to the classifier (linear, trained on 200,000 human judgements, `alt-profanity-check`).
"""

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import resources
from typing import Annotated, Literal

from pydantic import Field

from smidgen.config import Config
from smidgen.data.cleaning.step import Dropped, Kept, Verdict
from smidgen.errors import MissingExtraError

_WORDS = "offensive.txt"
_LONG = 600
"""Characters from which a paragraph is shown to the classifier in sentences: it was trained on comments."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


class OffensiveConfig(Config):
    """What is offensive, and what happens to it."""

    type: Literal["offensive"] = "offensive"
    action: Literal["cut", "drop", "mask"] = "cut"
    """`cut` the paragraphs, `drop` the document, or `mask` the listed words in them."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """From this probability on the classifier's word is taken."""
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
    def _listed(self) -> re.Pattern[str]:
        lines = resources.files("smidgen.data.cleaning").joinpath(_WORDS).read_text(encoding="utf-8").splitlines()
        words = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        words = sorted({*words, *self.config.words}, key=lambda word: (-len(word), word))
        return re.compile(r"\b(?:" + "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in words) + r")\b", re.I)

    @cached_property
    def _probabilities(self) -> Callable[[Sequence[str]], Sequence[float]]:
        try:
            from profanity_check import predict_prob
        except ImportError:
            raise MissingExtraError("Judging offensive text", "data") from None
        return predict_prob

    def __call__(self, text: str) -> Verdict:
        """Return the text without what is offensive; what no listed word is in is not looked at."""
        if not self._listed.search(text):
            return Kept(text)
        lines = text.split("\n")
        bad = [n for n, line in enumerate(lines) if self._listed.search(line) and self.is_offensive(line)]
        if not bad:
            return Kept(text)
        share = sum(len(lines[n]) for n in bad) / len(text)
        if self.config.action == "drop" or share > self.config.max_share:
            return Dropped("offensive:text", f"{len(bad)} paragraphs, {share:.0%} of the text")
        if self.config.action == "mask":
            for n in bad:
                lines[n] = self._listed.sub(self.config.mask, lines[n])
            return Kept("\n".join(lines), {"offensive:masked": len(bad)})
        kept = [line for n, line in enumerate(lines) if n not in set(bad)]
        kept = [line for n, line in enumerate(kept) if line.strip() or (n and kept[n - 1].strip())]
        return Kept("\n".join(kept).strip("\n"), {"offensive:cut": len(bad)})

    def is_offensive(self, line: str) -> bool:
        """Return whether the classifier finds this line, or a sentence with a listed word in a long one, offensive."""
        parts = [line] if len(line) <= _LONG else [part for part in _SENTENCE.split(line) if self._listed.search(part)]
        return bool(parts) and max(self._probabilities(parts)) >= self.config.threshold
