"""TinyLoRA: cores of LoRA-XS, R = sum_i v_i P_i, from a handful of trained numbers that many maps share.

All cores are made together, once for every change of the vector and not map by map: 210 maps would need a thousand
small calls otherwise. A core is linear in the vector, so its graph keeps no tensors and serves any number of backward
passes: micro-batches of one step use the same cores. Source: arXiv 2602.04118.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from smidgen.surgery.counter import normals
from smidgen.surgery.lora import add_between, merge_factors
from smidgen.surgery.svd import Factors


class TinyVector(nn.Module):
    """The trained numbers of all groups, and the cores they make of the maps' fixed matrices."""

    projections: Tensor
    groups: Tensor

    def __init__(self, n_groups: int, groups: Int[Tensor, " maps"], projections: Float[Tensor, "maps u r r"]) -> None:
        """Start at zero: `groups` says of each map which group's numbers it uses."""
        super().__init__()
        self.v = nn.Parameter(projections.new_zeros(n_groups, projections.shape[1]))
        self.register_buffer("groups", groups, persistent=False)
        self.register_buffer("projections", projections, persistent=False)
        self.rows: Tensor | None = None
        """Of each row its own numbers (B, groups, u), instead of the trained ones; None: those for all."""
        self.maps: tuple[TinyLinear, ...] = ()
        """The maps that its cores are for, in order. A plain tuple: they own the vector, not it them."""
        self._made_of: tuple[Any, ...] | None = None

    def use_rows(self, rows: Float[Tensor, "B groups u"] | None) -> None:
        """Let the next forwards give each row numbers of its own; None: the trained ones to all."""
        self.rows = rows
        self._made_of = None
        self.refresh()

    def refresh(self) -> None:
        """Give every map its core, if the numbers have changed since; cheap if not."""
        numbers = self.v if self.rows is None else self.rows
        recorded = numbers.requires_grad and torch.is_grad_enabled()
        version = 0 if numbers.is_inference() else numbers._version
        made_of = (version, numbers.data_ptr(), recorded, torch.is_inference_mode_enabled())
        if made_of == self._made_of:
            return
        cores = _Cores.apply(numbers, self.projections, self.groups)
        for one, core in zip(self.maps, cores.unbind(-3), strict=True):
            one.core = core
        self._made_of = made_of

    def before_forward(self, module: nn.Module, args: Any) -> None:
        """Refresh: called before a stack runs, outside of what is compiled."""
        self.refresh()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_made_of": None}


class TinyLinear(nn.Module):
    """W x + U R V x, where R is one of the cores that a vector makes."""

    down: Tensor
    up: Tensor

    def __init__(self, base: nn.Module, frozen: Factors, vector: TinyVector, index: int) -> None:
        super().__init__()
        self.base = base
        self.register_buffer("down", frozen.down, persistent=False)
        self.register_buffer("up", frozen.up, persistent=False)
        self.vector = vector
        self.index = index
        """Its place among the vector's maps. The forward does not read it, so compiled blocks serve every depth."""
        self.core: Tensor | None = None
        """Set by the vector before every forward: (r, r), or (B, r, r) where rows have their own."""

    @property
    def group(self) -> int:
        """The group whose numbers it uses."""
        return int(self.vector.groups[self.index])

    @property
    def projections(self) -> Float[Tensor, "u r r"]:
        """Its fixed matrices."""
        return self.vector.projections[self.index]

    def forward(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """Return the frozen map's output and the update, in the dtype of x."""
        if self.core is None:
            self.vector.refresh()
        assert self.core is not None
        return add_between(self.base, x, self.down, self.core, self.up)

    def factors(self) -> Factors:
        """Return the update of the trained numbers as a product."""
        core = torch.einsum("u,urs->rs", self.vector.v[self.group], self.projections)
        return Factors(self.up @ core, self.down)

    def merged(self) -> Float[Tensor, "d_out d_in"]:
        """Return the fp32 weight of the one map that computes the same."""
        return merge_factors(self.base, self.factors())

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"core": None}


class _Cores(torch.autograd.Function):
    """All cores from all numbers, linear: the backward needs nothing that the forward computes."""

    @staticmethod
    def forward(ctx: Any, numbers: Tensor, projections: Tensor, groups: Tensor) -> Tensor:
        ctx.constants = projections, groups, numbers.shape[-2]
        return torch.einsum("...mu,murs->...mrs", numbers.float()[..., groups, :], projections)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        projections, groups, n_groups = ctx.constants
        by_map = torch.einsum("...mrs,murs->...mu", grad, projections)
        total = by_map.new_zeros(*by_map.shape[:-2], n_groups, by_map.shape[-1])
        return total.index_add(-2, groups, by_map), None, None


def random_projections(n_maps: int, u: int, r: int, seed: int) -> Float[Tensor, "maps u r r"]:
    """Return the fixed matrices of every map, entries of variance 1/r as in PEFT; the paper does not say.

    Those of a map depend on its index and the seed alone, and the first ones not on how many there are.
    """
    return torch.stack([normals((u, r, r), 1 / math.sqrt(r), seed, index) for index in range(n_maps)])


def share_out(kinds: Sequence[str], n_groups: int, order: str) -> list[int]:
    """Return each map's group; `kinds` are the kinds of the maps, depth by depth.

    Groups are of equal size, to one. `tiled` groups are neighbours in depth; `structured` ones are neighbours among
    maps of the same kind; `peft` are PEFT's, whose last group takes all that is left over.
    """
    n = len(kinds)
    if order == "peft":
        return [min(index // (n // n_groups), n_groups - 1) for index in range(n)]
    first = {kind: kinds.index(kind) for kind in kinds}
    by_kind = sorted(range(n), key=lambda index: first[kinds[index]])
    groups = [0] * n
    for place, index in enumerate(by_kind if order == "structured" else range(n)):
        groups[index] = place * n_groups // n
    return groups
