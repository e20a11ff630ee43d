"""FSDP2: every rank holds a part of each weight, its gradient and its moments, and the whole of each only in use.

What is trained is a sharded copy; the model itself stays whole, receives the weights whenever somebody looks (a hook,
a save, the end) and remains an ordinary model, on the first rank beside the parts, on the others in host memory.
Source: Zhao et al. 2023, arXiv 2304.11277; torch.distributed.fsdp.fully_shard.
"""

import copy
import sys
from collections import Counter
from typing import Any, cast

import torch
from torch import Tensor, nn

from smidgen.models import Model
from smidgen.models.stack import Block
from smidgen.runtime import Runtime


def copy_for_sharding(model: Model, runtime: Runtime) -> Model:
    """Return the copy of a model that will be sharded; the original leaves the device where nobody will look at it."""
    trained = copy.deepcopy(model)
    if not runtime.is_first:
        model.to("cpu")
    return trained


def shard(loss: nn.Module, runtime: Runtime) -> None:
    """Give each rank its part of every weight, in place; `loss` is the module whose forward is called in training."""
    # Imported by those who shard: it takes a second and 50 MB, a sixth of what a 135M model is adapted in.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(runtime.device.type, (runtime.world,))
    for module in units(loss):
        fully_shard(module, mesh=mesh)
    fully_shard(loss, mesh=mesh)


def units(root: nn.Module) -> list[nn.Module]:
    """Return what is gathered by itself: every block once, and before it whatever several places share.

    A module inside another comes first: a shared feed-forward left to the first block that has it would be gone when
    the second needs it.
    """
    places = Counter(child for module in root.modules() for child in module._modules.values() if child is not None)
    found = [m for m in root.modules() if isinstance(m, Block) or places[m] > 1]
    weighty = [m for m in found if next(m.parameters(), None) is not None]
    return sorted(weighty, key=lambda module: sum(1 for _ in module.modules()))


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor, gathered if it is in parts: then every rank must ask."""
    return cast(Any, tensor).full_tensor() if _is_part(tensor) else tensor


def part_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return this rank's part of a whole tensor, cut as `like` is; every rank has the same tensor whole."""
    if not _is_part(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    # No source rank: every rank cuts its part from its own copy, and nothing is sent.
    cut = cast(Any, like)
    return distribute_tensor(tensor.to(like.device), cut.device_mesh, cut.placements, src_data_rank=None)


@torch.no_grad()
def gather_into(model: nn.Module, trained: nn.Module) -> None:
    """Give a whole model the weights of its sharded copy, one after the other; every rank must call it."""
    weights = dict(trained.named_parameters())
    for name, weight in model.named_parameters():
        weight.copy_(whole(weights[name]))


def _is_part(tensor: Tensor) -> bool:
    """Whether a tensor is one rank's part: where the library of parts was never imported, nothing is."""
    library = sys.modules.get("torch.distributed.tensor")
    return library is not None and isinstance(tensor, library.DTensor)
