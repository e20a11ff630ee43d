"""The ladder of adapters, from one trained number to every weight, as configs and as one line of text.

    tinylora:13   lora_xs:r=8   lora:r=8   rslora:r=64   ia3   bias   full

How many numbers that is depends on the model; `resolve` settles what does.
"""

import math
import tomllib
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from smidgen.config import Config, validate_config
from smidgen.errors import ConfigError

Maps = Annotated[tuple[str, ...], Field(min_length=1)]
"""Ends of names: "v_proj" is that map of every block, "layers.0.mlp.up_proj" one of them."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class FullConfig(Config):
    """No adapter: every weight of the model is trained."""

    type: Literal["full"] = "full"


class BiasConfig(Config):
    """One trained number per output of each map, added. Source: Ben Zaken et al. 2021 (BitFit), arXiv 2106.10199."""

    type: Literal["bias"] = "bias"
    maps: Maps | None = None
    """Maps adapted; None: all."""


class Ia3Config(Config):
    """One trained number per output of each map, multiplied. Source: Liu et al. 2022, arXiv 2205.05638."""

    type: Literal["ia3"] = "ia3"
    maps: Maps = ("k_proj", "v_proj", "up_proj")
    """Maps adapted. The paper scales keys, values and what goes into down_proj: scaling what up_proj puts out is the
    same in a gated feed-forward."""


class LoraConfig(Config):
    """A trained product of two thin matrices beside each map. Source: Hu et al. 2021, arXiv 2106.09685."""

    type: Literal["lora"] = "lora"
    r: Annotated[int, Field(ge=1)] = 8
    """Rank."""
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The update is scaled by alpha / r; None: 2 r, or 16 where rank-stabilized, which is the same at r = 64."""
    rank_stabilized: bool = False
    """Scale by alpha / sqrt(r) instead: rsLoRA. Source: Kalajdzievski 2023, arXiv 2312.03732."""
    seed: Seed = 0
    """Of what the first matrix starts from."""
    maps: Maps | None = None
    """Maps adapted; None: all."""

    @property
    def numerator(self) -> float:
        """Alpha, resolved."""
        if self.alpha is not None:
            return self.alpha
        return 16.0 if self.rank_stabilized else 2.0 * self.r

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""
        return self.numerator / (math.sqrt(self.r) if self.rank_stabilized else self.r)


class LoraXsConfig(Config):
    """A trained r x r core between each map's own singular vectors. Source: Balazy et al. 2024, arXiv 2405.17604."""

    type: Literal["lora_xs"] = "lora_xs"
    r: Annotated[int, Field(ge=1)] = 8
    """Singular directions of each map."""
    maps: Maps | None = None
    """Maps adapted; None: all."""


class TinyLoraConfig(Config):
    """Cores of LoRA-XS that are sums of fixed random matrices, weighted by few trained numbers that maps share.

    Source: "Learning to Reason in 13 Parameters", arXiv 2602.04118; what the paper leaves open as its tables and the
    reproductions decide it (facts.md, section 3).
    """

    type: Literal["tinylora"] = "tinylora"
    r: Annotated[int, Field(ge=1)] = 2
    """Singular directions of each map; 2 is best for few numbers (paper, figure 7)."""
    u: Annotated[int, Field(ge=1)] = 1
    """Trained numbers per group of maps."""
    groups: Annotated[int, Field(ge=1)] = 1
    """Groups of maps; the maps of one share their numbers."""
    parameters: Annotated[int, Field(ge=1)] | None = None
    """Trained numbers in all; stands for `u` and `groups`: as many groups as there can be before u grows
    (paper, figure 8: 3-5 points at equal count)."""
    order: Literal["tiled", "structured", "peft"] = "tiled"
    """Which maps share: neighbours in depth, of any kind; maps of one kind; or as PEFT counts neighbours."""
    seed: Seed = 0
    """Of the fixed random matrices."""
    stored: bool = False
    """Its frozen factors and matrices come with its file, from PEFT, and not from the base and the seed."""
    maps: Maps | None = None
    """Maps adapted; None: all."""

    @model_validator(mode="after")
    def _check(self) -> "TinyLoraConfig":
        if self.parameters is not None and (self.u, self.groups) != (1, 1):
            raise ValueError(f"parameters ({self.parameters}) stands for u and groups: give one or the others.")
        return self


AdapterConfig = Annotated[
    FullConfig | BiasConfig | Ia3Config | LoraConfig | LoraXsConfig | TinyLoraConfig, Field(discriminator="type")
]
"""The union of adapters, told apart by `type`."""

ADAPTERS: dict[str, type[Config]] = {
    "tinylora": TinyLoraConfig,
    "lora_xs": LoraXsConfig,
    "lora": LoraConfig,
    "ia3": Ia3Config,
    "bias": BiasConfig,
    "full": FullConfig,
}
_NUMBER_MEANS = {"tinylora": "parameters", "lora_xs": "r", "lora": "r"}


class _Named(Config):
    adapter: AdapterConfig
    """What a line of text means."""


def read_adapter(text: str) -> AdapterConfig:
    """Read an adapter from `name`, `name:number` or `name:key=value,...`; a number may come first, "+" joins lists.

    Raises ConfigError naming what there is.
    """
    name, _, rest = text.strip().partition(":")
    settings: dict[str, Any] = {"type": name}
    if name == "rslora":
        settings = {"type": "lora", "rank_stabilized": True}
    kind = settings["type"]
    if kind not in ADAPTERS:
        known = ", ".join([*ADAPTERS, "rslora"])
        raise ConfigError(f"{text!r}: there is no adapter {name!r}. There are: {known}.")
    for index, part in enumerate(rest.split(",") if rest else ()):
        key, equals, value = part.partition("=")
        if not equals and kind in _NUMBER_MEANS and index == 0:
            key, value = _NUMBER_MEANS[kind], key
        elif not equals:
            raise ConfigError(f"{text!r}: {part!r} is no setting. Write {kind}:key=value,key=value.")
        settings[key.strip()] = _value(key.strip(), value.strip())
    return validate_config({"adapter": settings}, _Named, where=f"adapter {text!r}").adapter


def write_adapter(config: AdapterConfig) -> str:
    """Return the line that `read_adapter` reads as this config."""
    settings = config.model_dump(mode="json", exclude_defaults=True, exclude={"type"})
    parts = [f"{key}={_text(value)}" for key, value in settings.items()]
    return ":".join([config.type, ",".join(parts)]) if parts else config.type


def resolve(config: AdapterConfig, n_maps: int) -> AdapterConfig:
    """Return the config with everything settled that depends on the number of maps.

    Raises ConfigError if TinyLoRA's numbers cannot be shared out among so many maps so that each tells something else.
    """
    if not isinstance(config, TinyLoraConfig):
        return config
    if config.parameters is None:
        if config.groups > n_maps:
            raise ConfigError(f"tinylora: {config.groups} groups are more than the {n_maps} maps to be grouped.")
        return config
    n, least, core = config.parameters, -(-config.parameters // n_maps), config.r**2
    if n > n_maps * core:
        rung = LoraXsConfig(r=math.isqrt(least - 1) + 1, maps=config.maps)
        raise ConfigError(
            f"tinylora: the cores of {n_maps} maps, {config.r} x {config.r} each, have {n_maps * core:,} numbers "
            f"in all, fewer than {n:,}. Next on the ladder: {write_adapter(rung)}, which trains {n_maps * rung.r**2:,}."
        )
    # The maps of a group, at least so many, have as many directions between them as it has numbers.
    u = next((u for u in range(least, 2 * least + 1) if n % u == 0 and u <= n_maps // (n // u) * core), None)
    if u is None:
        low = n - n % least
        raise ConfigError(
            f"tinylora: {n} numbers cannot be shared out among {n_maps} maps, {least} or a little more a group. "
            f"Try {low} or {low + least}."
        )
    return config.model_copy(update={"parameters": None, "u": u, "groups": n // u})


def _value(key: str, text: str) -> Any:
    if key == "maps":
        return text.split("+")
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
