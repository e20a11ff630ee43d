"""Several answers to each of a few prompts in one row, every prompt once: a tree of symbols, laid flat.

A prompt's last symbol opens each of its answers, since what follows it differs; what is before stands once, as a trunk
that all its answers see. Eight answers of 10 symbols to a prompt of 50 are 129 symbols this way and 472 in rows of
their own. Source: the shared prefixes of inference (Juravsky et al. 2024, arXiv 2402.05099), here with gradients.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Int
from torch import Tensor

PADDING = 8
"""Rows are padded to a multiple of this: few distinct lengths, and matrix products whose sides divide evenly."""


def padded(length: int) -> int:
    """Return the length of a row that holds so many symbols."""
    return -(-length // PADDING) * PADDING


@dataclass(frozen=True)
class Branches:
    """Who follows whom in a row of T symbols: G trunks of up to P symbols, each with up to N branches of up to L."""

    positions: Int[Tensor, " T"]
    """Of each symbol in its own sequence, its trunk counted."""
    sequences: Int[Tensor, " T"]
    """Which branch a symbol is of, all branches counted through; of trunks and padding the number says nothing."""
    trunks: Int[Tensor, "G P"]
    """Places of the trunks' symbols in the row; T where a trunk has ended."""
    branches: Int[Tensor, "G N L"]
    """Places of the branches' symbols; T where one has ended or there is none."""
    back: Int[Tensor, " T"]
    """Where each symbol stands among those of `trunks` and then of `branches`; behind all of them for padding."""
    n: int
    """Branches in all."""

    def to(self, device: torch.device) -> "Branches":
        """Copy to a device."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "n"}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})


def lay_out(trunks: Sequence[int], branches: Sequence[Sequence[int]], length: int) -> Branches:
    """Return the layout of a row: each trunk followed by its branches, all given by their lengths, then padding."""
    n_trunk, n_branches = max(1, *trunks), max(map(len, branches))
    n_branch = max(most for group in branches for most in group)
    positions, sequences = torch.zeros(length, dtype=torch.long), torch.zeros(length, dtype=torch.long)
    trunk_places = torch.full((len(trunks), n_trunk), length)
    branch_places = torch.full((len(trunks), n_branches, n_branch), length)
    at = sequence = 0
    for group, (trunk, own) in enumerate(zip(trunks, branches, strict=True)):
        positions[at : at + trunk] = torch.arange(trunk)
        trunk_places[group, :trunk] = torch.arange(at, at + trunk)
        at += trunk
        for branch, most in enumerate(own):
            positions[at : at + most] = torch.arange(trunk, trunk + most)
            sequences[at : at + most] = sequence
            branch_places[group, branch, :most] = torch.arange(at, at + most)
            at, sequence = at + most, sequence + 1
    places = torch.cat([trunk_places.flatten(), branch_places.flatten()])
    back = torch.full((length + 1,), len(places))
    back[places] = torch.arange(len(places))
    return Branches(positions, sequences, trunk_places, branch_places, back[:length], sequence)
