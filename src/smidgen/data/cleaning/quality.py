"""The published rules for what is prose: Gopher's, C4's and FineWeb's, each with its own thresholds.

A rule is a share or a count of one document; whichever fails first is the reason. Rules about repetition are in
`repetition.py`. Where a rule would cut the headings of well-kept text it is off, and says so.
"""

import re
from itertools import filterfalse, islice
from typing import Annotated, Literal

from pydantic import Field

from smidgen.config import Config
from smidgen.data.cleaning.step import Dropped, Kept, Verdict

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]

GOPHER_STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
"""Source: Rae et al. 2021, arXiv 2112.11446, table A1."""
_SOON = 100
"""Words from the beginning in which stop words are looked for first."""
_BULLETS = ("-", "*", "•", "‣", "●", "◦", "▪", "–")
_ELLIPSES = ("...", "…", "[...]", "[…]")
_SYMBOLS = ("#", "...", "…")
_LETTER = re.compile(r"[^\W\d_]")
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]]*(?=\s|$)")
_TERMINAL = tuple(".!?\"'”’…。！？")
_JAVASCRIPT = "javascript"
_POLICIES = re.compile(r"terms of use|privacy policy|cookie policy|use(?:s| of|) cookies")
"""Source: Raffel et al. 2019, arXiv 1910.10683, section 2.2; the phrases are those of the published code."""
_POLICY_WORDS = ("cookie", "policy", "terms of use")
_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_PLACEHOLDER = "lorem ipsum"


class GopherConfig(Config):
    """Rae et al. 2021, arXiv 2112.11446, table A1 (rules about the document as a whole)."""

    type: Literal["gopher"] = "gopher"
    min_words: Count = 50
    """Fewer words are no document."""
    max_words: Count = 100_000
    """More words are a dump; cut long documents first if they are wanted."""
    min_mean_word_length: float = 3.0
    """Mean characters of a word, at least."""
    max_mean_word_length: float = 10.0
    """Mean characters of a word, at most."""
    max_symbols: Share = 0.1
    """Hash signs and ellipses for each word."""
    max_bullet_lines: Share = 0.9
    """Lines that begin with a bullet."""
    max_ellipsis_lines: Share = 0.3
    """Lines that end with an ellipsis."""
    min_alphabetic_words: Share = 0.8
    """Words with a letter in them."""
    min_stop_words: Count = 2
    """How many of eight English stop words must occur; 0 for other languages."""


class Gopher:
    """Drops what is too short, too long, or not made of words and lines as prose is."""

    name = "gopher"

    def __init__(self, config: GopherConfig) -> None:
        self.config = config

    def __call__(self, text: str) -> Verdict:
        """Return the text as it is, or the first rule it fails."""
        config, words = self.config, text.split()
        if len(words) < config.min_words:
            return Dropped("gopher:too_short", f"{len(words)} words, under {config.min_words}")
        if len(words) > config.max_words:
            return Dropped("gopher:too_long", f"{len(words)} words, over {config.max_words}")
        mean = len("".join(words)) / len(words)
        if not config.min_mean_word_length <= mean <= config.max_mean_word_length:
            return Dropped("gopher:mean_word_length", f"{mean:.1f} characters")
        symbols = sum(map(text.count, _SYMBOLS)) / len(words)
        if symbols > config.max_symbols:
            return Dropped("gopher:symbols", f"{symbols:.2f} a word")
        lines = lines_of(text)
        bullets = sum(line.startswith(_BULLETS) for line in lines) / len(lines)
        if bullets > config.max_bullet_lines:
            return Dropped("gopher:bullets", f"{bullets:.0%} of the lines")
        ellipses = sum(line.endswith(_ELLIPSES) for line in lines) / len(lines)
        if ellipses > config.max_ellipsis_lines:
            return Dropped("gopher:ellipses", f"{ellipses:.0%} of the lines")
        odd = list(filterfalse(str.isalpha, words))  # not of letters alone: few, and of most even these are enough
        alphabetic = 1 - len(odd) / len(words)
        if alphabetic < config.min_alphabetic_words:
            alphabetic = (len(words) - len(odd) + sum(bool(_LETTER.search(word)) for word in odd)) / len(words)
        if alphabetic < config.min_alphabetic_words:
            return Dropped("gopher:alphabetic_words", f"{alphabetic:.0%} of the words")
        # Most texts have said enough of them soon, and looking at every word is a quarter of the time of all rules.
        present = len(GOPHER_STOP_WORDS.intersection(words[:_SOON]))
        if present < config.min_stop_words:
            present = len(GOPHER_STOP_WORDS.intersection(words))
        if present < config.min_stop_words:
            present = len(GOPHER_STOP_WORDS.intersection(text.lower().split()))
        if present < config.min_stop_words:
            return Dropped("gopher:stop_words", f"{present} of {len(GOPHER_STOP_WORDS)}")
        return Kept(text)


class C4Config(Config):
    """Raffel et al. 2019, arXiv 1910.10683, section 2.2."""

    type: Literal["c4"] = "c4"
    terminal_punctuation: bool = False
    """Cut lines that do not end like a sentence. Off: it cuts every heading, and FineWeb found that it costs 30% of the
    tokens (Penedo et al. 2024, arXiv 2406.17557, section 3.4)."""
    min_line_words: Count = 0
    """Cut lines of fewer words; C4 has 5. Off for the same reason."""
    min_sentences: Count = 3
    """Drop pages of fewer sentences; C4 has 3."""
    javascript: bool = True
    """Cut lines that ask for Javascript."""
    policies: bool = True
    """Cut lines about cookies, privacy policies and terms of use."""
    max_line_words: Count = 60
    """Longer lines about policies or Javascript are paragraphs with that subject, and stay; C4 cuts them too."""
    citations: bool = True
    """Remove citation marks of encyclopaedias: [1], [edit], [citation needed]."""
    placeholder: bool = True
    """Drop pages with "lorem ipsum"."""
    curly: bool = False
    """Drop pages with a curly bracket, as C4 does for being code. Off: it also drops every page about sets."""


class C4:
    """Cuts the lines of a page that are its machinery, and drops placeholder pages."""

    name = "c4"

    def __init__(self, config: C4Config) -> None:
        self.config = config

    def __call__(self, text: str) -> Verdict:
        """Return the text without the lines cut, or the rule the page fails."""
        config, lowered = self.config, text.lower()
        if config.placeholder and _PLACEHOLDER in lowered:
            return Dropped("c4:placeholder", "lorem ipsum")
        if config.curly and "{" in text:
            return Dropped("c4:curly_bracket")
        changes: dict[str, int] = {}
        if config.citations and "[" in text:
            text, count = _CITATION.subn("", text)
            if count:
                changes, lowered = {"c4:citation": count}, text.lower()
        if self._may_cut(lowered):
            text = self._cut_lines(text, changes)
        sentences = len(list(islice(_SENTENCE_END.finditer(text), config.min_sentences)))
        if sentences < config.min_sentences:
            return Dropped("c4:sentences", f"{sentences}, under {config.min_sentences}")
        return Kept(text, changes)

    def _may_cut(self, lowered: str) -> bool:
        """Return whether any line can be cut: the words are looked for once in the whole page, which is quick."""
        config = self.config
        if config.terminal_punctuation or config.min_line_words:
            return True
        return (config.javascript and _JAVASCRIPT in lowered) or (
            config.policies and any(word in lowered for word in _POLICY_WORDS)
        )

    def _cut_lines(self, text: str, changes: dict[str, int]) -> str:
        lines, kept = text.split("\n"), list[str]()
        for line in lines:
            why = self._cut(line) if line.strip() else ""
            if why:
                changes[why] = changes.get(why, 0) + 1
            else:
                kept.append(line)
        return join_lines(kept) if len(kept) < len(lines) else text

    def _cut(self, line: str) -> str:
        config, words = self.config, len(line.split())
        if config.terminal_punctuation and not line.rstrip().endswith(_TERMINAL):
            return "c4:terminal_punctuation"
        if words < config.min_line_words:
            return "c4:short_line"
        if words <= config.max_line_words:
            if config.javascript and _JAVASCRIPT in line.lower():
                return "c4:javascript"
            if config.policies and _POLICIES.search(line.lower()):
                return "c4:policy"
        return ""


class FineWebConfig(Config):
    """Penedo et al. 2024, arXiv 2406.17557, section 3.6."""

    type: Literal["fineweb"] = "fineweb"
    min_punctuated_lines: Share = 0.12
    """Lines that end like a sentence."""
    max_duplicate_line_characters: Share = 0.1
    """Characters in lines that stood before in the document."""
    max_short_lines: Share = 0.67
    """Lines of fewer characters than `short_line`."""
    short_line: Count = 30
    """Below so many characters a line is short."""


class FineWeb:
    """Drops pages whose lines are those of lists and menus."""

    name = "fineweb"

    def __init__(self, config: FineWebConfig) -> None:
        self.config = config

    def __call__(self, text: str) -> Verdict:
        """Return the text as it is, or the first rule it fails."""
        config, lines = self.config, lines_of(text)
        if not lines:
            return Dropped("fineweb:empty")
        punctuated = sum(line.endswith(_TERMINAL) for line in lines) / len(lines)
        if punctuated < config.min_punctuated_lines:
            return Dropped("fineweb:punctuation", f"{punctuated:.0%} of the lines end like a sentence")
        short = sum(len(line) < config.short_line for line in lines) / len(lines)
        if short > config.max_short_lines:
            return Dropped("fineweb:short_lines", f"{short:.0%} of the lines")
        whole = sum(map(len, lines))
        again = (whole - sum(map(len, set(lines)))) / whole
        if again > config.max_duplicate_line_characters:
            return Dropped("fineweb:duplicate_lines", f"{again:.0%} of the characters")
        return Kept(text)


def lines_of(text: str) -> list[str]:
    """Return the lines that say something, stripped."""
    return [line for line in map(str.strip, text.split("\n")) if line]


def join_lines(lines: list[str]) -> str:
    """Return lines as a text in which what was cut leaves no hole: at most one blank line, none at the ends."""
    kept = [line for n, line in enumerate(lines) if line.strip() or (n and lines[n - 1].strip())]
    return "\n".join(kept).strip("\n")
