"""Documents that say the same again and again: Gopher's rules about repeated lines, paragraphs and runs of words.

Characters are counted once, however many repeated runs they stand in; of a repeated run the first is not repetition.
"""

from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from smidgen.config import Config
from smidgen.data.cleaning.quality import lines_of
from smidgen.data.cleaning.step import Dropped, Kept, Verdict
from smidgen.data.cleaning.words import WordHasher

Share = Annotated[float, Field(ge=0, le=1)]


class RepetitionConfig(Config):
    """Rae et al. 2021, arXiv 2112.11446, table A1."""

    type: Literal["repetition"] = "repetition"
    max_duplicate_lines: Share = 0.3
    """Lines that stood before, of all lines."""
    max_duplicate_line_characters: Share = 0.2
    """Characters in such lines."""
    max_duplicate_paragraphs: Share = 0.3
    """Paragraphs that stood before, of all paragraphs."""
    max_duplicate_paragraph_characters: Share = 0.2
    """Characters in such paragraphs."""
    top: tuple[Share, ...] = (0.2, 0.18, 0.16)
    """Characters in the most frequent run of two, three, four words."""
    repeated: tuple[Share, ...] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.1)
    """Characters in runs of five, six, ... ten words that stood before."""
    sample_characters: Annotated[int, Field(ge=1000)] = 1 << 20
    """A longer document is judged by its beginning: sorting all runs of a book costs seconds."""


class Repetition:
    """Drops documents that repeat themselves."""

    name = "repetition"

    def __init__(self, config: RepetitionConfig) -> None:
        self.config = config

    @cached_property
    def _hasher(self) -> WordHasher:
        return WordHasher()

    def __call__(self, text: str) -> Verdict:
        """Return the text as it is, or the first rule it fails."""
        sample = text[: self.config.sample_characters]
        return self._lines(sample) or self._runs(sample) or Kept(text)

    def _lines(self, text: str) -> Dropped | None:
        config = self.config
        paragraphs = [paragraph for paragraph in map(str.strip, text.split("\n\n")) if paragraph]
        for name, parts, most, most_characters in (
            ("line", lines_of(text), config.max_duplicate_lines, config.max_duplicate_line_characters),
            ("paragraph", paragraphs, config.max_duplicate_paragraphs, config.max_duplicate_paragraph_characters),
        ):
            if len(parts) < 2:
                continue
            different = set(parts)
            again = 1 - len(different) / len(parts)
            if again > most:
                return Dropped(f"gopher:duplicate_{name}s", f"{again:.0%} of the {name}s")
            characters = 1 - sum(map(len, different)) / sum(map(len, parts))
            if characters > most_characters:
                return Dropped(f"gopher:duplicate_{name}_characters", f"{characters:.0%} of the characters")
        return None

    def _runs(self, text: str) -> Dropped | None:
        hashed = self._hasher.hash(text)
        lengths = hashed.ends - hashed.starts
        total, longest = max(int(lengths.sum()), 1), int(lengths.max(initial=0))
        times = len(lengths)
        for words, most in enumerate(self.config.top, start=2):
            # No run comes more often than its first words do: mostly that alone says that it is not too much.
            if times * words * longest <= most * total:
                continue
            times, characters = _top_run(hashed.runs(words), lengths, words)
            if times < 2:
                return None
            if characters / total > most:
                return Dropped(f"gopher:top_{words}_gram", f"{characters / total:.0%} of the characters")
        least = min(self.config.repeated, default=1.0)
        for words, most in enumerate(self.config.repeated, start=5):
            share = _repeated_characters(hashed.runs(words), lengths, words, least * total / max(longest, 1)) / total
            if share > most:
                return Dropped(f"gopher:repeated_{words}_grams", f"{share:.0%} of the characters")
            if share <= least:
                return None  # what repeated runs of more words cover is covered by repeated runs of fewer
        return None


def _top_run(runs: np.ndarray, lengths: np.ndarray, words: int) -> tuple[int, int]:
    """Return how often the most frequent run of so many words comes, and the characters of all of it."""
    if not len(runs):
        return 0, 0
    ranked = np.sort(runs)
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(runs) - 1)  # the last place of each different run
    if len(ends) == len(runs):
        return 1, 0
    counts = ends.copy()
    counts[1:] -= ends[:-1]
    counts[0] += 1
    best = int(np.argmax(counts))
    at = int(np.argmax(runs == ranked[ends[best]]))
    return int(counts[best]), int(counts[best]) * int(lengths[at : at + words].sum())


def _repeated_characters(runs: np.ndarray, lengths: np.ndarray, words: int, few: float) -> int:
    """Return the characters of the words in a run that stood before; 0 if those words can only be so few."""
    ranked = np.sort(runs)
    if np.count_nonzero(ranked[1:] == ranked[:-1]) * words <= few:
        return 0
    again = np.ones(len(runs), dtype=bool)
    again[np.unique(runs, return_index=True)[1]] = False
    edges = np.zeros(len(lengths) + 1, np.int64)
    edges[: len(again)] += again
    edges[words : words + len(again)] -= again
    return int(lengths[np.cumsum(edges)[:-1] > 0].sum())
