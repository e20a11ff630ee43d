"""Frozen maps held once while a model both trains and answers: laid out for decoding, unpacked where a gradient passes;
or in eight bits, for half the memory.

A copy made for decoding beside the model it came from is all weights twice: of SmolLM2-135M 213 MB in bf16. The layout
that decodes fast also computes forwards; only the gradient of a map's input needs the rows as they were, one map at a
time (0.3 ms for 1.8 MB).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.inference.adapted import fit_together, take_apart
from smidgen.inference.maps import Int8Linear, PackedLinear, can_pack
from smidgen.models.attention import Attention
from smidgen.models.layers import AdaptedLinear, Linear, SwiGLU
from smidgen.models.stack import Block
from smidgen.runtime import return_freed_memory

Product = PackedLinear | Int8Linear
"""What may hold a weight."""


@dataclass
class Unpacked:
    """The weight that was unpacked last: maps of one product are asked one behind the other."""

    last: tuple[Product, Tensor] | None = None

    def of(self, product: Product) -> Float[Tensor, "d_out d_in"]:
        """Return the weight of a product as it was."""
        last = self.last  # once: another thread may unpack another
        if last is None or last[0] is not product:
            last = self.last = product, product.dense()
        return last[1]


class OnceLinear(nn.Module):
    """A frozen linear map whose one weight is packed; what it computes is what `Linear` does, up to rounding.

    Maps that decoding runs as one product are packed as one. Alone, each of them is a product with its rows unpacked:
    2% of a step of training, where answering gains a quarter (SmolLM2-135M, LOG.md).
    """

    def __init__(self, linear: Linear, product: Product, rows: slice, unpacked: Unpacked) -> None:
        """Stand for a map whose weight is these rows of a product; it takes the weight over, `give_back` returns it."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.rows = rows
        self._lent = (linear, product, unpacked)  # in a tuple, so that none is a part of the model
        self._is_whole = (rows.start, rows.stop) == (0, product.d_out)
        linear.weight.data = linear.weight.data.new_empty(0)

    @property
    def product(self) -> Product:
        """What holds the weight."""
        return self._lent[1]

    @property
    def weight(self) -> Float[Tensor, "d_out d_in"]:
        """The weight as it was: to be read at once, and not to be changed."""
        return self._lent[2].of(self.product)[self.rows]

    def forward(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """Return x @ weight.T."""
        if torch.is_grad_enabled() and x.requires_grad:
            return _Through.apply(x, self)  # pyright: ignore[reportReturnType]
        return self.multiply(x)

    def multiply(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """Return x @ weight.T, as far as autograd can tell from nothing."""
        return self.product(x) if self._is_whole else F.linear(x, self.weight)

    def give_back(self) -> None:
        """Put the weight in its place again; the last map of a product lets the product go."""
        linear, product, unpacked = self._lent
        linear.weight.data = self.weight.clone()
        if self.rows.stop == product.d_out:
            unpacked.last = None
            product.release()


@contextmanager
def held_once(model: nn.Module, dtype: torch.dtype, bits: Literal[8] | None = None) -> Iterator[None]:
    """Within this context the frozen maps of a model's blocks are packed, and its copies for decoding share them: a
    copy made inside ends with it.

    Nothing happens where nothing can be packed, or to weights of another dtype: rounded, they could not be given back.
    With `bits` they are rounded to eight bits, and given back so.
    """
    can_hold = bits is not None or can_pack(next(model.parameters()).device, dtype)
    slots = _slots(model, dtype) if can_hold else []
    lay_out = PackedLinear if bits is None else Int8Linear
    made: dict[Linear, OnceLinear] = {}
    unpacked = Unpacked()
    try:
        for linears in _products(model, list(dict.fromkeys(linear for _, _, linear in slots))):
            product = lay_out(torch.cat([linear.weight.detach() for linear in linears]))
            ends = list(accumulate(linear.out_features for linear in linears))
            for linear, end in zip(linears, ends, strict=True):
                made[linear] = OnceLinear(linear, product, slice(end - linear.out_features, end), unpacked)
        for owner, name, linear in slots:
            setattr(owner, name, made[linear])
        return_freed_memory()  # SmolLM2-135M: 180 MB, in pieces that what comes after does not fit
        yield
    finally:
        for owner, name, linear in slots:
            setattr(owner, name, linear)
        for once in made.values():
            once.give_back()


def held_product(maps: Sequence[nn.Module]) -> Product | None:
    """Return the one product that holds just these maps, one behind the other; None if there is none."""
    once = [one for one in maps if isinstance(one, OnceLinear)]
    if len(once) < len(maps) or len({id(one.product) for one in once}) > 1:
        return None
    ends = [0, *(one.rows.stop for one in once)]
    in_order = all(one.rows.start == begin for one, begin in zip(once, ends, strict=False))
    return once[0].product if in_order and ends[-1] == once[0].product.d_out else None


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
    """A product with a packed weight whose backward unpacks it."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        x, ctx.once = inputs
        return ctx.once.multiply(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        return grads[0] @ ctx.once.weight, None


def _products(model: nn.Module, linears: Sequence[Linear]) -> Iterator[list[Linear]]:
    """Yield the maps in the groups that decoding runs as one product, then each other one alone."""
    left = dict.fromkeys(linears)
    for module in model.modules():
        if isinstance(module, Attention):
            parts = [take_apart(one) for one in (module.q_proj, module.k_proj, module.v_proj)]
        elif isinstance(module, SwiGLU):
            parts = [take_apart(one) for one in (module.gate_proj, module.up_proj)]
        else:
            continue
        group = [part.frozen for part in parts if isinstance(part.frozen, Linear) and part.frozen in left]
        if fit_together(parts) and len(dict.fromkeys(group)) == len(parts):
            yield group
            for linear in group:
                del left[linear]
    for linear in left:
        yield [linear]


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
