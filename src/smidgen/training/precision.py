"""Loss scaling for fp16, whose smallest gradients would vanish; does nothing for bf16 and fp32."""

import torch
from torch import Tensor

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
