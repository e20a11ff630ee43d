"""Abuse and obscenity: a word list proposes, a classifier decides.

A list alone takes medicine, scripture and dictionaries with it (Dodge et al. 2021, arXiv 2104.08758: C4's list removed
such pages by the thousand); a classifier alone is slow and easily surprised. So only paragraphs with a listed word are
shown to the classifier (linear, trained on 200,000 human judgements, `alt-profanity-check`).
"""

import re
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from importlib import resources
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from smidgen.config import Config
from smidgen.data.cleaning.quality import join_lines
from smidgen.data.cleaning.step import Dropped, Kept, Verdict
from smidgen.errors import MissingExtraError

_WORDS = "offensive.txt"
_LONG = 600
"""From so many characters on a paragraph is judged sentence by sentence: the classifier was trained on comments."""
_ASCII_WORD = bytes(n if (chr(n).isalnum() and n < 128) or n == ord("_") else ord(" ") for n in range(256))
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
    words: tuple[Annotated[str, Field(min_length=1)], ...] = ()
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
        return _any_of(tuple(self._words))

    @cached_property
    def _beginnings(self) -> dict[bytes, list[str]]:
        """The entries by their first words: only those that begin with a word of a text are looked for in it."""
        found: dict[bytes, list[str]] = {}
        for word in self._words:
            found.setdefault(next(iter(_ascii_words(word)), b""), []).append(word)
        return found

    def _proposed(self, text: str) -> list[re.Pattern[str]]:
        """Return patterns that find in this text what the whole list would, if anything.

        One for each first word: one for what a text has of them would be another for nearly every text, and compiling
        it took three times what finding does.
        """
        begun = self._beginnings.keys() & {b"", *_ascii_words(text)}
        return [_any_of(tuple(self._beginnings[first])) for first in sorted(begun)]

    @cached_property
    def _probabilities(self) -> Callable[[Sequence[str]], Sequence[float]]:
        try:
            from profanity_check.profanity_check import model, vectorizer
        except ImportError:
            raise MissingExtraError("Judging offensive text", "offensive") from None
        # Five linear classifiers, each with its sigmoid, and the mean of what they say: taken out of the library, which
        # needs 8 ms a call to look at its own arguments.
        folds = model.calibrated_classifiers_
        weights = np.stack([fold.estimator.coef_[0] for fold in folds], axis=1)
        biases = np.array([fold.estimator.intercept_[0] for fold in folds])
        slopes, offsets = np.array([(fold.calibrators[0].a_, fold.calibrators[0].b_) for fold in folds]).T

        def judged(texts: Sequence[str]) -> Sequence[float]:
            margins = vectorizer.transform(texts) @ weights + biases
            return (1 / (1 + np.exp(slopes * margins + offsets))).mean(axis=1).tolist()

        return judged

    def __call__(self, text: str) -> Verdict:
        """Return the text without what is offensive; what no listed word is in is not looked at."""
        proposed = self._proposed(text)
        proposed = [pattern for pattern in proposed if pattern.search(text)]
        if not proposed:
            return Kept(text)
        parts = self._parts(text)
        suspects = [n for n, part in enumerate(parts) if any(pattern.search(part) for pattern in proposed)]
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


def _ascii_words(text: str) -> list[bytes]:
    """Return the runs of ASCII letters and digits: quicker to have than words, and with all of those that are ASCII."""
    return text.lower().encode("utf-8", "replace").translate(_ASCII_WORD).split()


@lru_cache(maxsize=4096)
def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    told = (re.escape(word).replace(r"\ ", r"\s+") for word in words)
    return re.compile(r"\b(?:" + "|".join(told) + r")\b", re.IGNORECASE)
