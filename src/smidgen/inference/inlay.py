"""TinyLoRA in maps made for decoding: its up factors stand behind the weights, what they multiply behind the input.

W x + U R V x is one product, [W U] [x; R V x]. The frozen factors are laid out with the weights, and of an adapter only
the R V x is left to compute, a few numbers for each position, written into columns that the input has to spare. So what
follows a product element by element stays within it, and no output is read again to add to it: 1,000 adapters beside
none were 0.82 of the speed when a call added them to the outputs (SmolLM2-135M, two cores with AMX).
"""

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.inference.adapted import FEW_ROWS, Cores, Part, spread
from smidgen.inference.maps import AddingMap, PackedLinear
from smidgen.models.state import Recall
from smidgen.surgery.tinylora import TinyLinear

ALIGNMENT = 32
"""Columns to spare come in so many: rows of bf16 stay aligned to 32 bytes."""


def can_inlay(parts: Sequence[Part]) -> bool:
    """Whether maps have weights of their own and no other adapters than TinyLoRA's, and at least one of those."""
    adapters = [one for part in parts for one in part.adapters]
    return all(part.weight is not None for part in parts) and {type(one) for one in adapters} == {TinyLinear}


class Inlay(nn.Module):
    """What the adapters of maps that read one input write into the columns behind it."""

    def __init__(self, parts: Sequence[Part], cores: Cores, dtype: torch.dtype) -> None:
        """Take maps for which `can_inlay`."""
        super().__init__()
        adapters = [one for part in parts for one in part.adapters if isinstance(one, TinyLinear)]
        downs = torch.cat([spread(one)[0] for one in adapters]).to(dtype)
        self.n, self.d_in = downs.shape
        self.spare = self.n + -self.n % ALIGNMENT
        """Columns that the input must have behind its own."""
        self.cores = cores
        self._place = cores.place(adapters)
        wide = F.pad(downs, (0, self.spare, 0, self.spare - self.n))
        self.down = PackedLinear(wide)
        self._few_down = wide[: self.n].float()

    def forward(self, x: Float[Tensor, "B T d"], recall: Recall | None = None) -> Float[Tensor, "B T wide"]:
        """Return the input with what the adapters make of it behind it, each row's by its own vector where it has one.

        An input that comes with columns to spare, which must be zero, is written over.
        """
        if x.shape[-1] == self.d_in:
            x = widen(x, self.spare)
        if x.numel() == x.shape[-1]:  # 1 us, where the product with a matrix of one row takes 9
            narrow = torch.mv(self._few_down, x.view(-1).float())[None, None]
        elif x.numel() <= FEW_ROWS * x.shape[-1]:
            narrow = F.linear(x.float(), self._few_down)
        else:
            narrow = self.down(x)[..., : self.n]
        carried = None if recall is None else recall.carried
        cores = self.cores.trained() if carried is None else carried
        own = cores.narrow(1, self._place, self.n)[:, None]
        x.narrow(-1, self.d_in, self.n).copy_(narrow.mul_(own))
        return x

    def weights(self, parts: Sequence[Part]) -> Iterator[Float[Tensor, "d_out wide"]]:
        """Yield each map's weight with its up factor behind it."""
        begin = self.d_in
        for part in parts:
            assert part.weight is not None
            wide = part.weight.new_zeros(part.d_out, self.d_in + self.spare)
            wide[:, : self.d_in] = part.weight
            for one in part.adapters:
                up = spread(cast(TinyLinear, one))[1]
                wide[:, begin : begin + up.shape[1]] = up
                begin += up.shape[1]
            yield wide


class InlaidMap(AddingMap):
    """A map of such an input, with its adapters, in one product."""

    def __init__(self, inlay: Inlay, product: PackedLinear) -> None:
        super().__init__()
        self.inlay = inlay
        self.product = product

    @property
    def spare(self) -> int:
        """Columns that spare a copy of the input if it has them, zeros, behind its own."""
        return self.inlay.spare

    def forward(self, x: Float[Tensor, "B T d"], recall: Recall | None = None) -> Float[Tensor, "B T d_out"]:
        """Return what it makes of x."""
        return self.product(self.inlay(x, recall))

    def plus(
        self, x: Float[Tensor, "B T d"], other: Float[Tensor, "B T d_out"], recall: Recall | None = None
    ) -> Float[Tensor, "B T d_out"]:
        """Return what it makes of x, and other."""
        return self.product.plus(self.inlay(x, recall), other)


def widen(x: Float[Tensor, "*rows d"], spare: int, dtype: torch.dtype | None = None) -> Float[Tensor, "*rows wide"]:
    """Return x, in another dtype if one is named, with columns of zeros behind it."""
    if x.numel() <= FEW_ROWS * x.shape[-1]:  # one call, that writes every number twice
        return F.pad(x if dtype is None else x.to(dtype), (0, spare))
    wide = x.new_empty(*x.shape[:-1], x.shape[-1] + spare, dtype=dtype)
    wide[..., : x.shape[-1]] = x
    wide[..., x.shape[-1] :].zero_()
    return wide
