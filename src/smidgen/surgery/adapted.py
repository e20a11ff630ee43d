"""Telling a base from what an adapter has put around its maps."""

from torch import Tensor, nn

from smidgen.surgery.lora import CoreLinear, LoraLinear
from smidgen.surgery.scales import BiasedLinear, ScaledLinear
from smidgen.surgery.tinylora import TinyLinear, TinyVector

AdapterModule = LoraLinear | CoreLinear | TinyLinear | ScaledLinear | BiasedLinear
"""What may stand around a map; each has the frozen map as `base`."""


def is_adapted(model: nn.Module) -> bool:
    """Whether a model carries an adapter around any of its maps."""
    return any(isinstance(module, AdapterModule) for module in model.modules())


def base_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return every weight of the base once, under the name it has without an adapter."""
    around = [module for module in model.modules() if isinstance(module, AdapterModule | TinyVector)]
    added = {weight for module in around for weight in module.parameters(recurse=False)}
    return {
        name.replace(".base.", "."): weight.detach() for name, weight in model.named_parameters() if weight not in added
    }
