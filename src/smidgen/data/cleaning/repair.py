"""Mend what went wrong with the characters of a text, not with its words.

Mojibake is decoded again, composed forms (NFC) are used, control characters and invisible ones go, every exotic space
becomes a space and every line end a line feed; lines broken to fit a page are joined. A character that was lost for
good (U+FFFD) cannot be guessed, so the sentence that lost it is cut. Bad language and bad markup are for other steps.
"""

import re
import unicodedata
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from smidgen.config import Config
from smidgen.data.cleaning.characters import MENDABLE, code_points, kinds_of
from smidgen.data.cleaning.step import Dropped, Kept, Verdict
from smidgen.data.cleaning.unwrap import unwrap
from smidgen.errors import MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

LOST = "\ufffd"
_MAY_BE_MOJIBAKE = re.compile("[^\x00-\x7f]{2}|[\u00c2\u00c3] ")
"""A character outside ASCII is two bytes or more in UTF-8, none of them ASCII, in whatever encoding they are read: only
the no-break space among them may have become a space since. Saves nine tenths of the time ftfy takes to look."""
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_HIGH_CONTROL = re.compile(r"[\x80-\x9f]")
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\ufeff]")
"""Soft hyphen, zero-width space, direction marks, byte-order mark. The joiners U+200C and U+200D stay: Persian and the
scripts of India are spelled with them."""
_SPACES = re.compile("[\t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\u0085\u2028]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_AT_LINE_END = re.compile(r" +$", re.MULTILINE)
_SENTENCE_GAP = re.compile(r"(?<=[.!?])[\"'”’)\]]? +(?=[^\sa-z])")
_BLANK_LINES = re.compile(r"\n{3,}")


class RepairConfig(Config):
    """What is mended."""

    type: Literal["repair"] = "repair"
    mojibake: bool = True
    """Undo text that was decoded with the wrong encoding, once or twice. Source: ftfy, Speer 2019."""
    invisible: bool = True
    """Remove control characters and what takes no room; make every kind of space a space."""
    lost: Literal["keep", "cut"] = "cut"
    """What happens to a sentence with U+FFFD in it, the mark of a character that is gone."""
    max_lost: Annotated[float, Field(gt=0, le=1)] = 0.5
    """A document is dropped when more than this share of its text would be cut for lost characters."""
    unwrap: bool = True
    """Join lines that were broken to fit a page, as scans and old text files have them."""


class Repair:
    """Mends one document; drops it only if too little of it can be mended."""

    name = "repair"

    def __init__(self, config: RepairConfig) -> None:
        self.config = config

    @cached_property
    def _ftfy(self) -> "ModuleType":
        try:
            import ftfy
        except ImportError:
            raise MissingExtraError("Mending mojibake", "data") from None
        return ftfy

    def __call__(self, text: str) -> Verdict:
        """Return the mended text; what has nothing to mend is only looked through."""
        changes: Counter[str] = Counter()
        codes = code_points(text)
        mendable = _is_mendable(codes)
        if mendable:
            text, changes["repair:surrogate"] = _SURROGATE.subn(LOST, text) if not text.isascii() else (text, 0)
        if mendable and self.config.invisible:  # C1 controls and soft hyphens are bytes of mojibake: they wait for that
            text, changes["repair:control"] = _CONTROL.subn("", text)
        if self.config.mojibake and not text.isascii() and (mendable or _may_be_mojibake(codes, text)):
            text = self._decode_again(text, changes)
            mendable = mendable or (bool(changes["repair:mojibake"]) and _is_mendable(code_points(text)))
        if mendable:
            text = self._mend(text, changes)
        text = unicodedata.normalize("NFC", text)  # what stood between a letter and its accent is gone by now
        if self.config.lost == "cut" and LOST in text:
            whole = len(text)
            text = _cut_lost(text, changes)
            if whole - len(text) > self.config.max_lost * whole:
                return Dropped("repair:lost_characters", f"{changes['repair:lost_sentence']} sentences")
        if " \n" in text or text.endswith(" "):
            text = _AT_LINE_END.sub("", text)
        if "\n\n\n" in text:
            text = _BLANK_LINES.sub("\n\n", text)
        text = text.strip("\n")
        if self.config.unwrap:
            text, changes["repair:line_break"] = unwrap(text)
        return Kept(text, {what: count for what, count in changes.items() if count})

    def _mend(self, text: str, changes: Counter[str]) -> str:
        """Use line feeds as line ends and spaces as spaces; remove what takes no room."""
        text = _LINE_ENDS.sub("\n", text.replace("\u2029", "\n\n"))
        if not self.config.invisible:
            return text
        text, high = _HIGH_CONTROL.subn("", text)
        changes["repair:control"] += high
        text, changes["repair:invisible"] = _INVISIBLE.subn("", text)
        return _SPACES.sub(" ", text)

    def _decode_again(self, text: str, changes: Counter[str]) -> str:
        """Undo mojibake line by line, because a page can be broken in one place and sound in another."""
        if not _MAY_BE_MOJIBAKE.search(text):
            return text
        lines = text.split("\n")
        mended = [self._ftfy.fix_encoding(line) if _MAY_BE_MOJIBAKE.search(line) else line for line in lines]
        changes["repair:mojibake"] += sum(one != other for one, other in zip(lines, mended, strict=True))
        return "\n".join(mended)


def _is_mendable(codes: np.ndarray) -> bool:
    return bool((kinds_of(codes) & MENDABLE).any())


def _may_be_mojibake(codes: np.ndarray, text: str) -> bool:
    """Return whether `_MAY_BE_MOJIBAKE` finds anything, at a tenth of its cost."""
    wide = codes > 0x7F
    return bool((wide[1:] & wide[:-1]).any()) or "\u00c2 " in text or "\u00c3 " in text


def _cut_lost(text: str, changes: Counter[str]) -> str:
    """Cut the sentences that lost a character; a line without sentences goes whole."""
    kept: list[str] = []
    for line in text.split("\n"):
        if LOST not in line:
            kept.append(line)
            continue
        sentences = _SENTENCE_GAP.split(line)
        whole = [sentence for sentence in sentences if LOST not in sentence]
        changes["repair:lost_sentence"] += len(sentences) - len(whole)
        kept.append(" ".join(whole))
    return "\n".join(kept)
