"""An exponential moving average of the weights: what is shipped when the run asks for it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Follows a model's trainable weights in fp32."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.tensors: dict[str, Tensor] = {name: w.detach().clone() for name, w in self._weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the weights after `step` steps; early on it forgets faster, or it would lag."""
        decay = min(self._decay, (1 + step) / (10 + step))
        weights = [weight.detach() for weight in self._weights.values()]
        torch._foreach_lerp_(list(self.tensors.values()), weights, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's weights and the average."""
        for name, weight in self._weights.items():
            live = weight.detach().clone()
            weight.copy_(self.tensors[name])
            self.tensors[name].copy_(live)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model carry the average within this context."""
        self.swap()
        try:
            yield
        finally:
            self.swap()
