"""Frozen maps held once while a model both trains and answers: laid out for decoding, unpacked where a gradient passes.

A copy made for decoding beside the model it came from is all weights twice: of SmolLM2-135M 213 MB in bf16. The layout
that decodes fast also computes forwards; only the gradient of a map's input needs the rows as they were, one map at a
time (0.3 ms for 1.8 MB).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.inference.maps import PackedLinear, can_pack
from smidgen.models.layers import AdaptedLinear, Linear
from smidgen.models.stack import Block


class OnceLinear(nn.Module):
    """A frozen linear map whose one weight is packed; what it computes is what `Linear` does, up to rounding."""

    def __init__(self, linear: Linear, dtype: torch.dtype) -> None:
        """Take the weight of a map over; `give_back` returns it."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._lent = (linear, linear.weight.dtype)  # in a tuple, so that it is no part of the model
        self._packed = PackedLinear(linear.weight.detach().to(dtype)).packed
        linear.weight.data = linear.weight.data.new_empty(0)

    @property
    def weight(self) -> Float[Tensor, "d_out d_in"]:
        """The weight as it was, made anew."""
        return self._packed.to_dense()

    def forward(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """Return x @ weight.T."""
        if torch.is_grad_enabled() and x.requires_grad:
            return _Through.apply(x, self._packed)  # pyright: ignore[reportReturnType]
        return _apply(x, self._packed)

    def give_back(self) -> Linear:
        """Return the map this was made of, its weight in place again."""
        linear, dtype = self._lent
        linear.weight.data = self.weight.to(dtype)
        return linear


@contextmanager
def held_once(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Within this context the frozen maps of a model's blocks are packed, and its copies for decoding share them.

    Nothing happens where nothing can be packed, or to weights of another dtype: rounded, they could not be given back.
    """
    slots = _slots(model, dtype) if can_pack(next(model.parameters()).device, dtype) else []
    made: dict[Linear, OnceLinear] = {}
    try:
        for owner, name, linear in slots:
            if linear not in made:
                made[linear] = OnceLinear(linear, dtype)
            setattr(owner, name, made[linear])
        yield
    finally:
        for owner, name, linear in slots:
            if linear in made:
                setattr(owner, name, linear)
        for once in made.values():
            once.give_back()


def frozen_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield what does not train, each weight once and in the order of the model's parameters, packed or not."""
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        own: list[tuple[str, Any]] = list(module.named_parameters(recurse=False))
        if isinstance(module, OnceLinear):
            yield f"{prefix}.weight", module.weight
        for name, weight in own:
            if not weight.requires_grad and id(weight) not in seen:
                seen.add(id(weight))
                yield (f"{prefix}.{name}" if prefix else name), weight.detach()


class _Through(torch.autograd.Function):
    """A packed product whose backward unpacks the weight."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        x, ctx.packed = inputs
        return _apply(x, ctx.packed)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        return grads[0] @ ctx.packed.to_dense(), None


def _apply(x: Tensor, packed: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.default(x, packed, None, "none", [], "")


def _slots(model: nn.Module, dtype: torch.dtype) -> list[tuple[nn.Module, str, Linear]]:
    """Return every place inside a block where a frozen map stands, with its name there.

    Those that depths share and add to are merged with what they add when they are made for decoding: they stay.
    """
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    every = dict.fromkeys(owner for block in blocks for owner in block.modules())
    merged = {part for owner in every if isinstance(owner, AdaptedLinear) for part in owner.modules()}
    owners = [owner for owner in every if owner not in merged]
    return [
        (owner, name, child)
        for owner in owners
        for name, child in owner.named_children()
        if type(child) is Linear and not child.weight.requires_grad and child.weight.dtype == dtype
    ]
