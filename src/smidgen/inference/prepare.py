"""A model rebuilt for decoding: weights cast once, laid out as the processor reads them fastest, fewer larger products.

Decoding reads every weight for every symbol, so its floor is bytes of weights over memory bandwidth. Stock linear
maps reach half of that on a CPU; weights reordered ahead of time by oneDNN reach it (135M shapes in bf16 on an AVX-512
EPYC: 15 GB/s against 28-45 GB/s, the same at any batch). The rebuilt model keeps the LanguageModel contract and
computes the same numbers; it cannot be trained or saved.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.models import LanguageModel
from smidgen.models.attention import Attention, attend
from smidgen.models.layers import AdaptedLinear, Embedding, EmbeddingMap, Linear, RMSNorm, Rotation, SwiGLU, rotate
from smidgen.models.state import Recall


def prepare_for_decoding(model: LanguageModel, dtype: torch.dtype | None = None) -> LanguageModel:
    """Return a copy of the model made for decoding in `dtype` (None: the dtype it computes in); the model is unchanged.

    Modules are replaced by kind, wherever they stand; a module used at several depths stays one module, and a kind
    not listed in REPLACEMENTS is copied as it is.
    """
    weight = next(model.parameters())
    dtype = dtype or model.compute_dtype or weight.dtype
    packed = weight.device.type == "cpu" and _packs(dtype)
    with torch.no_grad():
        rebuilt = _Rebuilding(dtype, PackedLinear if packed else FixedLinear).rebuild(cast(nn.Module, model)).eval()
    prepared = cast(LanguageModel, rebuilt)
    prepared.compute_dtype = dtype
    return prepared


class PackedLinear(nn.Module):
    """A linear map whose weight oneDNN has already reordered into the blocks its kernels read; CPU only."""

    def __init__(self, weight: Float[Tensor, "d_out d_in"]) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        self.apply_packed = torch.ops.mkldnn._linear_pointwise.default

    def forward(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """Return x @ weight.T."""
        return self.apply_packed(x, self.packed, None, "none", [], "")


class FixedLinear(nn.Module):
    """A linear map whose weight is already in the dtype of its input."""

    def __init__(self, weight: Float[Tensor, "d_out d_in"]) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone(), requires_grad=False)

    def forward(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """Return x @ weight.T."""
        return F.linear(x, self.weight)


class FixedRMSNorm(nn.Module):
    """RMSNorm in six calls instead of nine (8 us instead of 12 for one symbol); the weight is fp32."""

    eps: Tensor

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        self.weight = nn.Parameter(norm.weight.float().clone(), requires_grad=False)
        self.register_buffer("eps", torch.tensor(norm.eps, device=norm.weight.device), persistent=False)

    def forward(self, x: Float[Tensor, "*rows size"]) -> Float[Tensor, "*rows size"]:
        """Normalise the last dimension to unit mean square, then scale; in fp32."""
        wide = x.float()
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = torch.addcmul(self.eps, length, length, value=1 / x.shape[-1]).rsqrt_()
        return (wide * scale).mul_(self.weight).to(x.dtype)


class FusedEmbedding(nn.Module):
    """An embedding whose second reading, as the tied output head, is a linear map of its own."""

    def __init__(self, weight: Float[Tensor, "V D"], head: nn.Module) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone(), requires_grad=False)
        self.attend = head

    def forward(self, ids: Tensor) -> Tensor:
        """Look symbols up."""
        return F.embedding(ids, self.weight)


class FixedEmbeddingMap(nn.Module):
    """The map of a factored embedding as the two linear maps it is read as."""

    def __init__(self, widen: nn.Module, narrow: nn.Module) -> None:
        super().__init__()
        self.widen = widen
        self.attend = narrow

    def forward(self, narrow: Float[Tensor, "*rows rank"]) -> Float[Tensor, "*rows D"]:
        """Widen vectors of the table."""
        return self.widen(narrow)


class FusedAttention(nn.Module):
    """Attention whose three input projections are one product, and whose queries and keys turn together."""

    def __init__(
        self, attention: Attention, heads: list[int], qkv_proj: nn.Module, norms: list[nn.Module], o_proj: nn.Module
    ) -> None:
        super().__init__()
        self.d_head = attention.d_head
        self.window = attention.window
        self.heads = heads
        self.qkv_proj = qkv_proj
        self.o_proj = o_proj
        self.has_norms = not isinstance(attention.q_norm, nn.Identity)
        self.q_norm, self.k_norm = norms

    def forward(
        self, x: Float[Tensor, "B T D"], turn: Rotation, depth: int, recall: Recall | None = None, causal: bool = True
    ) -> Float[Tensor, "B T D"]:
        """Attend as `Attention` does."""
        queries, keys, values = self._project(x, turn)
        mixed = attend(queries, keys, values, depth, recall, self.window, causal)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def remember(self, x: Float[Tensor, "B T D"], turn: Rotation, depth: int, recall: Recall) -> None:
        """Store the keys and values of x at this depth without attending."""
        recall.remember(depth, *self._project(x, turn)[1:])

    def _project(self, x: Tensor, turn: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        n_queries, n_keys, n_values = self.heads
        both, values = (
            self.qkv_proj(x).unflatten(-1, (-1, self.d_head)).transpose(1, 2).split((n_queries + n_keys, n_values), 1)
        )
        if self.has_norms:
            queries, keys = both.split((n_queries, n_keys), 1)
            both = torch.cat([self.q_norm(queries), self.k_norm(keys)], 1)
        queries, keys = rotate(both, turn).split((n_queries, n_keys), 1)
        return queries, keys, values


class FusedSwiGLU(nn.Module):
    """SwiGLU whose gate and up projections are one product."""

    def __init__(self, gate_up_proj: nn.Module, down_proj: nn.Module) -> None:
        super().__init__()
        self.gate_up_proj = gate_up_proj
        self.down_proj = down_proj

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Map each position on its own."""
        gate, up = self.gate_up_proj(x).chunk(2, -1)
        return self.down_proj(F.silu(gate).mul_(up))


@dataclass
class _Rebuilding:
    """One walk over a model; `done` keeps shared modules shared."""

    dtype: torch.dtype
    linear: type[PackedLinear] | type[FixedLinear]
    done: dict[int, nn.Module] = field(default_factory=dict)

    def rebuild(self, module: nn.Module) -> nn.Module:
        """Return the replacement of a module, or a copy of it with its parts rebuilt."""
        if id(module) not in self.done:
            replace = REPLACEMENTS.get(type(module))
            self.done[id(module)] = (replace(self, module) if replace else None) or self._copy(module)
        return self.done[id(module)]

    def join(self, *weights: Tensor) -> nn.Module:
        """Make one linear map of several that read the same input."""
        return self.linear(torch.cat([weight.to(self.dtype) for weight in weights]))

    def _copy(self, module: nn.Module) -> nn.Module:
        made = copy.copy(module)
        made._modules = {
            name: None if child is None else self.rebuild(child) for name, child in module._modules.items()
        }
        made._parameters = {
            name: nn.Parameter(weight.clone(), requires_grad=False) if weight is not None else None
            for name, weight in module._parameters.items()
        }
        return made


def _weights(*maps: nn.Module) -> list[Tensor] | None:
    """Return the weights of linear maps, or None if something else stands there, which keeps its place.

    What a depth adds to a shared map is merged into it: one product instead of three, for memory of its own.
    """
    found = [WEIGHTS[type(m)](m) for m in maps if type(m) in WEIGHTS]
    return found if len(found) == len(maps) else None


def _attention(walk: _Rebuilding, module: Attention) -> nn.Module | None:
    inputs = _weights(module.q_proj, module.k_proj, module.v_proj)
    if inputs is None:
        return None
    norms = [walk.rebuild(module.q_norm), walk.rebuild(module.k_norm)]
    heads = [len(weight) // module.d_head for weight in inputs]
    return FusedAttention(module, heads, walk.join(*inputs), norms, walk.rebuild(module.o_proj))


def _swiglu(walk: _Rebuilding, module: SwiGLU) -> nn.Module | None:
    inputs = _weights(module.gate_proj, module.up_proj)
    return None if inputs is None else FusedSwiGLU(walk.join(*inputs), walk.rebuild(module.down_proj))


def _embedding(walk: _Rebuilding, module: Embedding) -> nn.Module:
    weight = module.weight.to(walk.dtype)
    return FusedEmbedding(weight, walk.linear(weight))


WEIGHTS: dict[type[nn.Module], Callable[[Any], Tensor]] = {
    Linear: lambda module: module.weight,
    AdaptedLinear: lambda module: module.merged(),
}
"""The weight of each kind of linear map."""

REPLACEMENTS: dict[type[nn.Module], Callable[[_Rebuilding, Any], nn.Module | None]] = {
    Attention: _attention,
    SwiGLU: _swiglu,
    Embedding: _embedding,
    EmbeddingMap: lambda walk, module: FixedEmbeddingMap(walk.join(module.weight), walk.join(module.weight.T)),
    Linear: lambda walk, module: walk.join(module.weight),
    AdaptedLinear: lambda walk, module: walk.join(module.merged()),
    RMSNorm: lambda walk, module: FixedRMSNorm(module),
}
"""What becomes of each kind of module; None from a replacement means it is copied part by part."""


def _packs(dtype: torch.dtype) -> bool:
    """Whether this build of torch multiplies packed weights of this dtype, found out by doing it."""
    if not torch.backends.mkldnn.is_available() or dtype not in (torch.bfloat16, torch.float32):
        return False
    weight, x = torch.eye(32, dtype=dtype), torch.arange(32, dtype=dtype)[None]
    try:
        return torch.equal(PackedLinear(weight)(x), x)
    except (RuntimeError, NotImplementedError, AttributeError):  # what a torch built without oneDNN answers
        return False
