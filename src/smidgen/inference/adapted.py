"""Linear maps with adapters, made for decoding: what is frozen is laid out once, what trains is read where it trains.

An adapter's frozen inner map stands behind the weights in their one product, so its few outputs come with the rest, and
one call more adds what follows from them: nothing is merged, and nothing is laid out again while an adapter trains.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.models.layers import AdaptedLinear, Linear
from smidgen.models.state import Recall
from smidgen.surgery.lora import CoreLinear, LoraLinear
from smidgen.surgery.scales import BiasedLinear, ScaledLinear
from smidgen.surgery.tinylora import TinyLinear, TinyVector

ALIGNMENT = 16
"""Rows a product is filled up to: what is behind the weights stays aligned, and oneDNN computes blocks of 16 anyway."""


FEW_ROWS = 8
"""Rows up to which what adapters add to bf16 is computed in fp32: oneDNN takes 15 to 30 us for a bf16 product with so
narrow a matrix, fp32 4 to 20 for 8 rows; for 32 it takes longer, for 64 rows of 3,072 outputs thirty times as long. A
symbol of 8 rows of SmolLM2-135M with LoRA: 3 ms less of 30."""


class Cores(nn.Module):
    """What TinyLoRA multiplies between its frozen factors, of all maps: of the trained vector, or of a row's own."""

    def __init__(self, vector: TinyVector, dtype: torch.dtype) -> None:
        super().__init__()
        self.v = vector.v
        self._groups, self._projections = vector.groups, vector.projections.flatten(2)
        self._dtype = dtype
        self._order: list[int] = []
        self._trained: tuple[int, Tensor] | None = None

    def place(self, maps: Sequence[TinyLinear]) -> int:
        """Give maps their place among all, one behind the other; return where it begins."""
        begin = len(self._order) * self._projections.shape[2]
        self._order += [one.index for one in maps]
        return begin

    def of(self, vectors: Float[Tensor, "B n"]) -> Float[Tensor, "B C"]:
        """Return the cores that vectors stand for, of all maps, in the dtype of the activations."""
        order = torch.tensor(self._order, device=vectors.device)
        own = vectors.view(len(vectors), *self.v.shape)[:, self._groups[order]]
        return torch.einsum("bmu,muc->bmc", own, self._projections[order]).flatten(1).to(self._dtype)

    @property
    def version(self) -> int:
        """A number that grows when training changes the vector."""
        return self.v._version

    def trained(self) -> Float[Tensor, "1 C"]:
        """Return the cores of the vector as training has it now."""
        if self._trained is None or self._trained[0] != self.version:
            self._trained = self.version, self.of(self.v.detach().flatten()[None])
        return self._trained[1]


def find_cores(model: nn.Module) -> Cores | None:
    """Return the cores of a prepared model; None if rows of it cannot bring vectors of their own."""
    return next((module for module in model.modules() if isinstance(module, Cores)), None)


class Update(NamedTuple):
    """What an adapter does to a map: gain * (W x) + up (down x) + bias; None: not that."""

    down: Tensor | None = None
    up: Tensor | None = None
    gain: Tensor | None = None
    bias: Tensor | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of adapter, as far as decoding is concerned."""

    read: Callable[[Any], Update]
    live: tuple[str, ...]
    """Names of the weights that training may change."""
    down_is_frozen: bool = False
    """Whether what it reads x by may stand behind the weights in one product."""


def spread(one: TinyLinear) -> tuple[Tensor, Tensor]:
    """Return the factors of a rank-r update, down and up, spread over the r * r entries of its core.

    up_j core_ji down_i x: one number of the core for each pair, so that applying all cores of a row is one product
    of vectors, element by element.
    """
    rank = one.down.shape[0]
    return one.down.repeat(rank, 1), one.up.repeat_interleave(rank, 1)


KINDS: dict[type[nn.Module], Kind] = {
    LoraLinear: Kind(lambda one: Update(one.lora_a, one.scale * one.lora_b), ("lora_a", "lora_b")),
    AdaptedLinear: Kind(lambda one: Update(one.lora_a, one.lora_b), ("lora_a", "lora_b")),
    CoreLinear: Kind(lambda one: Update(one.down, one.up @ one.core), ("core",), down_is_frozen=True),
    TinyLinear: Kind(lambda one: Update(*spread(one)), (), down_is_frozen=True),
    ScaledLinear: Kind(lambda one: Update(gain=one.scale), ("scale",)),
    BiasedLinear: Kind(lambda one: Update(bias=one.bias), ("bias",)),
}
"""Adapters that are read live; any other module is left as it is."""


class Part(NamedTuple):
    """A linear map taken apart."""

    weight: Tensor | None
    """None: of a kind that is not known here."""
    frozen: nn.Module
    """The map without adapters."""
    d_out: int
    adapters: tuple[nn.Module, ...] = ()
    """Innermost first."""


def take_apart(module: nn.Module) -> Part:
    """Return a map's frozen weight and the adapters around it.

    What a depth adds to a shared map is merged into the weight, one product instead of three for memory of its own,
    unless an adapter scales the shared part alone.
    """
    if isinstance(module, Linear):
        return Part(module.weight, module, module.out_features)
    if isinstance(module, AdaptedLinear):
        part = take_apart(module.shared)
        if part.weight is not None and not any(isinstance(one, ScaledLinear) for one in part.adapters):
            return part._replace(weight=part.weight + module.lora_b @ module.lora_a)
        return part._replace(adapters=(*part.adapters, module))
    if type(module) in KINDS:
        part = take_apart(cast(nn.Module, module.base))
        return part._replace(adapters=(*part.adapters, module))
    return Part(None, module, cast(Linear, module).out_features)


def fit_together(parts: Sequence[Part], are_one: bool = False) -> bool:
    """Whether maps can be one product: all known, or one already, and adapted alike where they are adapted."""
    kinds = {tuple(map(type, part.adapters)) for part in parts} - {()}
    return len(kinds) <= 1 and (len(parts) == 1 or are_one or all(part.weight is not None for part in parts))


class AdaptedMap(nn.Module):
    """One product of frozen weights, and what adapters make of it with their weights as training has them now."""

    def __init__(
        self,
        parts: Sequence[Part],
        lay_out: Callable[[Sequence[Tensor]], nn.Module],
        dtype: torch.dtype,
        base: nn.Module | None = None,
        cores: Cores | None = None,
    ) -> None:
        """Take maps that fit together; `lay_out` makes one product of weights that stand one below the other.

        `base` is given where the frozen maps are a product already or of a kind not known here, `cores` where the
        adapters are TinyLoRA's: a map is of those or of others, never of both.
        """
        super().__init__()
        self._adapters = [part.adapters for part in parts]
        every = [one for adapters in self._adapters for one in adapters]
        self._d_outs = [part.d_out for part in parts]
        self._lay_out, self._dtype = lay_out, dtype
        self._downs_in_base = base is None and all(KINDS[type(one)].down_is_frozen for one in every)
        weights = [part.weight for part in parts if part.weight is not None]
        if self._downs_in_base:
            weights += [down for one in every if (down := KINDS[type(one)].read(one).down) is not None]
            weights.append(weights[0].new_zeros(-sum(map(len, weights)) % ALIGNMENT, weights[0].shape[1]))
        self.base = lay_out(weights) if base is None else base
        self.cores = cores
        tiny = [one for one in every if isinstance(one, TinyLinear)]
        self._place = cores.place(tiny) if cores is not None else 0
        self.live = nn.ParameterList(getattr(one, name) for one in every for name in KINDS[type(one)].live)
        self._watched = tuple(self.live)
        self._version = -1
        self._read()

    def forward(self, x: Float[Tensor, "B T d_in"], recall: Recall | None = None) -> Float[Tensor, "B T d_out"]:
        """Return the outputs of all parts, one behind the other; each row by its own vector where rows bring one."""
        if self._version != sum(weight._version for weight in self._watched):
            self._read()
        said = self.base(x)
        narrow, is_few = None, self._whole_up is not None and x.numel() <= FEW_ROWS * x.shape[-1]
        if self._downs_in_base:
            said, narrow, _ = said.split_with_sizes(self._splits, -1)
        elif self._whole_down is not None and is_few:
            narrow = (x.flatten(0, 1).float() @ self._whole_down).view(*x.shape[:2], -1)
        elif self.down is not None:
            narrow = self.down(x)
        if self.gain is not None:
            said = (said * self.gain).to(x.dtype)
        if narrow is not None and self.up is not None:
            if self.cores is not None:
                carried = None if recall is None else recall.carried
                cores = self.cores.trained() if carried is None else carried
                narrow = narrow * cores[:, None].narrow(2, self._place, narrow.shape[-1])
            rows, narrow = said.view(-1, said.shape[-1]), narrow.reshape(-1, narrow.shape[-1])
            if self._whole_up is not None and is_few:
                rows.add_(narrow.float() @ self._whole_up)
            else:
                rows.addmm_(narrow, self.up)
        return said if self.bias is None else said + self.bias

    @torch.no_grad()
    def _read(self) -> None:
        """Lay out what the adapters say now: small tensors, made again only when one of their weights has changed."""
        updates = [[KINDS[type(one)].read(one) for one in adapters] for adapters in self._adapters]
        found = [update for part in updates for update in part]
        n_narrow = sum(one.up.shape[1] for one in found if one.up is not None)
        version = sum(weight._version for weight in self._watched)
        some = next(tensor for tensor in found[0] if tensor is not None)
        up = some.new_zeros(n_narrow, sum(self._d_outs))
        gain, bias = some.new_ones(up.shape[1]), some.new_zeros(up.shape[1])
        narrow = begin = 0
        for part, d_out in zip(updates, self._d_outs, strict=True):
            here = slice(begin, begin + d_out)
            for one in part:
                if one.up is not None:
                    up[narrow : narrow + one.up.shape[1], here] = one.up.T
                    narrow += one.up.shape[1]
                if one.gain is not None:
                    gain[here] = one.gain
                if one.bias is not None:
                    bias[here] = one.bias
            begin += d_out
        downs = [one.down for one in found if one.down is not None]
        self.down = None if self._downs_in_base or not downs else self._lay_out(downs)
        self.up = up.to(self._dtype) if n_narrow else None
        # For few rows: the same numbers, in fp32.
        is_slow = self._dtype == torch.bfloat16 and up.device.type == "cpu"
        self._whole_up = self.up.float() if is_slow and self.up is not None else None
        has_own = self._whole_up is not None and self.down is not None
        self._whole_down = torch.cat(downs).to(self._dtype).float().T.contiguous() if has_own else None
        # Gains stay fp32, as in training: bf16 has no number between 1 and 1.008.
        self.gain = gain if any(one.gain is not None for one in found) else None
        self.bias = bias.to(self._dtype) if any(one.bias is not None for one in found) else None
        self._splits = [begin, n_narrow, -(begin + n_narrow) % ALIGNMENT]
        self._version = version  # last: another thread that still sees the old one lays the same out for itself
