"""Attaching an adapter to a model, and everything one can do with it afterwards.

The model is changed in place: each map of its blocks gets a module around it, once, however many depths use it. The
base is frozen; only `Adapter.weights` train. Everything else goes on as before: the model is called as it was.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.errors import CheckpointError, ConfigError
from smidgen.models import BytePatch, Model, build_empty
from smidgen.surgery.adapted import AdapterModule, base_weights, is_adapted
from smidgen.surgery.config import (
    AdapterConfig,
    BiasConfig,
    FullConfig,
    Ia3Config,
    LoraConfig,
    LoraXsConfig,
    TinyLoraConfig,
    resolve,
)
from smidgen.surgery.counter import normals
from smidgen.surgery.fingerprint import model_fingerprint
from smidgen.surgery.lora import CoreLinear, LoraLinear
from smidgen.surgery.maps import LinearMap, linear_maps, stacks, weight_of
from smidgen.surgery.scales import BiasedLinear, ScaledLinear
from smidgen.surgery.svd import Factors, svd_factors
from smidgen.surgery.tinylora import TinyLinear, TinyVector, random_projections, share_out

MOST_FIXED = 100_000_000
"""Numbers in all fixed matrices of a TinyLoRA; 210 maps with u = 64 and r = 4 have 215,040."""


def attach(model: Model, config: AdapterConfig) -> "Adapter":
    """Adapt a model in place, so that it computes what it did and only the adapter's weights train.

    Raises ConfigError if the model already carries an adapter, has no such maps, or its maps no such rank.
    """
    if is_adapted(model):
        raise ConfigError("the model already carries an adapter. Remove or merge that one first.")
    if isinstance(config, FullConfig):
        return Adapter(model, config, [], {}, [])
    maps = linear_maps(model, config.maps)
    config = resolve(config, len(maps))
    _refuse_absurd(config, maps)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    with torch.no_grad():
        modules = _MAKERS[type(config)](maps, config)
    for weight in trained:
        weight.requires_grad_(False)
    for one, module in zip(maps, modules, strict=True):
        one.put(module)
    if isinstance(config, TinyLoraConfig):
        vector = modules[0].vector
        for _, stack in stacks(model):
            stack.register_forward_pre_hook(vector.before_forward)
    return Adapter(model, config, maps, {one.name: module for one, module in zip(maps, modules, strict=True)}, trained)


def count_numbers(model: Model, config: AdapterConfig) -> int:
    """Return how many numbers an adapter would train, without making it.

    Raises ConfigError if the model has no such maps, or TinyLoRA's numbers cannot be shared out among them.
    """
    if isinstance(config, FullConfig):
        return sum(weight.numel() for weight in _all_weights(model).values())
    maps = linear_maps(model, config.maps)
    config = resolve(config, len(maps))
    shapes = [weight_of(one.module).shape for one in maps]
    if isinstance(config, TinyLoraConfig):
        return config.u * config.groups
    if isinstance(config, LoraXsConfig):
        return len(maps) * config.r**2
    if isinstance(config, LoraConfig):
        return sum(config.r * sum(shape) for shape in shapes)
    return sum(d_out for d_out, _ in shapes)


class Adapter:
    """An adapter and the model it is attached to; made by `attach`."""

    def __init__(
        self,
        model: Model,
        config: AdapterConfig,
        maps: list[LinearMap],
        modules: Mapping[str, AdapterModule],
        trained: list[nn.Parameter],
    ) -> None:
        """Take what `attach` made: `trained` is what trained before it, and will again when it is removed."""
        self.model = model
        self.config = config
        """With everything settled that depends on the model."""
        self.modules = modules
        """What stands around each map, by the map's name."""
        self._maps = maps
        self._trained = trained
        if isinstance(config, FullConfig):
            self._base_before = model_fingerprint(model)

    @cached_property
    def base_hash(self) -> str:
        """Fingerprint of the base, as it was before anything trained."""
        return self._base_before if isinstance(self.config, FullConfig) else model_fingerprint(self.model)

    @property
    def vector(self) -> TinyVector | None:
        """The vector of TinyLoRA; None for any other adapter."""
        return next((one.vector for one in self.modules.values() if isinstance(one, TinyLinear)), None)

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """The trained weights: `v` of TinyLoRA; else each map's, under the map's name."""
        if isinstance(self.config, FullConfig):
            return _all_weights(self.model)
        if self.vector is not None:
            return {"v": self.vector.v}
        return {
            f"{name}.{own}": weight
            for name, module in self.modules.items()
            for own, weight in module.named_parameters(recurse=False)
        }

    @property
    def n_parameters(self) -> int:
        """Trained numbers in all."""
        return sum(weight.numel() for weight in self.weights.values())

    @property
    def n_directions(self) -> int:
        """Trained numbers that do something of their own; with too many to a group, TinyLoRA's say the same twice."""
        config, vector = self.config, self.vector
        if vector is None or not isinstance(config, TinyLoraConfig):
            return self.n_parameters
        sizes = torch.bincount(vector.groups)
        return int((sizes * config.r**2).clamp_max(config.u).sum())

    def state(self) -> dict[str, Tensor]:
        """Return all that the base and the config do not tell: the tensors themselves, not copies."""
        return {name: tensor.detach() for name, tensor in self._tensors().items()}

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises CheckpointError, with nothing changed, if a tensor is missing, unknown, of another shape or not finite.
        """
        own = self._tensors()
        if own.keys() != tensors.keys():
            odd = sorted(own.keys() ^ tensors.keys())
            raise CheckpointError(f"the adapter's tensors do not fit {self.config.type}: {', '.join(odd[:3])}.")
        for name, tensor in tensors.items():
            if tensor.shape != own[name].shape:
                wanted = tuple(own[name].shape)
                raise CheckpointError(f"the adapter's {name} has shape {tuple(tensor.shape)}; here it needs {wanted}.")
        check_finite(tensors)
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
        if self.vector is not None:
            self.vector.use_rows(self.vector.rows)

    @torch.no_grad()
    def merged(self, dtype: torch.dtype = torch.float32) -> Model:
        """Return a plain model of its own that computes the same; products in fp32, then cast to `dtype`.

        Only maps change: an embedding that is also the output head stays what it is. In bf16 the rounding of the
        weights (0.4%) may be larger than a small adapter's whole update. Raises ConfigError for biases, which a plain
        model has no place for.
        """
        if isinstance(self.config, BiasConfig):
            raise ConfigError(
                "a bias adapter cannot be merged: a plain model's maps have no biases. "
                "Keep it beside its base (save_adapter, save_peft), or train ia3, which merges."
            )
        model = self.model
        weights = base_weights(model) | {f"{name}.weight": one.merged() for name, one in self.modules.items()}
        before = weights[next(name for name in weights if name.endswith("embed_tokens.weight"))]
        plain = build_empty(model.config).to(dtype).to_empty(device=before.device)
        for name, weight in plain.named_parameters():
            weight.copy_(weights[name])
        computes_in = model.compute_dtype or before.dtype
        plain.compute_dtype = None if computes_in == dtype else computes_in
        return plain.train(model.training)

    @torch.no_grad()
    def as_lora(self) -> dict[str, Factors]:
        """Return each map's update as a product of two thin matrices: ordinary LoRA of scale 1.

        Raises ConfigError for adapters that are no low-rank update.
        """
        found = {n: m.factors() for n, m in self.modules.items() if isinstance(m, LoraLinear | CoreLinear | TinyLinear)}
        if not found:
            raise ConfigError(f"{self.config.type} is no low-rank update, so it cannot be written as LoRA.")
        return found

    def use_rows(self, vectors: Float[Tensor, "B n"] | None) -> None:
        """Give each row of the next forwards a TinyLoRA vector of its own; a single one is for all, None the trained.

        Raises ConfigError if this is no TinyLoRA, or a byte model, parts of which run some rows only: there an engine
        tells each part its rows.
        """
        if self.vector is None:
            raise ConfigError(f"rows can bring vectors of their own to TinyLoRA only; this is {self.config.type}.")
        if vectors is None:
            return self.vector.use_rows(None)
        if vectors.ndim != 2 or vectors.shape[1] != self.n_parameters:
            raise ConfigError(f"vectors of shape {tuple(vectors.shape)}: each needs {self.n_parameters} numbers.")
        if len(vectors) > 1 and isinstance(self.model, BytePatch):
            raise ConfigError(
                "the parts of a byte model run different rows: give one vector for all, or use an engine."
            )
        rows = vectors.unflatten(1, self.vector.v.shape)
        return self.vector.use_rows(rows[0] if len(rows) == 1 else rows)

    def remove(self) -> None:
        """Put the base's own maps back and let train what trained before.

        Raises ConfigError after full training, which has changed the base itself.
        """
        if isinstance(self.config, FullConfig):
            raise ConfigError("full training changes the base itself: there is nothing to remove. Load the base again.")
        for _, stack in stacks(self.model):
            hooks = stack._forward_pre_hooks
            for key, hook in list(hooks.items()):
                if self.vector is not None and hook == self.vector.before_forward:
                    del hooks[key]
        for one in self._maps:
            one.put(one.module)
        for weight in self._trained:
            weight.requires_grad_(True)

    def _tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = dict(self.weights)
        if isinstance(self.config, TinyLoraConfig) and self.config.stored and self.vector is not None:
            tensors["projections"] = self.vector.projections
            for name, module in self.modules.items():
                assert isinstance(module, TinyLinear)
                tensors |= {f"{name}.up": module.up, f"{name}.down": module.down}
        return tensors


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError if a tensor holds NaN or infinity."""
    for name, tensor in tensors.items():
        bad = int((~tensor.isfinite()).sum())
        if bad:
            raise CheckpointError(f"the adapter's {name} holds {bad} of {tensor.numel()} values that are not finite.")


def _all_weights(model: Model) -> dict[str, nn.Parameter]:
    """Return what full training trains: not the heads that guess further ahead."""
    return {name: weight for name, weight in model.named_parameters() if not name.startswith("heads.future.")}


def _refuse_absurd(config: AdapterConfig, maps: list[LinearMap]) -> None:
    """Raise ConfigError for a rank that no map has, and for fixed matrices without measure.

    A line of text may ask for anything, in few letters: memory must not be the one to say no.
    """
    if isinstance(config, LoraConfig | LoraXsConfig | TinyLoraConfig):
        most = max(min(weight_of(one.module).shape) for one in maps)
        if config.r > most:
            raise ConfigError(f"{config.type}: r={config.r} is more than any map here has directions: {most} at most.")
    if isinstance(config, TinyLoraConfig) and len(maps) * config.u * config.r**2 > MOST_FIXED:
        raise ConfigError(
            f"tinylora: u={config.u} and r={config.r} make {len(maps) * config.u * config.r**2:,} fixed numbers, "
            f"{MOST_FIXED:,} at most. Take fewer numbers a group, or a smaller r."
        )


def _lora(maps: list[LinearMap], config: LoraConfig) -> list[LoraLinear]:
    made = []
    for index, one in enumerate(maps):
        weight = weight_of(one.module)
        n_in = weight.shape[1]
        # The variance of PEFT's kaiming_uniform_(a=sqrt(5)).
        a = normals((config.r, n_in), (3 * n_in) ** -0.5, config.seed, index).to(weight.device)
        made.append(LoraLinear(one.module, a, config.scale))
    return made


def _lora_xs(maps: list[LinearMap], config: LoraXsConfig) -> list[CoreLinear]:
    return [CoreLinear(one.module, _directions(one, config.r)) for one in maps]


def _tinylora(maps: list[LinearMap], config: TinyLoraConfig) -> list[TinyLinear]:
    device = weight_of(maps[0].module).device
    groups = torch.tensor(share_out([one.kind for one in maps], config.groups, config.order))
    projections = random_projections(len(maps), config.u, config.r, config.seed)
    vector = TinyVector(config.groups, groups.to(device), projections.to(device))
    factors = _blank if config.stored else _directions
    vector.maps = tuple(TinyLinear(one.module, factors(one, config.r), vector, index) for index, one in enumerate(maps))
    return list(vector.maps)


def _directions(one: LinearMap, r: int) -> Factors:
    try:
        return svd_factors(weight_of(one.module), r)
    except ConfigError as error:
        raise ConfigError(f"{one.name}: {error}") from None


def _blank(one: LinearMap, r: int) -> Factors:
    """Return zeros, for factors that a file will bring."""
    d_out, d_in = weight_of(one.module).shape
    device = weight_of(one.module).device
    return Factors(torch.zeros(d_out, r, device=device), torch.zeros(r, d_in, device=device))


_MAKERS: dict[type, Callable[[list[LinearMap], Any], list[Any]]] = {
    LoraConfig: _lora,
    LoraXsConfig: _lora_xs,
    TinyLoraConfig: _tinylora,
    Ia3Config: lambda maps, config: [ScaledLinear(one.module) for one in maps],
    BiasConfig: lambda maps, config: [BiasedLinear(one.module) for one in maps],
}
"""What is put around the maps, by the kind of adapter."""
