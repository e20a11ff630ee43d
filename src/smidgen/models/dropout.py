"""Dropout whose rate may change at every step without a compiled model noticing.

The rate is a 0-d tensor that the modules read; only whether there is any dropout is a plain switch. Off, or in
evaluation, it costs nothing and draws nothing.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Dropout(nn.Module):
    """Set a share of what passes to zero and scale up the rest. Source: Srivastava et al. 2014, JMLR 15.

    Draws come from torch's default generator of the device, whose state is part of a resume checkpoint.
    """

    rate: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.on = False
        self.allowed = True
        """Whether it may be switched on; not inside a model whose certainty is measured while it trains."""
        self.register_buffer("rate", torch.zeros(()), persistent=False)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Drop while training, if there is anything to drop."""
        if not (self.on and self.training):
            return x
        # torch.rand and a comparison: a third of the time of torch's CPU dropout, and compilers fuse it.
        kept = torch.rand(x.shape, device=x.device) >= self.rate
        return x * (kept / (1 - self.rate)).to(x.dtype)


def set_dropout(model: nn.Module, rate: float) -> None:
    """Set the rate of every dropout inside a model but those that are to have none; 0 switches them off."""
    for module in model.modules():
        if isinstance(module, Dropout) and module.allowed:
            module.on = rate > 0
            module.rate.fill_(rate)
