"""What kinds of characters a text is made of, looked up in one pass: most rules need no more to see that all is well.

A table gives every code point its kinds as bits; a text becomes an array of them, 3 ns a character.
"""

import re
import sys
from functools import cache

import numpy as np

LETTER, SPACE, CONTROL, SIGN, RARE, GRAPHIC, MENDABLE, DIGIT = (1 << bit for bit in range(8))
_KINDS = {
    LETTER: re.compile(r"[^\W\d_]+"),
    SPACE: re.compile(r"\s+"),
    CONTROL: re.compile(r"[\x00-\x08\x0e-\x1f\x7f]+"),
    RARE: re.compile("[\u0180-\u024f\u0250-\u02ff]+"),
    GRAPHIC: re.compile(r"[!-~]+"),
    MENDABLE: re.compile(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u00a0\u00ad\u1680\u2000-\u200b\u200e\u200f\u2028-\u202f\u205f\u2060\u3000\ufeff"
        "\ud800-\udfff]+"
    ),
    DIGIT: re.compile(r"\d+"),
}
"""CONTROL leaves out C1: those are how mojibake looks, and `repair` mends that. RARE: Latin Extended-B, phonetic
letters, modifier letters; orthographies that use them need a dozen, pinyin 16. MENDABLE: what `repair` removes or makes
a space or a line feed. GRAPHIC is ASCII's."""
_SIGNS = re.compile("[\u0300-\u036f\u0900-\u109f\u1780-\u17ff]+")
"""To Python a third of written Hindi, the vowel signs, are no letters: South and South-East Asia count by blocks. SIGN
are those of them that are no letters."""


@cache
def _table() -> np.ndarray:
    """Return the kinds of every code point; built in 0.2 s, the same in every process."""
    characters = "".join(map(chr, range(sys.maxunicode + 1)))
    table = np.zeros(len(characters), np.uint8)
    for kind, pattern in _KINDS.items():
        for run in pattern.finditer(characters):
            table[run.start() : run.end()] |= kind
    for run in _SIGNS.finditer(characters):
        for at in range(*run.span()):
            table[at] |= SIGN * (not characters[at].isalpha())
    return table


def code_points(text: str) -> np.ndarray:
    """Return the characters of a text as numbers."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def kinds_of(codes: np.ndarray) -> np.ndarray:
    """Return the kinds of each character, as bits."""
    return _table()[codes]


def count_kinds(kinds: np.ndarray) -> dict[int, int]:
    """Return how many characters are of each kind."""
    counts = np.bincount(kinds, minlength=256)
    return {1 << bit: int(counts.reshape(-1, 2, 1 << bit)[:, 1].sum()) for bit in range(8)}
