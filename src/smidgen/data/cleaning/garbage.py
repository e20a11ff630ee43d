"""Text that nobody wrote: encoded bytes, symbol noise, control characters, letters drawn at random.

Says nothing of bad writing. Every rule is a share of the text, with a threshold far from what prose of any script has,
and holds without knowing the language; run it before `repair`, which removes the control characters it counts.
"""

import re
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from smidgen.config import Config
from smidgen.data.cleaning.characters import (
    CONTROL,
    GRAPHIC,
    LETTER,
    RARE,
    SIGN,
    SPACE,
    code_points,
    count_kinds,
    kinds_of,
)
from smidgen.data.cleaning.step import Dropped, Kept, Verdict

Share = Annotated[float, Field(ge=0, le=1)]

_LONG = 41
_LONG_RUN = re.compile(rf"[!-~]{{{_LONG},}}")
"""Over 40 printable ASCII characters without a space: an address or, with a digit in it, no word of any language."""
_ADDRESS = ("http:", "https:", "www.", "ftp:")
_BYTES = re.compile(r"(?:[0-9A-Fa-f]{2}[ :]){16,}")
"""Sixteen bytes in hexadecimal."""
_HEX_MARKS = bytes(
    ord("h" if chr(n) in "0123456789abcdefABCDEF" else "s" if chr(n) in " :" else ".") for n in range(256)
)
_BYTES_MARKED = b"hhs" * 16


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
        codes = code_points(sample)
        kinds = kinds_of(codes)
        counts = count_kinds(kinds)
        control = counts[CONTROL] / len(sample)
        if control > config.max_control:
            return Dropped("garbage:control", f"{control:.1%} control characters")
        visible = len(sample) - counts[SPACE]
        letters = (counts[LETTER] + counts[SIGN]) / visible
        if letters < config.min_letters:
            return Dropped("garbage:few_letters", f"{letters:.0%} letters")
        encoded = _encoded(sample, kinds) / visible
        if encoded > config.max_encoded:
            return Dropped("garbage:encoded", f"{encoded:.0%} in runs like base64")
        if counts[RARE] > config.max_rare_latin * visible:
            different = len(np.unique(codes[kinds & RARE > 0]))
            if different > 24:
                return Dropped("garbage:random_letters", f"{different} different rare letters")
        return Kept(text)


def _encoded(text: str, kinds: np.ndarray) -> int:
    """Return how many characters stand in runs that only an encoding has."""
    gaps = np.flatnonzero(kinds & GRAPHIC == 0)
    found = 0
    if np.diff(gaps, prepend=-1, append=len(text)).max(initial=0) > _LONG:
        long = (run for run in _LONG_RUN.findall(text) if not run.startswith(_ADDRESS) and any(map(str.isdigit, run)))
        found = sum(map(len, long))
    if _BYTES_MARKED in text.encode("latin-1", "replace").translate(_HEX_MARKS):
        found += sum(len(run) * 2 // 3 for run in _BYTES.findall(text))
    return found
