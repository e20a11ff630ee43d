"""Dtypes of training: loss scaling for fp16, whose smallest gradients would vanish, and frozen weights cast once."""

import torch
from torch import Tensor, nn

from smidgen.training.sharded import whole

GROWTH_STEPS = 2000
"""Finite steps after which the scale doubles. Source: Micikevicius et al. 2017, arXiv 1710.03740."""


class GradientScaler:
    """Scales the loss up before backward and the gradients down after it; skips steps that overflow."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.active = dtype == torch.float16
        self.scale = 2.0**16 if self.active else 1.0
        self.finite_steps = 0

    def unscale(self, gradients: list[Tensor]) -> bool:
        """Divide the gradients by the scale in place; return False when they overflowed: then skip the step."""
        if not self.active:
            return True
        torch._foreach_mul_(gradients, 1 / self.scale)
        largest = whole(torch.stack(torch._foreach_norm(gradients, torch.inf)).max())
        if not torch.isfinite(largest):
            self.scale /= 2
            self.finite_steps = 0
            return False
        self.finite_steps += 1
        if self.finite_steps % GROWTH_STEPS == 0:
            self.scale *= 2
        return True


@torch.no_grad()
def cast_frozen(model: nn.Module, dtype: torch.dtype) -> int:
    """Hold frozen matrices in the dtype they are computed in, in place, where that loses nothing; return how many.

    Weights that were stored in bf16 and loaded in fp32 are cast once instead of at every forward, to a half of their
    memory, and what is computed, merged or fingerprinted stays the same bit for bit. Vectors, which norms read in
    fp32, and matrices that say more than `dtype` can, stay as they are.
    """
    cast = 0
    for weight in model.parameters():
        if weight.requires_grad or weight.ndim < 2 or weight.dtype == dtype or not weight.is_floating_point():
            continue
        narrow = weight.to(dtype)
        if torch.equal(narrow.to(weight.dtype), weight):
            weight.data = narrow
            cast += 1
    return cast
