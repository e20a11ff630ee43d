"""`config.json`: our model config told in Hugging Face's words, and theirs in ours, exactly or not at all.

A Llama or Qwen3 shape is written so that `transformers` and vLLM load the directory as it is; our richer shapes get
an architecture that nobody else claims to know. The full config always rides along under the key "smidgen".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch

from smidgen.config import validate_config
from smidgen.errors import CheckpointError, ConfigError
from smidgen.models import CONFIGS, LlamaConfig, ModelConfig
from smidgen.models.attention import AttentionConfig
from smidgen.models.heads import HeadsConfig
from smidgen.models.layers import SwiGLUConfig
from smidgen.models.stack import StackConfig
from smidgen.tokenizers.base import Tokenizer

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "llama": {"num_key_value_heads": None, "head_dim": None, "max_position_embeddings": 2048},
    "mistral": {
        "num_key_value_heads": 8,
        "head_dim": None,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    "qwen3": {"num_key_value_heads": 32, "head_dim": 128, "max_position_embeddings": 32768},
}
"""What `transformers` assumes for a key that is missing. Source: its configuration classes, version 5.23."""

_ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}
"""What we write."""

_NORMED = ("qwen3",)
"""Types that norm queries and keys."""

_SHAPE_KEYS = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")

_MEANINGLESS = {
    *("_name_or_path", "_attn_implementation", "_attn_implementation_autoset", "architectures", "attention_dropout"),
    *("auto_map", "bos_token_id", "dtype", "eos_token_id", "initializer_range", "is_llama_config", "model_type"),
    *("max_window_layers", "pad_token_id", "pretraining_tp", "smidgen", "torch_dtype", "transformers.js_config"),
    *("transformers_version", "unk_token_id", "use_cache", "id2label", "label2id", "num_labels", "problem_type"),
    *("chunk_size_feed_forward", "output_attentions", "output_hidden_states", "return_dict", "is_encoder_decoder"),
}
"""Keys that change no logit of a dense decoder."""

_UNDERSTOOD = {
    *_SHAPE_KEYS,
    *("num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_parameters"),
    *("rope_scaling", "tie_word_embeddings", "hidden_act", "attention_bias", "mlp_bias", "sliding_window"),
    *("use_sliding_window", "layer_types", "rope_interleaved", "quantization_config"),
    "partial_rotary_factor",
}


@dataclass(frozen=True)
class ReadConfig:
    """A `config.json`, understood."""

    model: ModelConfig
    """The model as it was built, shared blocks and all."""
    notes: tuple[str, ...]
    """What was passed over, to be said once."""


def is_expressible(config: ModelConfig) -> TypeGuard[LlamaConfig]:
    """Whether Hugging Face's Llama (or Qwen3, with qk_norm) computes exactly this model."""
    if not isinstance(config, LlamaConfig):
        return False
    stack = config.stack
    unheard_of = config.logit_softcap is not None or stack.residual_scalars or stack.attention.window
    # Nor a map in two factors; multiplied out it is another file: see `models.merge`.
    unheard_of = unheard_of or config.embedding_rank is not None or stack.depth_lora_rank or config.ngrams
    unheard_of = unheard_of or config.heads != HeadsConfig()
    # Nor a block that several depths use: written out for each of them, what sharing saves would not be saved.
    unheard_of = unheard_of or any(len(set(ids)) < len(ids) for ids in stack.map_ids.values())
    return not unheard_of and isinstance(config.stack.mlp, SwiGLUConfig)


def write_config(config: ModelConfig, tokenizer: Tokenizer, dtype: torch.dtype) -> dict[str, Any]:
    """Return the content of `config.json`."""
    ours = {"smidgen": config.model_dump(mode="json")}
    stops = sorted(tokenizer.stop_ids)
    common = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": stops[0] if len(stops) == 1 else stops,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
    if not is_expressible(config):
        return {"architectures": ["SmidgenForCausalLM"], "model_type": "smidgen", **common, **ours}
    stack, attention = config.stack, config.stack.attention
    model_type = "qwen3" if attention.qk_norm else "llama"
    shape = {
        "vocab_size": config.vocab_size,
        "hidden_size": stack.d_model,
        "intermediate_size": stack.mlp.d_ff,
        "num_hidden_layers": len(stack.layers),
        "num_attention_heads": attention.n_heads,
        "num_key_value_heads": attention.kv_heads,
        "head_dim": stack.d_head,
        "max_position_embeddings": config.max_seq_len,
        "rms_norm_eps": stack.norm_eps,
        "rope_theta": attention.rope_theta,
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }
    architecture = _ARCHITECTURES[model_type]
    return {"architectures": [architecture], "model_type": model_type, **shape, **common, **ours}


def read_config(path: Path) -> ReadConfig:
    """Understand a `config.json`, ours or any dense Llama's, Mistral's or Qwen3's.

    Raises CheckpointError naming the key for whatever the model here would compute differently.
    """
    data = _read_json(path)
    if data.get("model_type") == "smidgen":
        return ReadConfig(_read_ours(data.get("smidgen"), path), notes=())
    plain = _read_theirs(data, path)
    unknown = sorted(k for k, v in data.items() if k not in _UNDERSTOOD | _MEANINGLESS and v not in (None, False))
    notes = (f"{path}: passed over {', '.join(unknown)}, which nothing here knows.",) if unknown else ()
    if "smidgen" not in data:
        return ReadConfig(plain, notes)
    ours = _read_ours(data["smidgen"], path)
    if not isinstance(ours, LlamaConfig):
        raise CheckpointError(f"{path} contradicts itself: its own model is no Llama. Copy the directory again.")
    _check_agreement(_spelled_out(ours), _spelled_out(plain), path)
    return ReadConfig(ours, notes)


def _spelled_out(config: LlamaConfig) -> LlamaConfig:
    """Return the config of the same model with every optional width given, and how it was drawn forgotten."""
    stack = config.stack
    attention = stack.attention.model_copy(update={"n_kv_heads": stack.attention.kv_heads, "d_head": stack.d_head})
    stack = stack.model_copy(update={"attention": attention, "zero_init_outputs": False})
    return config.model_copy(update={"stack": stack})


def _read_ours(data: Any, path: Path) -> ModelConfig:
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: has no model config under the key smidgen. Copy the directory again.")
    family = CONFIGS.get(data.get("type", "llama"))
    if family is None:
        known = ", ".join(CONFIGS)
        raise CheckpointError(f"{path}: its model is of type {data['type']!r}; this version knows {known}.")
    try:
        return validate_config(data, family, where=f"{path} (key smidgen)")
    except ConfigError as error:
        first, *more = (line.strip() for line in str(error).splitlines())
        raise CheckpointError(f"{first} {'; '.join(more)}") from None


def _check_agreement(ours: LlamaConfig, theirs: LlamaConfig, path: Path) -> None:
    def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for key, value in tree.items():
            flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        return flat

    mine, other = flatten(ours.model_dump()), flatten(theirs.model_dump())
    differing = [key for key in mine if mine[key] != other.get(key)]
    if differing:
        key = differing[0]
        raise CheckpointError(
            f"{path} contradicts itself: {key} is {mine[key]!r} under the key smidgen and {other.get(key)!r} outside. "
            "If it was edited on purpose, remove the key smidgen."
        )


def _read_theirs(data: dict[str, Any], path: Path) -> LlamaConfig:
    model_type = str(data.get("model_type"))
    if model_type not in _DEFAULTS:
        raise CheckpointError(
            f"{path}: model_type {model_type!r} is not supported. Dense models of type {', '.join(_DEFAULTS)} are."
        )
    missing = [key for key in _SHAPE_KEYS if not isinstance(data.get(key), int)]
    if missing:
        raise CheckpointError(f"{path}: {', '.join(missing)} must be given as a whole number.")
    data = {**_DEFAULTS[model_type], **data}
    _refuse_differences(data, path)
    heads, d_model = data["num_attention_heads"], data["hidden_size"]
    if data["head_dim"] is None and d_model % heads:
        raise CheckpointError(f"{path}: hidden_size ({d_model}) is not divisible by num_attention_heads ({heads}).")
    try:
        attention = AttentionConfig(
            n_heads=heads,
            n_kv_heads=data["num_key_value_heads"],
            d_head=data["head_dim"],
            rope_theta=_rope_theta(data, path),
            qk_norm=model_type in _NORMED,
        )
        stack = StackConfig(
            d_model=d_model,
            layers=tuple(range(data["num_hidden_layers"])),
            attention=attention,
            mlp=SwiGLUConfig(d_ff=data["intermediate_size"]),
            norm_eps=data.get("rms_norm_eps", 1e-6),
        )
        return LlamaConfig(
            vocab_size=data["vocab_size"],
            max_seq_len=data["max_position_embeddings"],
            tie_embeddings=data.get("tie_word_embeddings", False),
            stack=stack,
        )
    except ValueError as error:
        reason = str(error).splitlines()
        raise CheckpointError(f"{path}: not a shape that can be built: {' '.join(reason[1:3]).strip()}") from None


def _refuse_differences(data: Mapping[str, Any], path: Path) -> None:
    window = data.get("sliding_window")
    slides = data.get("use_sliding_window", True)
    partial = [kind for kind in data.get("layer_types") or [] if kind != "full_attention"]
    refused = {
        "attention_bias": (data.get("attention_bias"), "biases in attention"),
        "mlp_bias": (data.get("mlp_bias"), "biases in the feed-forward"),
        "hidden_act": (data.get("hidden_act", "silu") not in ("silu", "swish"), "an activation other than silu"),
        "sliding_window": (window and slides and window < data["max_position_embeddings"], "sliding-window attention"),
        "layer_types": (partial, "layers other than full attention"),
        "rope_interleaved": (data.get("rope_interleaved"), "interleaved rotary positions"),
        "quantization_config": (data.get("quantization_config"), "quantized weights"),
    }
    for key, (found, what) in refused.items():
        if found:
            raise CheckpointError(f"{path}: {key} ({data[key]!r}) asks for {what}, which is not supported.")


def _rope_theta(data: Mapping[str, Any], path: Path) -> float:
    rope = {**(data.get("rope_scaling") or {}), **(data.get("rope_parameters") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    harmless = kind == "default" or (kind == "linear" and rope.get("factor") == 1.0)
    if not harmless:
        key = "rope_parameters" if data.get("rope_parameters") else "rope_scaling"
        raise CheckpointError(f"{path}: {key} asks for rotary positions of type {kind!r}, which are not supported.")
    if rope.get("partial_rotary_factor", data.get("partial_rotary_factor", 1.0)) != 1.0:
        raise CheckpointError(f"{path}: partial_rotary_factor asks for partly rotated heads: not supported.")
    return float(rope.get("rope_theta") or data.get("rope_theta") or 10_000.0)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent}: holds no config.json, so it is no model directory.") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: is damaged (not JSON: {error}). Copy or download it again.") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: is damaged (not a JSON object).")
    return data
