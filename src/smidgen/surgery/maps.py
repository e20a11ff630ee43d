"""Where the linear maps of a model's blocks are, each once, and putting something else in their place."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from smidgen.errors import ConfigError
from smidgen.models import Model
from smidgen.models.layers import AdaptedLinear, Linear
from smidgen.models.stack import Stack

WEIGHTS: dict[type[nn.Module], Callable[[Any], Tensor]] = {Linear: lambda module: module.weight}
"""The weight of each kind of map that can be adapted."""


@dataclass(frozen=True)
class LinearMap:
    """A linear map and everywhere it stands: blocks, feed-forwards and output maps may be shared."""

    name: str
    """Where it stands first, as in the names of the model's parameters."""
    module: nn.Module
    """The map itself; inside an AdaptedLinear, the shared one."""
    slots: tuple[tuple[nn.Module, str], ...]
    """Every module that has it as a child, with the child's name."""

    @property
    def kind(self) -> str:
        """What it is to its block: q_proj, up_proj, ..."""
        return self.name.removesuffix(".shared").rpartition(".")[2]

    def put(self, module: nn.Module) -> None:
        """Let another module stand wherever this one does."""
        for owner, name in self.slots:
            setattr(owner, name, module)


def weight_of(module: nn.Module) -> Float[Tensor, "d_out d_in"]:
    """Return the weight of a map; for one that is stored otherwise, what it computes with."""
    return WEIGHTS[type(module)](module)


def stacks(model: Model) -> Iterator[tuple[str, Stack]]:
    """Yield every stack of a model with its name, but not a patcher's own.

    What ends a patch is a threshold, through which no gradient comes: an adapter there would only move ends at random.
    """
    for name, module in model.named_modules():
        if isinstance(module, Stack) and not name.startswith("patcher."):
            yield name, module


def linear_maps(model: Model, only: tuple[str, ...] | None = None) -> list[LinearMap]:
    """Return the maps of all blocks, those of a depth together, from the first depth to the last.

    `only` keeps those whose names end with one of these. Raises ConfigError if one of them ends no name.
    """
    names: dict[nn.Module, str] = {}
    slots: dict[nn.Module, list[tuple[nn.Module, str]]] = {}
    for name, owner, child in _children(model):
        module = owner.get_submodule(child)
        if type(module) in WEIGHTS:
            names.setdefault(module, name)
            places = slots.setdefault(module, [])
            if (owner, child) not in places:
                places.append((owner, child))
    maps = [LinearMap(name, module, tuple(slots[module])) for module, name in names.items()]
    if only is None:
        return maps
    for end in only:
        if not any(_ends(one, end) for one in maps):
            kinds = ", ".join(dict.fromkeys(one.kind for one in maps))
            raise ConfigError(f"maps: no map is called {end!r}. This model's are: {kinds}.")
    return [one for one in maps if any(_ends(one, end) for end in only)]


def common_names(chosen: list[LinearMap], every: list[LinearMap]) -> tuple[str, ...] | None:
    """Return the shortest `only` that chooses just these: None for all, kinds where they are whole, else names."""
    if len(chosen) == len(every):
        return None
    kinds = dict.fromkeys(one.kind for one in chosen)
    whole = sum(one.kind in kinds for one in every) == len(chosen)
    return tuple(kinds) if whole else tuple(one.name.removesuffix(".shared") for one in chosen)


def _ends(one: LinearMap, end: str) -> bool:
    return f".{one.name.removesuffix('.shared')}".endswith(f".{end}")


def _children(model: Model) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield the name, the owner and the owner's name for each map of each block, depth by depth."""
    for prefix, stack in stacks(model):
        for depth, block in enumerate(stack.layers):
            for part in ("self_attn", "mlp"):
                owner = block.get_submodule(part)
                for child, module in owner.named_children():
                    name = f"{prefix}.layers.{depth}.{part}.{child}"
                    if isinstance(module, AdaptedLinear):
                        yield f"{name}.shared", module, "shared"
                    elif child.endswith("_proj"):
                        yield name, owner, child
