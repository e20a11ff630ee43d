"""Linear maps made for decoding, of weights that no longer change.

Every map takes the rows' memory beside its input, because a row may bring an adapter of its own (see `adapted`); the
maps here do not read it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.models.state import Recall


class PackedLinear(nn.Module):
    """A linear map whose weight oneDNN has already reordered into the blocks its kernels read; CPU only."""

    def __init__(self, weight: Float[Tensor, "d_out d_in"]) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        self.apply_packed = torch.ops.mkldnn._linear_pointwise.default

    def forward(self, x: Float[Tensor, "*rows d_in"], recall: Recall | None = None) -> Float[Tensor, "*rows d_out"]:
        """Return x @ weight.T, the same for every row."""
        return self.apply_packed(x, self.packed, None, "none", [], "")


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


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this build of torch multiplies packed weights of this dtype here, found out by doing it."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if dtype not in (torch.bfloat16, torch.float32):
        return False
    weight, x = torch.eye(32, dtype=dtype), torch.arange(32, dtype=dtype)[None]
    try:
        return torch.equal(PackedLinear(weight)(x), x)
    except (RuntimeError, NotImplementedError, AttributeError):  # what a torch built without oneDNN answers
        return False
