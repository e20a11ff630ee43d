"""Muon: momentum whose matrix is replaced by the nearest orthogonal one before it moves the weights.

Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon. Matrices of one shape are orthogonalised together in
one batched product: at 10M parameters the 48 separate products of a step cost more in launches than in arithmetic.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from smidgen.training.config import MuonConfig
from smidgen.training.sharded import part_like, whole

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Quintic whose slope at 0 is greatest while singular values stay within [0.7, 1.2]. Source: Jordan et al. 2024."""


def orthogonalize(
    matrices: Float[Tensor, "n rows cols"], steps: int, dtype: torch.dtype = torch.bfloat16
) -> Float[Tensor, "n rows cols"]:
    """Push every singular value of each matrix to about 1 by Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon:
    """The optimizer of the blocks' matrices."""

    def __init__(self, weights: Mapping[str, Tensor], config: MuonConfig, dtype: torch.dtype) -> None:
        self._config = config
        self._dtype = dtype
        self._shapes: dict[torch.Size, list[str]] = {}
        for name, weight in weights.items():
            self._shapes.setdefault(weight.shape, []).append(name)
        self._weights = dict(weights)
        self.momentum = {name: torch.zeros_like(weight) for name, weight in weights.items()}

    @torch.no_grad()
    def step(self, multiplier: float) -> None:
        """Move every matrix; one whose gradient is None stays."""
        config = self._config
        rate = config.learning_rate * multiplier
        for shape, names in self._shapes.items():
            found = {name: grad for name in names if (grad := self._weights[name].grad) is not None}
            if not found:
                continue
            moved, grads = list(found), list(found.values())
            weights = [self._weights[name] for name in moved]
            momenta = [self.momentum[name] for name in moved]
            torch._foreach_lerp_(momenta, grads, 1 - config.momentum)
            # Nesterov: look ahead along the new momentum. A matrix in parts is orthogonalised whole, on every rank.
            ahead = torch.stack([whole(matrix) for matrix in torch._foreach_lerp(grads, momenta, config.momentum)])
            update = orthogonalize(ahead, config.newton_schulz_steps, self._dtype).float()
            updates = [part_like(matrix, weight) for matrix, weight in zip(update.unbind(), weights, strict=True)]
            # An orthogonal matrix taller than wide moves its outputs less; the square root restores their size.
            scale = rate * max(1.0, shape[0] / shape[1]) ** 0.5
            torch._foreach_mul_(weights, 1 - rate * config.weight_decay)
            torch._foreach_add_(weights, updates, alpha=-scale)
