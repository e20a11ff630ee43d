"""The first singular directions of a matrix, the same on every machine: exact for small ones, else by a Krylov space.

A full SVD of the 210 maps of a 135M model takes 10 s for the two directions that are kept. A Krylov space finds them in
1.5, because it converges with the square root of the gap where power iterations converge with the gap itself; it grows
until it has them: on SmolLM2-135M, singular values to 2e-4 and directions to 0.03 at worst, where the gap is smallest.
Source: Musco and Musco 2015, arXiv 1504.05477.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from smidgen.errors import ConfigError
from smidgen.surgery.counter import normals

EXACT_BELOW = 128
"""Smaller sides than this are decomposed whole, in a millisecond."""
WIDTH = 16
"""Columns of a block, at least: four take longer than sixteen (1.6 ms, 0.4 ms for a map of 1536 x 576, fp32)."""
STRIDE = 3
"""Blocks between two looks at what has been found."""
MOST_BLOCKS = 13
"""Of a matrix without gaps, as drawn at random, 208 columns give singular values to 0.1%."""
TOLERANCE = 1e-2
"""Of A^T u - s v, as a share of s; 3e-3 costs a fifth more (1.7 s, 2.0 s for 210 maps)."""
EXHAUSTED = 1e-5
"""Share of a new block that is rounding alone."""


class Factors(NamedTuple):
    """The first singular directions of a matrix, each side with the roots of the singular values: up @ down."""

    up: Float[Tensor, "d_out r"]
    down: Float[Tensor, "r d_in"]


def svd_factors(weight: Float[Tensor, "d_out d_in"], r: int) -> Factors:
    """Return U sqrt(S) and sqrt(S) V^T of the `r` greatest singular values, in fp32; zeros beyond the rank.

    Signs are canonical. Raises ConfigError if the matrix holds values that are not finite.
    """
    matrix = weight.detach().float()
    kept = min(r, *matrix.shape)
    try:
        u, s, vt = truncated_svd(matrix, kept)
    except torch.linalg.LinAlgError:
        raise ConfigError(
            "holds values that are not finite, so it has no singular directions. Mend the base."
        ) from None
    roots = s.clamp_min(0).sqrt()
    up, down = matrix.new_zeros(matrix.shape[0], r), matrix.new_zeros(r, matrix.shape[1])
    up[:, :kept], down[:kept] = u * roots, roots[:, None] * vt
    return Factors(up, down)


def truncated_svd(
    matrix: Float[Tensor, "d_out d_in"], r: int
) -> tuple[Float[Tensor, "d_out r"], Float[Tensor, " r"], Float[Tensor, "r d_in"]]:
    """Return the `r` greatest singular values with their directions; each left one's greatest entry is positive."""
    width = max(WIDTH, r + 8)
    if min(matrix.shape) <= max(EXACT_BELOW, (STRIDE + 1) * width):
        u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
        u, s, vt = u[:, :r], s[:r], vt[:r]
    else:
        u, s, vt = _krylov_svd(matrix, r, width)
    largest = u.gather(0, u.abs().argmax(0, keepdim=True))
    signs = torch.where(largest < 0, -1.0, 1.0)
    return u * signs, s, vt * signs.mT


def _krylov_svd(
    matrix: Float[Tensor, "m n"], r: int, width: int
) -> tuple[Float[Tensor, "m r"], Float[Tensor, " r"], Float[Tensor, "r n"]]:
    """Decompose a matrix within the space of X, A^T A X, (A^T A)^2 X, ..., for a random X of `width` columns."""
    if matrix.shape[0] < matrix.shape[1]:
        u, s, vt = _krylov_svd(matrix.mT, r, width)
        return vt.mT, s, u.mT
    basis = torch.linalg.qr(normals((matrix.shape[1], width), 1.0, seed=0, index=0).to(matrix.device)).Q
    images, most, exhausted = matrix @ basis, min(matrix.shape[1], MOST_BLOCKS * width), False
    while True:
        for _ in range(STRIDE):
            block = matrix.mT @ images[:, -width:]
            fresh = block - basis @ (basis.mT @ block)
            exhausted = bool(fresh.norm() <= EXHAUSTED * block.norm())
            block = torch.linalg.qr(fresh).Q
            block = torch.linalg.qr(block - basis @ (basis.mT @ block)).Q  # what is little may point anywhere
            basis, images = torch.cat([basis, block], 1), torch.cat([images, matrix @ block], 1)
        within = torch.linalg.eigh(images.mT @ images).eigenvectors[:, -r:]
        u, s, turn = torch.linalg.svd(images @ within, full_matrices=False)
        v = basis @ (within @ turn.mT)
        missed = torch.linalg.vector_norm(matrix.mT @ u - v * s, dim=0)
        if exhausted or bool((missed <= TOLERANCE * s).all()) or basis.shape[1] + STRIDE * width > most:
            return u, s, v.mT
