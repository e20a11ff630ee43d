"""Models of the Llama family from GGUF files: names, shapes and numbers as this house has them."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smidgen.checkpoint.directory import LoadedModel, check_vocabulary
from smidgen.checkpoint.gguf_file import GGUFFile, open_gguf
from smidgen.checkpoint.gguf_tokenizer import write_gguf_tokenizer
from smidgen.checkpoint.tensors import TensorSource
from smidgen.checkpoint.weights import read_model
from smidgen.errors import CheckpointError, TokenizerError
from smidgen.models import LlamaConfig
from smidgen.models.attention import AttentionConfig
from smidgen.models.layers import SwiGLUConfig
from smidgen.models.stack import StackConfig
from smidgen.tokenizers.loading import load_tokenizer

_ARCHITECTURES = {"llama": True, "qwen3": False}
"""Architectures that can be read, and whether llama.cpp stores their queries and keys with rotary pairs adjacent."""

_EPSILON = "attention.layer_norm_rms_epsilon"

_OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def load_gguf(path: Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> LoadedModel:
    """Read a GGUF file with its tokenizer and chat template; `dtype` None keeps every number exact.

    Raises CheckpointError if the file is damaged or its model would compute differently here.
    """
    with tempfile.TemporaryDirectory() as scratch:
        return convert_gguf(path, Path(scratch), dtype, device)


def convert_gguf(path: Path, tokenizer_directory: Path, dtype: torch.dtype | None, device: Any = "cpu") -> LoadedModel:
    """Read a GGUF file, leaving its tokenizer's files in a directory."""
    file = open_gguf(path)
    config = gguf_config(file)
    write_gguf_tokenizer(file.metadata, tokenizer_directory, path)
    try:
        tokenizer = load_tokenizer(tokenizer_directory)
    except TokenizerError as error:
        raise CheckpointError(f"{path}: {str(error).removeprefix(f'{tokenizer_directory}/tokenizer.json: ')}") from None
    check_vocabulary(tokenizer, config.vocab_size, path)
    model = read_model(config, _source(file, config), dtype, device)
    return LoadedModel(model, tokenizer, path, tokenizer.chat_template)


def gguf_config(file: GGUFFile) -> LlamaConfig:
    """Return the config of a GGUF file. Raises CheckpointError naming the key for what is not supported."""
    architecture = str(file.metadata.get("general.architecture"))
    if architecture not in _ARCHITECTURES:
        raise CheckpointError(
            f"{file.path}: architecture {architecture!r} is not supported, only {', '.join(_ARCHITECTURES)}."
        )
    get = _getter(file, architecture)
    d_model, n_heads, n_blocks = get("embedding_length"), get("attention.head_count"), get("block_count")
    d_head = get("attention.key_length", get("rope.dimension_count", d_model // max(n_heads, 1)))
    _refuse_differences(file, get, d_head)
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or n_blocks > len(file.tensors):
        raise CheckpointError(f"{file.path}: holds {len(file.tensors)} tensors, which is no whole model.")
    try:
        attention = AttentionConfig(
            n_heads=n_heads,
            n_kv_heads=get("attention.head_count_kv", n_heads),
            d_head=d_head,
            rope_theta=_decimal(get("rope.freq_base", 10_000.0)),
            qk_norm=architecture == "qwen3",
        )
        stack = StackConfig(
            d_model=d_model,
            layers=tuple(range(n_blocks)),
            attention=attention,
            mlp=SwiGLUConfig(d_ff=get("feed_forward_length")),
            norm_eps=_decimal(get(_EPSILON)),
        )
        return LlamaConfig(
            vocab_size=embedding.shape[0],
            max_seq_len=get("context_length"),
            tie_embeddings="output.weight" not in file.tensors,
            stack=stack,
        )
    except ValueError as error:
        reason = " ".join(str(error).splitlines()[1:3]).strip()
        raise CheckpointError(f"{file.path}: not a shape that can be built: {reason}") from None


def _getter(file: GGUFFile, architecture: str) -> Callable[..., Any]:
    def get(key: str, default: Any = None) -> Any:
        value = file.metadata.get(f"{architecture}.{key}", default)
        kind = type(default) if default is not None else float if key == _EPSILON else int
        if value is None:
            raise CheckpointError(f"{file.path}: {architecture}.{key} is missing from its metadata.")
        if not isinstance(value, kind):
            raise CheckpointError(f"{file.path}: {architecture}.{key} ({value!r}) must be one {kind.__name__}.")
        return value

    return get


def _refuse_differences(file: GGUFFile, get: Callable[..., Any], d_head: int) -> None:
    scaling, factor = get("rope.scaling.type", "none"), get("rope.scaling.factor", 1.0)
    rope_factors = "rope_freqs.weight" in file.tensors and bool((file.read("rope_freqs.weight") != 1.0).any())
    window = get("attention.sliding_window", 0)
    refused = {
        "rope.scaling.type": (scaling != "none" and not (scaling == "linear" and factor == 1.0), scaling),
        "rope_freqs.weight": (rope_factors, "scaled rotary frequencies"),
        "rope.dimension_count": (get("rope.dimension_count", d_head) != d_head, "partly rotated heads"),
        "attention.value_length": (get("attention.value_length", d_head) != d_head, "values of another width"),
        "attention.sliding_window": (0 < window < get("context_length"), window),
        "expert_count": (get("expert_count", 0) > 0, "a mixture of experts"),
    }
    for key, (found, what) in refused.items():
        if found:
            raise CheckpointError(f"{file.path}: {key} ({what}) is not supported.")


def _source(file: GGUFFile, config: LlamaConfig) -> TensorSource:
    names = {_our_name(name): name for name in file.tensors if name != "rope_freqs.weight"}
    attention = config.stack.attention
    heads = {"q_proj.weight": attention.n_heads, "k_proj.weight": attention.kv_heads}
    permuted = _ARCHITECTURES[file.metadata["general.architecture"]]

    def read(name: str) -> Tensor:
        tensor = torch.from_numpy(np.array(file.read(names[name])))
        n_heads = heads.get(name.rpartition("self_attn.")[2]) if permuted else None
        return unpermute(tensor, n_heads) if n_heads else tensor

    return TensorSource(
        where=str(file.path),
        shapes={ours: file.tensors[theirs].shape for ours, theirs in names.items()},
        dtypes={ours: _dtype(file.tensors[theirs].type) for ours, theirs in names.items()},
        read=read,
    )


def unpermute(weight: Tensor, n_heads: int) -> Tensor:
    """Undo llama.cpp's order of query and key rows, which puts the two numbers of a rotary pair side by side.

    Source: llama.cpp convert_hf_to_gguf.py, LlamaModel.permute.
    """
    half = weight.shape[0] // n_heads // 2
    return weight.unflatten(0, (n_heads, half, 2)).transpose(1, 2).reshape(weight.shape)


def _our_name(name: str) -> str:
    if name in _OUTER:
        return _OUTER[name]
    block, _, rest = name.removeprefix("blk.").partition(".")
    part, _, kind = rest.rpartition(".")
    return f"model.layers.{block}.{_INNER[part]}.{kind}" if part in _INNER else name


def _dtype(kind: int) -> torch.dtype:
    """Return the narrowest dtype that holds a stored type's numbers exactly."""
    exact: Mapping[int, torch.dtype] = {1: torch.float16, 30: torch.bfloat16}
    return exact.get(kind, torch.float32)


def _decimal(number: float) -> float:
    """Return the shortest decimal an fp32 number stands for: 9.999999747378752e-06 was 1e-5."""
    return float(str(np.float32(number)))
