"""Linear maps made for decoding, of weights that no longer change.

Every map takes the rows' memory beside its input, because a row may bring an adapter of its own (see `adapted`); the
maps here do not read it.
"""

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.models.state import Recall


class AddingMap(nn.Module):
    """A map that adds what it makes of its input to something else in one call."""

    def plus(
        self, x: Float[Tensor, "*rows d_in"], other: Float[Tensor, "*rows d_out"], recall: Recall | None = None
    ) -> Float[Tensor, "*rows d_out"]:
        """Return what it makes of x, and other."""
        raise NotImplementedError


class PackedLinear(AddingMap):
    """A linear map whose weight oneDNN has already reordered into the blocks its kernels read; CPU only.

    What follows a product element by element can be computed while its numbers are still in registers: a SwiGLU with
    its addition to the stream takes three quarters of the time (256 rows and more in bf16, AMX).
    """

    def __init__(self, weight: Float[Tensor, "d_out d_in"]) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        self.apply_packed = torch.ops.mkldnn._linear_pointwise.default
        self.apply_with = torch.ops.mkldnn._linear_pointwise.binary
        self.d_out = len(weight)

    def dense(self) -> Float[Tensor, "d_out d_in"]:
        """Return the weight as it was."""
        return self.packed.to_dense()

    def release(self) -> None:
        """Let the weight go; the product is of no use any more."""
        self.packed = torch.empty(0)

    def forward(self, x: Float[Tensor, "*rows d_in"], recall: Recall | None = None) -> Float[Tensor, "*rows d_out"]:
        """Return x @ weight.T, the same for every row."""
        return self.apply_packed(x, self.packed, None, "none", [], "")

    def silu(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """Return silu(x @ weight.T)."""
        return self.apply_packed(x, self.packed, None, "swish", [], "")

    def times(
        self, x: Float[Tensor, "*rows d_in"], other: Float[Tensor, "*rows d_out"]
    ) -> Float[Tensor, "*rows d_out"]:
        """Return (x @ weight.T) * other."""
        return self.apply_with(x, other, self.packed, None, "mul")

    def plus(
        self, x: Float[Tensor, "*rows d_in"], other: Float[Tensor, "*rows d_out"], recall: Recall | None = None
    ) -> Float[Tensor, "*rows d_out"]:
        """Return x @ weight.T + other."""
        return self.apply_with(x, other, self.packed, None, "add")


class Int8Linear(nn.Module):
    """A linear map whose weight is held in a byte a number: each row's own scale, rounded to the nearest.

    Half the memory of bf16. Of few rows the product reads the bytes themselves, which takes as long as packed bf16 does
    (one row; eight take 1.2 to 1.9 times as long); of more it makes the weight first, which pays from 16 on.
    """

    FEW_ROWS = 16

    def __init__(self, weight: Float[Tensor, "d_out d_in"]) -> None:
        super().__init__()
        self.d_out, self._dtype = len(weight), weight.dtype
        whole = weight.detach().float()
        scales = (whole.abs().amax(1) / 127).to(self._dtype)
        self.scales = torch.where(scales == 0, torch.ones_like(scales), scales)
        self.codes = (whole / self.scales.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
        self._reads_bytes = weight.device.type == "cpu" and _multiplies_bytes(self._dtype)

    def forward(self, x: Float[Tensor, "*rows d_in"], recall: Recall | None = None) -> Float[Tensor, "*rows d_out"]:
        """Return x @ weight.T, the same for every row."""
        if self._reads_bytes and x.dtype == self._dtype and x.numel() <= self.FEW_ROWS * x.shape[-1]:
            rows = x.reshape(-1, x.shape[-1])
            return torch.ops.aten._weight_int8pack_mm(rows, self.codes, self.scales).view(*x.shape[:-1], self.d_out)
        return F.linear(x, self.dense().to(x.dtype))

    def dense(self) -> Float[Tensor, "d_out d_in"]:
        """Return the weight as it is computed with."""
        return self.codes.to(self._dtype) * self.scales[:, None]

    def release(self) -> None:
        """Let the weight go; the product is of no use any more."""
        self.codes = self.scales = torch.empty(0)


@cache
def _multiplies_bytes(dtype: torch.dtype) -> bool:
    """Whether this build of torch has a product with bytes in this dtype, found out by doing it."""
    x, codes = torch.ones(1, 32, dtype=dtype), torch.eye(32, dtype=torch.int8)
    try:
        return torch.equal(torch.ops.aten._weight_int8pack_mm(x, codes, x[0]), x)
    except (RuntimeError, NotImplementedError, AttributeError):
        return False


class FixedLinear(nn.Module):
    """A linear map whose weight is already in the dtype of its input."""

    def __init__(self, weight: Float[Tensor, "d_out d_in"]) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone(), requires_grad=False)

    def forward(self, x: Float[Tensor, "*rows d_in"], recall: Recall | None = None) -> Float[Tensor, "*rows d_out"]:
        """Return x @ weight.T, the same for every row."""
        return F.linear(x, self.weight)


class OpaqueMap(nn.Module):
    """A linear map of a kind that is not known here, as it is."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Float[Tensor, "*rows d_in"], recall: Recall | None = None) -> Float[Tensor, "*rows d_out"]:
        """Return what it makes of x, the same for every row."""
        return self.inner(x)


class SideBySide(nn.Module):
    """Maps that read the same input but cannot be one product."""

    def __init__(self, maps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.maps = nn.ModuleList(maps)

    def forward(self, x: Float[Tensor, "*rows d_in"], recall: Recall | None = None) -> Float[Tensor, "*rows d_out"]:
        """Return all outputs, one behind the other."""
        return torch.cat([one(x, recall) for one in self.maps], -1)


def add_product(
    stream: Float[Tensor, "*rows d_out"], product: nn.Module, x: Float[Tensor, "*rows d_in"], recall: Recall | None
) -> Float[Tensor, "*rows d_out"]:
    """Return the stream and what a map makes of x, in one call where the map can."""
    return product.plus(x, stream, recall) if isinstance(product, AddingMap) else stream + product(x, recall)


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this build of torch multiplies packed weights of this dtype here, found out by doing it."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if dtype not in (torch.bfloat16, torch.float32):
        return False
    weight, x = torch.eye(32, dtype=dtype), torch.arange(32, dtype=dtype)[None]
    try:
        packed = PackedLinear(weight)
        return torch.equal(packed.plus(x, packed.times(x, packed(x))), x * x + x) and bool(
            packed.silu(x).isfinite().all()
        )
    except (RuntimeError, NotImplementedError, AttributeError):  # what a torch built without oneDNN answers
        return False
