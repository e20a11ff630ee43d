"""Bytes: of the files that are shipped, and of the memory a training run takes."""

from math import log2

from smidgen.models.llama import LlamaConfig
from smidgen.models.stats import count_parameters, weight_bytes

_TENSOR_HEADER = 110
"""Bytes of one entry of a safetensors header."""
_SMALL_FILES = 12_000
"""config.json, generation settings, tokenizer_config.json and the model card."""
_LOGITS_CHUNK = 128 << 20
"""fp32 logits that exist at once; the training room's chunk."""
_BASE_MEMORY = 400 << 20
"""The interpreter, torch and its threads, and buffers for text."""


def file_bytes(config: LlamaConfig, precision: str = "bf16") -> int:
    """Estimate the bytes of a model's directory, tokenizer and card included."""
    tensors = 10 * config.stack.n_blocks + 4
    header = tensors * _TENSOR_HEADER
    return weight_bytes(config, precision) + header + tokenizer_bytes(config.vocab_size) + _SMALL_FILES


def tokenizer_bytes(vocab_size: int) -> int:
    """Estimate tokenizer.json: 43 bytes an entry at 512, 71 at 32,768 (measured on English), and a tenth more."""
    return round(1.1 * vocab_size * (45 + 4.7 * max(0.0, log2(vocab_size / 512))))


def training_bytes(config: LlamaConfig, micro_tokens: int, activation_bytes: int, muon: bool = True) -> int:
    """Estimate the peak memory of training: weights, gradients, moments, one micro-batch of activations, logits."""
    parameters, stack = count_parameters(config), config.stack
    elsewhere = parameters.total - parameters.matrices
    moments = 4 * (parameters.matrices + 2 * elsewhere) if muon else 8 * parameters.total
    # What a block keeps for its backward, fitted on measured peaks without compilation: 1.30 GB at 1M with 16 x 512
    # symbols, 2.36 and 4.01 GB at 10M with 8 and 16 x 512, 4.61 GB at 40M with 8 x 512; met within 10%.
    width = stack.attention.n_heads * stack.d_head
    block = 28 * stack.d_model + activation_bytes * (12 * stack.d_model + 8 * width + 8 * stack.mlp.d_ff)
    logits = min(_LOGITS_CHUNK, 4 * micro_tokens * config.vocab_size)
    casts = activation_bytes * parameters.total  # each weight is cast to the dtype of its input
    activations = micro_tokens * len(stack.layers) * block
    return _BASE_MEMORY + 8 * parameters.total + moments + casts + activations + 5 * logits
