"""Text that nobody wrote: encoded bytes, symbol noise, control characters, letters drawn at random.

Says nothing of bad writing. Every rule is a share of the text, with a threshold far from what prose of any script has,
and holds without knowing the language; run it before `repair`, which removes the control characters it counts.
"""

import re
from typing import Annotated, Literal

from pydantic import Field

from smidgen.config import Config
from smidgen.data.cleaning.step import Dropped, Kept, Verdict

Share = Annotated[float, Field(ge=0, le=1)]

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
"""C1 controls are left out: they are how mojibake looks, and `repair` mends that. So are line ends."""
_LETTERS = re.compile(r"[^\W\d_]+")
_SIGNS = re.compile("[\u0300-\u036f\u0900-\u109f\u1780-\u17ff]")
"""To Python a third of written Hindi, the vowel signs, are no letters: South and South-East Asia count by blocks."""
_LONG_RUN = re.compile(r"[!-~]{41,}")
"""Over 40 printable ASCII characters without a space: an address or, with a digit in it, no word of any language."""
_ADDRESS = ("http:", "https:", "www.", "ftp:")
_BYTES = re.compile(r"(?:[0-9A-Fa-f]{2}[ :]){16,}")
"""Sixteen bytes in hexadecimal."""
_RARE_LATIN = re.compile("[\u0180-\u024f\u0250-\u02ff]")
"""Latin Extended-B, phonetic letters, modifier letters. Orthographies that use them need a dozen, pinyin 16."""


class GarbageConfig(Config):
    """How much of each kind of noise a text may hold."""

    type: Literal["garbage"] = "garbage"
    max_control: Share = 0.002
    """Control characters, of all: one stray escape code in a short page passes, bytes of a binary file (13% of random
    bytes are controls) do not."""
    min_letters: Share = 0.5
    """Letters and the marks on them, of all visible characters. Prose is above 0.9 in every script, source code near
    0.6, tables of numbers and symbol noise below 0.3."""
    max_encoded: Share = 0.2
    """Characters in runs that can only be an encoding (base64, hexadecimal, keys), of all visible ones."""
    max_rare_latin: Share = 0.02
    """Letters that Latin script seldom has, of all visible characters; counts only if over 24 different ones occur."""
    sample_characters: Annotated[int, Field(ge=1000)] = 100_000
    """A longer text is judged by so much of its beginning."""


class Garbage:
    """Drops what is not language."""

    name = "garbage"

    def __init__(self, config: GarbageConfig) -> None:
        self.config = config

    def __call__(self, text: str) -> Verdict:
        """Return the text as it is, or what kind of noise it is."""
        config, sample = self.config, text[: self.config.sample_characters]
        if not sample.strip():
            return Kept(text)  # an empty text is short, not noisy
        control = len(_CONTROL.findall(sample)) / len(sample)
        if control > config.max_control:
            return Dropped("garbage:control", f"{control:.1%} control characters")
        visible = len("".join(sample.split()))
        letters = letter_count(sample) / visible
        if letters < config.min_letters:
            return Dropped("garbage:few_letters", f"{letters:.0%} letters")
        encoded = _encoded(sample) / visible
        if encoded > config.max_encoded:
            return Dropped("garbage:encoded", f"{encoded:.0%} in runs like base64")
        rare = _RARE_LATIN.findall(sample)
        if len(rare) > config.max_rare_latin * visible and len(set(rare)) > 24:
            return Dropped("garbage:random_letters", f"{len(set(rare))} different rare letters")
        return Kept(text)


def letter_count(text: str) -> int:
    """Return how many characters are letters or the vowel signs and accents that belong to them."""
    letters = _LETTERS.findall(text)
    count = sum(map(len, letters))
    if text.isascii():
        return count
    signs = _SIGNS.findall(text)
    return count + sum(not sign.isalpha() for sign in signs)


def _encoded(text: str) -> int:
    """Return how many characters stand in runs that only an encoding has."""
    long = (run for run in _LONG_RUN.findall(text) if not run.startswith(_ADDRESS) and any(map(str.isdigit, run)))
    return sum(map(len, long)) + sum(len(run) * 2 // 3 for run in _BYTES.findall(text))
