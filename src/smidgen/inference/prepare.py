"""A model rebuilt for decoding: weights cast once, laid out as the processor reads them fastest, fewer larger products.

Decoding reads every weight for every symbol, so its floor is bytes of weights over memory bandwidth. Stock linear
maps reach half of that on a CPU; weights reordered ahead of time by oneDNN reach it (135M shapes in bf16 on an AVX-512
EPYC: 15 GB/s against 28-45 GB/s, the same at any batch). The rebuilt model keeps the LanguageModel contract and
computes the same numbers; it cannot be trained or saved. Adapters stay live in it: their weights are those of the
model it was made from, so it computes what training has now, while the frozen rest was laid out once.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.inference.adapted import KINDS, AdaptedMap, Cores, Part, fit_together, take_apart
from smidgen.inference.inlay import InlaidMap, Inlay, can_inlay, widen
from smidgen.inference.maps import FixedLinear, OpaqueMap, PackedLinear, SideBySide, add_product, can_pack
from smidgen.inference.once import held_product
from smidgen.models import LanguageModel
from smidgen.models.attention import Attention, attend
from smidgen.models.layers import Embedding, EmbeddingMap, Linear, ReLU2, RMSNorm, Rotation, SwiGLU
from smidgen.models.stack import Block
from smidgen.models.state import Recall
from smidgen.surgery.tinylora import TinyLinear


def prepare_for_decoding(model: LanguageModel, dtype: torch.dtype | None = None) -> LanguageModel:
    """Return a copy of the model made for decoding in `dtype` (None: the dtype it computes in); the model is unchanged.

    Modules are replaced by kind, wherever they stand; a module used at several depths stays one module, and a kind
    not listed in REPLACEMENTS is copied as it is. Weights of adapters are shared with the model: when they change, the
    copy changes. When others do, see `refresh`.
    """
    weight = next(model.parameters())
    dtype = dtype or model.compute_dtype or weight.dtype
    packed = can_pack(weight.device, dtype)
    with torch.no_grad():
        rebuilt = _Rebuilding(dtype, PackedLinear if packed else FixedLinear).rebuild(cast(nn.Module, model)).eval()
    prepared = cast(LanguageModel, rebuilt)
    prepared.compute_dtype = dtype
    return prepared


def refresh(prepared: LanguageModel, model: LanguageModel) -> None:
    """Lay out the weights that a model has now in the copy that was made of it: after full fine-tuning moved them all.

    In place, so that engines keep it; one with memory must forget it (`Engine.refresh` does both).
    """
    old, new = cast(nn.Module, prepared), cast(nn.Module, prepare_for_decoding(model, prepared.compute_dtype))
    old._modules, old._parameters, old._buffers = new._modules, new._parameters, new._buffers


class FixedRMSNorm(nn.Module):
    """RMSNorm in six calls instead of nine, in place (8 us instead of 12 for one symbol); the weight is fp32."""

    eps: Tensor

    def __init__(self, norm: RMSNorm, spare: int = 0) -> None:
        """Take a norm; `spare` columns of zeros stand behind what it gives (see `inlay`)."""
        super().__init__()
        self.spare = spare
        self.weight = nn.Parameter(norm.weight.float().clone(), requires_grad=False)
        self.register_buffer("eps", torch.tensor(norm.eps, device=norm.weight.device), persistent=False)

    def forward(self, x: Float[Tensor, "*rows size"]) -> Float[Tensor, "*rows wide"]:
        """Normalise the last dimension to unit mean square, then scale; in fp32."""
        wide = x.float()
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = torch.addcmul(self.eps, length, length, value=1 / x.shape[-1]).rsqrt_()
        scaled = wide * scale if wide is x else wide.mul_(scale)
        scaled.mul_(self.weight)
        return widen(scaled, self.spare, x.dtype) if self.spare else scaled.to(x.dtype)


class FusedEmbedding(nn.Module):
    """An embedding whose second reading, as the tied output head, is a linear map of its own."""

    def __init__(self, weight: Float[Tensor, "V D"], head: nn.Module) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
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
        self.spare = getattr(qkv_proj, "spare", 0)
        self.has_norms = not isinstance(attention.q_norm, nn.Identity)
        self.q_norm, self.k_norm = norms

    def forward(
        self,
        stream: Float[Tensor, "B T D"],
        x: Float[Tensor, "B T D"],
        turn: Rotation,
        depth: int,
        recall: Recall | None = None,
        causal: bool = True,
    ) -> Float[Tensor, "B T D"]:
        """Attend as `Attention` does, and add to the stream."""
        queries, keys, values = self._project(x, turn, recall)
        mixed = attend(queries, keys, values, depth, recall, self.window, causal, learns=False)
        return add_product(stream, self.o_proj, mixed.transpose(1, 2).flatten(2), recall)

    def remember(self, x: Float[Tensor, "B T D"], turn: Rotation, depth: int, recall: Recall) -> None:
        """Store the keys and values of x at this depth without attending."""
        recall.remember(depth, *self._project(x, turn, recall)[1:])

    def _project(self, x: Tensor, turn: Rotation, recall: Recall | None) -> tuple[Tensor, Tensor, Tensor]:
        n_queries, n_keys, n_values = self.heads
        projected = self.qkv_proj(x, recall).unflatten(-1, (-1, self.d_head)).transpose(1, 2)
        both, values = projected.split((n_queries + n_keys, n_values), 1)
        if self.has_norms:
            queries, keys = both.split((n_queries, n_keys), 1)
            both = torch.cat([self.q_norm(queries), self.k_norm(keys)], 1)
        queries, keys = _rotate(both, turn).split((n_queries, n_keys), 1)
        return queries, keys, values


def _rotate(x: Float[Tensor, "B H T K"], by: Rotation) -> Float[Tensor, "B H T K"]:
    """Turn queries or keys as `rotate` does, in two thirds of its time: written over, which a gradient would forbid."""
    half = x.shape[-1] // 2
    first, second, sin = x[..., :half], x[..., half:], by.sin[..., :half]
    turned = x * by.cos
    turned[..., :half].addcmul_(second, sin, value=-1)
    turned[..., half:].addcmul_(first, sin)
    return turned


class PackedSwiGLU(nn.Module):
    """SwiGLU whose gate and multiplication are computed within its products."""

    def __init__(
        self, gate_proj: PackedLinear, up_proj: PackedLinear, down_proj: nn.Module, inlay: Inlay | None = None
    ) -> None:
        super().__init__()
        self.inlay = inlay
        self.spare = 0 if inlay is None else inlay.spare
        self.gate_proj = gate_proj
        self.up_proj = up_proj
        self.down_proj = down_proj

    def forward(
        self, stream: Float[Tensor, "B T D"], x: Float[Tensor, "B T D"], recall: Recall | None = None
    ) -> Float[Tensor, "B T D"]:
        """Add to the stream what each position of x becomes on its own."""
        if self.inlay is not None:
            x = self.inlay(x, recall)
        return add_product(stream, self.down_proj, self.up_proj.times(x, self.gate_proj.silu(x)), recall)


class FusedSwiGLU(nn.Module):
    """SwiGLU whose gate and up projections are one product."""

    def __init__(self, gate_up_proj: nn.Module, down_proj: nn.Module) -> None:
        super().__init__()
        self.gate_up_proj = gate_up_proj
        self.down_proj = down_proj

    def forward(
        self, stream: Float[Tensor, "B T D"], x: Float[Tensor, "B T D"], recall: Recall | None = None
    ) -> Float[Tensor, "B T D"]:
        """Add to the stream what each position of x becomes on its own."""
        gate, up = self.gate_up_proj(x, recall).chunk(2, -1)
        return add_product(stream, self.down_proj, F.silu(gate).mul_(up), recall)


class FixedReLU2(nn.Module):
    """Squared ReLU feed-forward."""

    def __init__(self, up_proj: nn.Module, down_proj: nn.Module) -> None:
        super().__init__()
        self.up_proj = up_proj
        self.down_proj = down_proj

    def forward(
        self, stream: Float[Tensor, "B T D"], x: Float[Tensor, "B T D"], recall: Recall | None = None
    ) -> Float[Tensor, "B T D"]:
        """Add to the stream what each position of x becomes on its own."""
        return add_product(stream, self.down_proj, F.relu(self.up_proj(x, recall)).square_(), recall)


class FixedBlock(nn.Module):
    """A block that only decodes: no dropout, and the feed-forward knows whose rows it reads, as attention does."""

    def __init__(self, norms: Sequence[nn.Module], self_attn: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = norms
        self.self_attn = self_attn
        self.mlp = mlp

    def forward(
        self, x: Float[Tensor, "B T D"], turn: Rotation, depth: int, recall: Recall | None = None, causal: bool = True
    ) -> Float[Tensor, "B T D"]:
        """Add what attention and the feed-forward have to say."""
        x = self.self_attn(x, self.input_layernorm(x), turn, depth, recall, causal)
        return self.mlp(x, self.post_attention_layernorm(x), recall)

    def remember(self, x: Float[Tensor, "B T D"], turn: Rotation, depth: int, recall: Recall) -> None:
        """Store what later symbols will attend to here, of symbols that go no deeper themselves."""
        cast(FusedAttention, self.self_attn).remember(self.input_layernorm(x), turn, depth, recall)


@dataclass
class _Rebuilding:
    """One walk over a model; `done` keeps shared modules shared."""

    dtype: torch.dtype
    linear: type[PackedLinear] | type[FixedLinear]
    done: dict[int, nn.Module] = field(default_factory=dict)
    cores: dict[int, Cores] = field(default_factory=dict)
    """Of each trained vector of TinyLoRA."""

    def rebuild(self, module: nn.Module) -> nn.Module:
        """Return the replacement of a module, or a copy of it with its parts rebuilt."""
        if id(module) not in self.done:
            self.done[id(module)] = REPLACEMENTS.get(type(module), _Rebuilding._copy)(self, module)
        return self.done[id(module)]

    def join(self, *maps: nn.Module) -> nn.Module:
        """Make one linear map, of the memory's rows too, of several that read the same input; adapters stay live."""
        parts = [take_apart(one) for one in maps]
        held = held_product([part.frozen for part in parts])
        if not fit_together(parts, held is not None):
            return SideBySide([self.join(one) for one in maps])
        weights = [part.weight for part in parts if part.weight is not None]
        base = held if weights or held is not None else OpaqueMap(self._copy(parts[0].frozen))
        adapters = [one for part in parts for one in part.adapters]
        inlay = self.inlay(parts) if base is None else None
        if inlay is not None:
            return InlaidMap(inlay, cast(PackedLinear, self.lay_out(list(inlay.weights(parts)))))
        if adapters:
            return AdaptedMap(parts, self.lay_out, self.dtype, base, self._cores(adapters))
        return self.lay_out(weights) if base is None else base

    def map(self, module: nn.Module) -> nn.Module:
        """Return the replacement of one linear map."""
        if id(module) not in self.done:
            self.done[id(module)] = self.join(module)
        return self.done[id(module)]

    def inlay(self, parts: Sequence[Part]) -> Inlay | None:
        """Return what the adapters of maps write behind their input; None: they have none, or of another kind."""
        if self.linear is not PackedLinear or not can_inlay(parts):
            return None
        adapters = [one for part in parts for one in part.adapters]
        return Inlay(parts, cast(Cores, self._cores(adapters)), self.dtype)

    def pack_apart(self, maps: Sequence[nn.Module], spare: int) -> tuple[list[PackedLinear], Inlay | None] | None:
        """Make of maps that read one input a packed product each, with `spare` columns of zeros behind its outputs.

        None: some have no weight of their own, or adapters that cannot be inlaid.
        """
        parts = [take_apart(one) for one in maps]
        is_known = all(part.weight is not None for part in parts) and self.linear is PackedLinear
        if not is_known or held_product([part.frozen for part in parts]) is not None:
            return None
        inlay = self.inlay(parts)
        if inlay is None and any(part.adapters for part in parts):
            return None
        weights = inlay.weights(parts) if inlay is not None else (cast(Tensor, part.weight) for part in parts)
        return [PackedLinear(F.pad(weight.to(self.dtype), (0, 0, 0, spare))) for weight in weights], inlay

    def lay_out(self, weights: Sequence[Tensor]) -> nn.Module:
        """Make one product of weights that stand one below the other."""
        return self.linear(torch.cat([weight.to(self.dtype) for weight in weights]))

    def _cores(self, adapters: Sequence[nn.Module]) -> Cores | None:
        vector = next((one.vector for one in adapters if isinstance(one, TinyLinear)), None)
        return None if vector is None else self.cores.setdefault(id(vector), Cores(vector, self.dtype))

    def _copy(self, module: nn.Module) -> nn.Module:
        made = copy.copy(module)
        made._forward_pre_hooks = OrderedDict()  # they make the cores of the maps that train
        made._modules = {
            name: None if child is None else self.rebuild(child) for name, child in module._modules.items()
        }
        made._parameters = {
            name: nn.Parameter(weight.clone(), requires_grad=False) if weight is not None else None
            for name, weight in module._parameters.items()
        }
        return made


def _attention(walk: _Rebuilding, module: Attention) -> nn.Module:
    inputs = (module.q_proj, module.k_proj, module.v_proj)
    norms = [walk.rebuild(module.q_norm), walk.rebuild(module.k_norm)]
    heads = [take_apart(one).d_out // module.d_head for one in inputs]
    return FusedAttention(module, heads, walk.join(*inputs), norms, walk.map(module.o_proj))


def _block(walk: _Rebuilding, module: Block) -> nn.Module:
    attention, mlp = walk.rebuild(module.self_attn), walk.rebuild(module.mlp)
    read = ((module.input_layernorm, attention), (module.post_attention_layernorm, mlp))
    return FixedBlock([_norm(walk, norm, getattr(by, "spare", 0)) for norm, by in read], attention, mlp)


def _norm(walk: _Rebuilding, module: nn.Module, spare: int) -> nn.Module:
    return FixedRMSNorm(module, spare) if spare and type(module) is RMSNorm else walk.rebuild(module)


def _swiglu(walk: _Rebuilding, module: SwiGLU) -> nn.Module:
    down = walk.map(module.down_proj)
    apart = walk.pack_apart((module.gate_proj, module.up_proj), getattr(down, "spare", 0))
    if apart is None:
        return FusedSwiGLU(walk.join(module.gate_proj, module.up_proj), down)
    (gate, up), inlay = apart
    return PackedSwiGLU(gate, up, down, inlay)


def _embedding(walk: _Rebuilding, module: Embedding) -> nn.Module:
    weight = module.weight.detach().to(walk.dtype)
    # One that is frozen does not change under the copy: with an adapter SmolLM2-135M's table of 57 MB is there once.
    is_own = weight.dtype != module.weight.dtype or not module.weight.requires_grad
    return FusedEmbedding(weight if is_own else weight.clone(), walk.linear(weight))


def _embedding_map(walk: _Rebuilding, module: EmbeddingMap) -> nn.Module:
    return FixedEmbeddingMap(walk.lay_out([module.weight]), walk.lay_out([module.weight.T]))


REPLACEMENTS: dict[type[nn.Module], Callable[[_Rebuilding, Any], nn.Module]] = {
    Block: _block,
    Attention: _attention,
    SwiGLU: _swiglu,
    ReLU2: lambda walk, module: FixedReLU2(walk.map(module.up_proj), walk.map(module.down_proj)),
    Embedding: _embedding,
    EmbeddingMap: _embedding_map,
    RMSNorm: lambda walk, module: FixedRMSNorm(module),
} | dict.fromkeys([Linear, *KINDS], lambda walk, module: walk.join(module))
"""What becomes of each kind of module; any other is copied part by part."""
