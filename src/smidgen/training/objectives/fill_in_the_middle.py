"""Predict the next symbol of texts that are partly rearranged, so that a gap can be filled from both of its sides.

A text P M S becomes <prefix> P <suffix> S <middle> M, or <prefix><suffix> S <middle> P M. Source: Bavarian et al.
2022, arXiv 2207.14255: both orders, marks from the vocabulary's reserved symbols, "context-level": what is rearranged
is what of a document lies in the row. A row keeps its length, so the three marks stand in place of the last three
symbols of the suffix, which is cut off anyway wherever a row ends.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Int
from pydantic import Field

from smidgen.config import Config
from smidgen.data.batch import Batch
from smidgen.data.scored import ScoredBytes
from smidgen.tokenizers.base import Tokenizer

SHORTEST = 16
"""Symbols of a text worth rearranging."""
_MARKS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


class FillInTheMiddleConfig(Config):
    """Predict the next symbol of texts that are partly rearranged."""

    type: Literal["fill_in_the_middle"] = "fill_in_the_middle"
    rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the texts that is rearranged; up to 0.9 costs next to nothing. Source: Bavarian et al. 2022, 4.1."""
    suffix_first: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of these that has the suffix before the prefix (SPM)."""


@dataclass(frozen=True)
class Rearrange:
    """Rearranges texts inside rows; document boundaries, and everything at them, stay where they are."""

    config: FillInTheMiddleConfig
    marks: tuple[int, int, int]
    """Symbols of prefix, suffix and middle."""
    eot_id: int
    special_ids: frozenset[int]
    scored: ScoredBytes

    def __call__(self, batch: Batch, draw: np.random.Generator) -> Batch:
        """Return the batch with some texts rearranged; the marks are never targets, people set them."""
        symbols = torch.cat([batch.ids, batch.targets[:, -1:]], dim=1).numpy().copy()
        weights = batch.weights.numpy().copy()
        for row in range(len(symbols)):
            for start, end in texts_of(symbols[row], self.eot_id):
                if draw.random() < self.config.rate and self._is_plain(symbols[row, start:end], weights[row], start):
                    text, is_mark = self._rearranged(symbols[row, start:end], draw)
                    symbols[row, start:end] = text
                    weights[row, max(0, start - 1) : end - 1] *= ~is_mark[0 if start else 1 :]
        ids, targets = symbols[:, :-1], symbols[:, 1:]
        scored = self.scored(ids, targets, weights) if batch.bytes_scored else 0
        ids, targets = (torch.from_numpy(np.ascontiguousarray(part)) for part in (ids, targets))
        return Batch(ids, targets, torch.from_numpy(weights), scored, batch.extra)

    def _is_plain(self, text: Int[np.ndarray, "N"], weights: np.ndarray, start: int) -> bool:
        """Whether a text is long enough, holds no special symbol and is supervised throughout."""
        supervised = (weights[start : start + len(text) - 1] > 0).all()
        return len(text) >= SHORTEST and bool(supervised) and self.special_ids.isdisjoint(text.tolist())

    def _rearranged(
        self, text: Int[np.ndarray, "N"], draw: np.random.Generator
    ) -> tuple[Int[np.ndarray, "N"], np.ndarray]:
        """Return a text of the same length, rearranged, and which of its symbols are marks."""
        prefix_mark, suffix_mark, middle_mark = self.marks
        kept = text[: len(text) - len(self.marks)]
        first, second = sorted(draw.integers(0, len(kept) + 1, size=2).tolist())
        prefix, middle, suffix = kept[:first], kept[first:second], kept[second:]
        if draw.random() < self.config.suffix_first:
            parts = [[prefix_mark, suffix_mark], suffix, [middle_mark], prefix, middle]
        else:
            parts = [[prefix_mark], prefix, [suffix_mark], suffix, [middle_mark], middle]
        made = np.concatenate(parts)
        return made, np.isin(made, self.marks)


def texts_of(symbols: Int[np.ndarray, "S"], eot_id: int) -> list[tuple[int, int]]:
    """Return where each run of symbols between document boundaries starts and ends."""
    inside = np.concatenate([[False], symbols != eot_id, [False]])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def rearrange(config: FillInTheMiddleConfig, tokenizer: Tokenizer) -> Rearrange:
    """Make the change of batches. Raises TokenizerError if the vocabulary lacks the marks."""
    prefix, suffix, middle = (tokenizer.special_id(mark) for mark in _MARKS)
    return Rearrange(config, (prefix, suffix, middle), tokenizer.eot_id, tokenizer.special_ids, ScoredBytes(tokenizer))
