"""Vectors for runs of symbols: a vocabulary of what belongs together that costs memory and no time.

A run is hashed into a table, so nothing is trained beforehand and any run has a vector; runs that hash alike share it.
Five per cent for a byte model of ten million parameters (LOG.md, 2026-11-22). Source: hashed n-gram embeddings of
Pagnoni et al. 2024 (BLT), arXiv 2412.09871, section 3.2.1; modded-nanogpt's bigram hash for small vocabularies.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

NgramLengths = tuple[Annotated[int, Field(ge=2, le=8)], ...]

HASH = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio: Knuth's multiplier."""


class HashedNgrams(nn.Module):
    """An embedding of the runs of symbols that end with each symbol."""

    def __init__(self, lengths: Sequence[int], buckets: int, d_model: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.powers = [
            [_wrapped(HASH ** (n - back)) if back < n else 0 for n in lengths] for back in range(max(lengths))
        ]
        """What the hash of each length multiplies the symbol so many places back by: a polynomial of the symbols."""
        self.n_back = len(self.powers) - 1
        """Symbols before the first that its longest run reaches back to."""
        self.embed = nn.Parameter(torch.empty(len(lengths) * buckets, d_model))

    def forward(self, ids: Int[Tensor, "B T"], before: Int[Tensor, "B n"] | None = None) -> Float[Tensor, "B T D"]:
        """Return the sum over lengths; `before` are the `n_back` symbols before the first, -1 (None: all) for none."""
        if before is None:
            before = ids.new_full((len(ids), self.n_back), -1)
        powers = torch.tensor(self.powers, device=ids.device)
        runs = (torch.cat([before, ids], 1) + 1).unfold(1, self.n_back + 1, 1).flip(-1)
        hashed = (runs[..., None] * powers).sum(-2)  # wraps, as it should
        firsts = torch.arange(powers.shape[1], device=ids.device) * self.buckets
        return F.embedding((hashed >> 32) % self.buckets + firsts, self.embed).sum(-2)

    def init_weights(self, generator: torch.Generator) -> None:
        """Draw the table as an embedding is drawn."""
        nn.init.normal_(self.embed, std=0.02, generator=generator)


def _wrapped(number: int) -> int:
    """Return a whole number as 64 bits hold it."""
    return (number + 2**63) % 2**64 - 2**63
