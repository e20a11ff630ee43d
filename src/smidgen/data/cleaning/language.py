"""Keep the languages that are asked for, by document and by paragraph.

CLD2 (Sites 2013) tells which share of a text is in which of 83 languages; its tables ship in the wheel of `pycld2`.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from smidgen.config import Config
from smidgen.data.cleaning.quality import join_lines
from smidgen.data.cleaning.step import Dropped, Kept, Verdict
from smidgen.errors import MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

_SHORT = 100
"""In fewer characters a language that CLD2 is not sure of is a guess."""
_LONG = 20_000
"""Characters from the beginning, the middle and the end of a longer document that are looked at, each."""


class LanguageConfig(Config):
    """Which languages are kept."""

    type: Literal["language"] = "language"
    keep: Annotated[tuple[str, ...], Field(min_length=1)] = ("en",)
    """ISO 639-1 codes (639-3 where there is none)."""
    min_share: Annotated[float, Field(gt=0, le=1)] = 0.65
    """Share of a document's text in those languages, at least. FineWeb asks for a score of 0.65 of another classifier
    (Penedo et al. 2024, arXiv 2406.17557)."""
    cut_paragraphs: bool = True
    """Cut single paragraphs that are surely in another language."""
    min_paragraph_characters: Annotated[int, Field(ge=20)] = 40
    """Shorter paragraphs are names and headings: no language is sure of them."""


class Language:
    """Drops documents in other languages, and cuts such paragraphs out of the rest."""

    name = "language"

    def __init__(self, config: LanguageConfig) -> None:
        self.config = config
        self._keep = frozenset(config.keep)

    @cached_property
    def _cld2(self) -> "ModuleType":
        try:
            import pycld2
        except ImportError:
            raise MissingExtraError("Telling languages apart", "data") from None
        return pycld2

    def __call__(self, text: str) -> Verdict:
        """Return the text in the languages kept, or which one it is in; a text too short to tell passes."""
        sure, shares = self.shares(_sample(text))
        if not shares or (not sure and len(text) < _SHORT):
            return Kept(text)
        share = sum(part for code, part in shares.items() if code in self._keep)
        if share < self.config.min_share:
            main = max(shares, key=lambda code: (shares[code], code))
            main = main if main not in self._keep else "mixed"
            return Dropped(f"language:{main}", f"{share:.0%} in {', '.join(self.config.keep)}")
        if not self.config.cut_paragraphs:
            return Kept(text)
        # One by one: of a whole document CLD2 says 99% English though a sixth of it is a French paragraph.
        lines = text.split("\n")
        kept = [line for line in lines if not self._foreign(line)]
        if len(kept) == len(lines):
            return Kept(text)
        return Kept(join_lines(kept), {"language:paragraph": len(lines) - len(kept)})

    def shares(self, text: str) -> tuple[bool, dict[str, float]]:
        """Return whether CLD2 is sure, and the shares of the languages it finds; empty if it finds none."""
        sure, _, found = self._detect(text)
        return sure, {code: percent / 100 for _, code, percent, _ in found if code != "un"}

    def _detect(self, text: str) -> tuple:
        try:
            return self._cld2.detect(text.encode("utf-8", "replace"), isPlainText=True)
        except self._cld2.error:  # it refuses control characters and the code points that are none
            printable = "".join(character if character.isprintable() else " " for character in text)
            return self._cld2.detect(printable.encode("utf-8", "replace"), isPlainText=True)

    def _foreign(self, line: str) -> bool:
        if len(line) < self.config.min_paragraph_characters and line.isascii():
            return False
        sure, shares = self.shares(line)
        if not sure or not shares:
            return False
        return sum(part for code, part in shares.items() if code in self._keep) < 1 - self.config.min_share


def _sample(text: str) -> str:
    if len(text) <= 4 * _LONG:
        return text
    middle = len(text) // 2
    return "\n".join((text[:_LONG], text[middle : middle + _LONG], text[-_LONG:]))
