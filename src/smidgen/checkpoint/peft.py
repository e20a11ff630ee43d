"""PEFT directories in and out: `adapter_config.json` and `adapter_model.safetensors`, as the `peft` library has them.

LoRA and rsLoRA, IA3, biases (its BEFT) and TinyLoRA, with projections stored or to be drawn again from torch's
generator. PEFT has no LoRA-XS: that is written as the LoRA it is equal to. What would compute differently here is
refused, never passed over. Source: peft 0.21.2.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from smidgen.checkpoint.atomic import refuse_foreign, staged_directory
from smidgen.checkpoint.hf_config import is_expressible
from smidgen.checkpoint.tensors import refuse_pickle, write_tensors
from smidgen.errors import CheckpointError, ConfigError
from smidgen.models import Model
from smidgen.surgery.adapter import Adapter, attach, check_finite
from smidgen.surgery.config import (
    AdapterConfig,
    BiasConfig,
    FullConfig,
    Ia3Config,
    LoraConfig,
    LoraXsConfig,
    TinyLoraConfig,
)
from smidgen.surgery.fingerprint import model_fingerprint
from smidgen.surgery.maps import LinearMap, common_names, linear_maps, weight_of
from smidgen.surgery.scales import BiasedLinear, ScaledLinear
from smidgen.surgery.text import check_base
from smidgen.surgery.tinylora import TinyLinear, share_out

PEFT_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_FILES = {PEFT_CONFIG, _WEIGHTS, "README.md"}
_ROOT = "base_model.model."
_VECTORS = "base_model.tinylora_v."
_BASE = "smidgen_base"
"""Where we note the base's fingerprint in a file that has no other place for it."""

_REFUSED = (
    *("use_dora", "lora_bias", "modules_to_save", "alpha_pattern", "rank_pattern", "trainable_token_indices"),
    *("layer_replication", "target_parameters", "fan_in_fan_out", "alora_invocation_tokens", "use_qalora"),
    *("use_bdlora", "arrow_config", "kasa_config", "monteclora_config", "velora_config", "megatron_config"),
)
"""Settings of PEFT that change what is computed, unless they are off."""
_MOVES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways PEFT has to start LoRA that change the base's own weights."""

ByMap = dict[str, dict[str, Tensor]]
"""Of each map, by its name, what a file says of it."""


def save_peft(
    directory: Path, adapter: Adapter, base_name: str = "", as_lora: bool = False, projections: bool = True
) -> None:
    """Write a PEFT directory; with `as_lora`, any low-rank adapter as ordinary LoRA, for engines that know only that.

    TinyLoRA whose groups PEFT cannot count is written with a vector for each map: what is computed is the same. Without
    `projections` PEFT will draw them itself, which only an adapter that came from it can bear. Raises ConfigError for
    what PEFT or transformers has no word for, CheckpointError for NaN or if it cannot be written.
    """
    _check_shape(adapter.model)
    if isinstance(adapter.config, FullConfig):
        raise ConfigError("full training makes a model of its own: save it with save_model.")
    directory = Path(directory)
    refuse_foreign(directory, _FILES, "an adapter")
    if as_lora or isinstance(adapter.config, LoraXsConfig):
        settings, tensors = _write_as_lora(adapter)
    else:
        settings, tensors = _WRITERS[type(adapter.config)](adapter)
    if not projections:
        settings, tensors = _without_projections(adapter, settings, tensors)
    check_finite(tensors)
    settings |= {
        "base_model_name_or_path": base_name,
        "inference_mode": True,
        "target_modules": _targets(adapter),
        "task_type": "CAUSAL_LM",
    }
    with staged_directory(directory) as staging:
        whole = {name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}
        write_tensors(staging / _WEIGHTS, whole, {"format": "pt", _BASE: adapter.base_hash})
        text = json.dumps(settings, indent=2, sort_keys=True)
        (staging / PEFT_CONFIG).write_text(text + "\n", encoding="utf-8")


def load_peft(directory: Path, model: Model) -> Adapter:
    """Attach the adapter of a PEFT directory, in place.

    Raises CheckpointError, the model unchanged, if it is damaged, of a kind that is not known here, or changes what
    our maps cannot compute; or if it was written here for another base.
    """
    directory = Path(directory)
    _check_shape(model)
    settings, tensors = _read_settings(directory), _read_tensors(directory, model)
    kind = settings.get("peft_type")
    if kind not in _READERS:
        raise CheckpointError(f"{directory}: PEFT's {kind} is not known here. Known are: {', '.join(_READERS)}.")
    _refuse_unknown(directory, settings)
    try:
        config, state = _READERS[kind](settings, tensors, linear_maps(model))
    except CheckpointError as error:
        raise CheckpointError(f"{directory}: {error}") from None
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # whatever a wrong type, name or shape comes to
        what = str(error).splitlines()[0]
        raise CheckpointError(f"{directory}: settings and tensors do not fit together ({what}).") from None
    adapter = attach(model, config)
    try:
        adapter.load_state(state)
    except CheckpointError as error:
        adapter.remove()
        raise CheckpointError(f"{directory}: {error}") from None
    return adapter


def _check_shape(model: Model) -> None:
    if not is_expressible(model.config):
        raise ConfigError(
            "PEFT adapts models of transformers, and this one has no shape of theirs. Keep the adapter in our own form."
        )


def _read_settings(directory: Path) -> dict[str, Any]:
    path = directory / PEFT_CONFIG
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = None
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path}: is missing or damaged. Copy the directory again.")
    return settings


def _read_tensors(directory: Path, model: Model) -> dict[str, Tensor]:
    path = directory / _WEIGHTS
    if not path.is_file():
        pickled = (directory / "adapter_model.bin").is_file()
        hint = "adapter_model.bin is a pickle: refused." if pickled else "Copy or download it again."
        raise CheckpointError(f"{directory}: holds no {_WEIGHTS}. {hint}")
    refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as file:
            base = (file.metadata() or {}).get(_BASE)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}). Copy it again.") from None
    if base is not None:
        check_base(base, model_fingerprint(model), f"{directory}: this adapter")
    return tensors


def _refuse_unknown(directory: Path, settings: Mapping[str, Any]) -> None:
    for key in _REFUSED:
        if settings.get(key):
            raise CheckpointError(f"{directory}: {key} ({settings[key]!r}) would compute differently here. Merge it.")
    if settings.get("bias", "none") != "none":
        raise CheckpointError(f"{directory}: bias ({settings['bias']!r}) needs biases in the base, which has none.")
    start = str(settings.get("init_lora_weights", "")).lower()
    if start.startswith(_MOVES_BASE):
        raise CheckpointError(
            f"{directory}: {start} changes the base's weights too. Have PEFT convert it to plain LoRA."
        )


def _targets(adapter: Adapter) -> list[str]:
    """Name the maps as shortly as PEFT understands them."""
    names = list(adapter.modules)
    maps = () if isinstance(adapter.config, FullConfig) else adapter.config.maps or ()
    return names if any("." in name for name in maps) else sorted({name.rpartition(".")[2] for name in names})


def _by_map(tensors: Mapping[str, Tensor], parts: tuple[str, ...], maps: list[LinearMap]) -> ByMap:
    """Sort tensors by the map they belong to, in the order of the maps; each must have all its parts."""
    found: ByMap = {one.name: {} for one in maps}
    for name, tensor in tensors.items():
        part = next((part for part in parts if name.endswith(f".{part}")), None)
        place = name.removeprefix(_ROOT).removesuffix(f".{part}")
        if part is None or place not in found:
            raise CheckpointError(f"{name} is no part of a map that is adapted here.")
        found[place][part] = tensor
    found = {place: own for place, own in found.items() if own}
    for place, own in found.items():
        if len(own) < len(parts):
            raise CheckpointError(f"{place} has only {', '.join(own)} of {', '.join(parts)}.")
    if not found:
        raise CheckpointError("no map is adapted.")
    return found


def _chosen(names: ByMap | dict[str, Tensor], maps: list[LinearMap]) -> tuple[str, ...] | None:
    return common_names([one for one in maps if one.name in names], maps)


def _write_lora(adapter: Adapter) -> tuple[dict[str, Any], dict[str, Tensor]]:
    config = adapter.config
    assert isinstance(config, LoraConfig)
    alpha = int(config.numerator) if config.numerator.is_integer() else config.numerator  # other readers want integers
    settings = {"peft_type": "LORA", "r": config.r, "lora_alpha": alpha, "bias": "none"}
    names = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight"}
    tensors: dict[str, Tensor] = {}
    for name, weight in adapter.weights.items():
        place, _, own = name.rpartition(".")
        tensors[f"{_ROOT}{place}.{names[own]}"] = weight
    return settings | {"use_rslora": config.rank_stabilized}, tensors


def _write_as_lora(adapter: Adapter) -> tuple[dict[str, Any], dict[str, Tensor]]:
    tensors: dict[str, Tensor] = {}
    rank = 0
    for place, (up, down) in adapter.as_lora().items():
        rank = len(down)
        tensors |= {f"{_ROOT}{place}.lora_A.weight": down, f"{_ROOT}{place}.lora_B.weight": up}
    return {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "use_rslora": False, "bias": "none"}, tensors


def _read_lora(
    settings: Mapping[str, Any], tensors: Mapping[str, Tensor], maps: list[LinearMap]
) -> tuple[AdapterConfig, dict[str, Tensor]]:
    found = _by_map(tensors, ("lora_A.weight", "lora_B.weight"), maps)
    config = LoraConfig(
        r=settings["r"],
        alpha=settings["lora_alpha"],
        rank_stabilized=bool(settings.get("use_rslora")),
        maps=_chosen(found, maps),
    )
    state = {f"{place}.lora_a": own["lora_A.weight"] for place, own in found.items()}
    return config, state | {f"{place}.lora_b": own["lora_B.weight"] for place, own in found.items()}


def _write_ia3(adapter: Adapter) -> tuple[dict[str, Any], dict[str, Tensor]]:
    scales = {name: one.scale for name, one in adapter.modules.items() if isinstance(one, ScaledLinear)}
    tensors = {f"{_ROOT}{name}.ia3_l": scale[:, None] for name, scale in scales.items()}
    return {"peft_type": "IA3", "feedforward_modules": []}, tensors


def _read_ia3(
    settings: Mapping[str, Any], tensors: Mapping[str, Tensor], maps: list[LinearMap]
) -> tuple[AdapterConfig, dict[str, Tensor]]:
    scales: dict[str, Tensor] = {}
    for place, own in _by_map(tensors, ("ia3_l",), maps).items():
        scale = own["ia3_l"]
        on_input = scale.shape[0] == 1
        if on_input and not place.endswith("down_proj"):
            raise CheckpointError(f"{place} is scaled on its input, which only down_proj can be here.")
        # What goes into down_proj is a product with what up_proj puts out: scaling one scales the other.
        target = place.replace("down_proj", "up_proj") if on_input else place
        scales[target] = scale.flatten() * scales[target] if target in scales else scale.flatten()
    chosen = _chosen(scales, maps) or tuple(dict.fromkeys(one.kind for one in maps))
    return Ia3Config(maps=chosen), {f"{place}.scale": scale for place, scale in scales.items()}


def _write_bias(adapter: Adapter) -> tuple[dict[str, Any], dict[str, Tensor]]:
    biases = {name: one.bias for name, one in adapter.modules.items() if isinstance(one, BiasedLinear)}
    return {"peft_type": "BEFT"}, {f"{_ROOT}{name}.beft_bias": bias[None] for name, bias in biases.items()}


def _read_bias(
    settings: Mapping[str, Any], tensors: Mapping[str, Tensor], maps: list[LinearMap]
) -> tuple[AdapterConfig, dict[str, Tensor]]:
    found = _by_map(tensors, ("beft_bias",), maps)
    state = {f"{place}.bias": own["beft_bias"].flatten() for place, own in found.items()}
    return BiasConfig(maps=_chosen(found, maps)), state


def _write_tinylora(adapter: Adapter) -> tuple[dict[str, Any], dict[str, Tensor]]:
    config, vector = adapter.config, adapter.vector
    assert isinstance(config, TinyLoraConfig)
    assert vector is not None
    groups, n = vector.groups.tolist(), len(adapter.modules)
    countable = groups == share_out([""] * n, config.groups, "peft")
    vectors = vector.v if countable else vector.v[vector.groups]
    settings = {
        "peft_type": "TINYLORA",
        "r": config.r,
        "u": config.u,
        "weight_tying": 1 - len(vectors) / n,
        "projection_seed": config.seed,
        "save_projection": True,
        "bias": "none",
    }
    tensors = {f"{_VECTORS}{group}": numbers for group, numbers in enumerate(vectors)}
    for place, one in adapter.modules.items():
        assert isinstance(one, TinyLinear)
        rank = min(config.r, *weight_of(one.base).shape)  # PEFT keeps no zeros beyond it
        tensors |= {
            f"{_ROOT}{place}.tinylora_A": one.down[:rank],
            f"{_ROOT}{place}.tinylora_B": one.up[:, :rank],
            f"{_ROOT}{place}.tinylora_P": one.projections[:, :rank, :rank],
        }
    return settings, tensors


def _without_projections(
    adapter: Adapter, settings: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Leave the projections out, if PEFT will draw just these."""
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith(".tinylora_P")}
    for index, place in enumerate(adapter.modules):
        ours = tensors.get(f"{_ROOT}{place}.tinylora_P")
        if ours is None or not torch.equal(ours.cpu(), _peft_projections(settings, index, ours.shape[-1])):
            raise ConfigError("PEFT would draw other projections than this adapter has: write them too.")
    return settings | {"save_projection": False}, kept


def _read_tinylora(
    settings: Mapping[str, Any], tensors: Mapping[str, Tensor], maps: list[LinearMap]
) -> tuple[AdapterConfig, dict[str, Tensor]]:
    vectors = {name: tensor for name, tensor in tensors.items() if name.startswith(_VECTORS)}
    stored = any(name.endswith(".tinylora_P") for name in tensors)
    parts = ("tinylora_A", "tinylora_B", *(["tinylora_P"] if stored else []))
    found = _by_map({name: tensor for name, tensor in tensors.items() if name not in vectors}, parts, maps)
    n, r = len(found), settings["r"]
    n_groups = max(1, round(n * (1.0 - settings["weight_tying"])))
    projections, state = [], {}
    for index, (place, own) in enumerate(found.items()):
        down, up = own["tinylora_A"].float(), own["tinylora_B"].float()
        missing = r - len(down)
        drawn = own["tinylora_P"].float() if stored else _peft_projections(settings, index, len(down))
        projections.append(F.pad(drawn, (0, missing, 0, missing)))
        state |= {f"{place}.down": F.pad(down, (0, 0, 0, missing)), f"{place}.up": F.pad(up, (0, missing))}
    state["v"] = torch.stack([vectors[f"{_VECTORS}{group}"].float() for group in range(n_groups)])
    state["projections"] = torch.stack(projections)
    config = TinyLoraConfig(
        r=r,
        u=settings["u"],
        groups=n_groups,
        order="peft",
        seed=settings["projection_seed"],
        stored=True,
        maps=_chosen(found, maps),
    )
    return config, state


def _peft_projections(settings: Mapping[str, Any], index: int, rank: int) -> Tensor:
    """Draw a map's matrices as PEFT does: from torch's generator, seeded by the projection seed and the map's index."""
    generator = torch.Generator().manual_seed(settings["projection_seed"] + index)
    return torch.normal(0.0, 1.0 / rank**0.5, (settings["u"], rank, rank), generator=generator)


_WRITERS: dict[type, Callable[[Adapter], tuple[dict[str, Any], dict[str, Tensor]]]] = {
    LoraConfig: _write_lora,
    Ia3Config: _write_ia3,
    BiasConfig: _write_bias,
    TinyLoraConfig: _write_tinylora,
}
_READERS = {"LORA": _read_lora, "IA3": _read_ia3, "BEFT": _read_bias, "TINYLORA": _read_tinylora}
"""By PEFT's own names."""
