"""What a model weighs and costs, from its config alone: parameters, FLOPs, bytes. No weights are made.

FLOPs count two per multiply-add of the matrix products and of attention; norms, activations and softmax are left
out, as everywhere in the field. Attention counts the full square of the context, the convention of MFU figures
(Source: Chowdhery et al. 2022, arXiv 2204.02311, appendix B); a causal kernel may do half of it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from smidgen.models import patch_stats
from smidgen.models.bytepatch import BytePatchConfig
from smidgen.models.counting import (
    PRECISIONS,
    Flops,
    Parameters,
    adapter_parameters,
    attention_shapes,
    count_heads,
    count_stack,
    feed_forward_shapes,
    heads_flops,
    stack_flops,
    stack_kv_bytes,
    stack_matrix_bytes,
    stack_savings,
    unshared,
)
from smidgen.models.llama import LlamaConfig
from smidgen.models.stack import StackConfig

__all__ = [
    "PRECISIONS",
    "Flops",
    "Parameters",
    "adapter_parameters",
    "attention_shapes",
    "count_effective",
    "count_parameters",
    "count_savings",
    "embedding_parameters",
    "feed_forward_shapes",
    "flops_per_symbol",
    "kv_bytes_per_symbol",
    "run_once",
    "stacks_of",
    "weight_bytes",
    "without_sharing",
]

AnyConfig = LlamaConfig | BytePatchConfig


class Family(NamedTuple):
    """How one family of models is counted."""

    parameters: Callable[[Any], Parameters]
    without_sharing: Callable[[Any], Any]
    savings: Callable[[Any], dict[str, int]]
    flops: Callable[[Any, int], Flops]
    kv_bytes: Callable[[Any, int], float]
    stacks: Callable[[Any], list[StackConfig]]


def count_parameters(config: AnyConfig) -> Parameters:
    """Count parameters that exist: a shared block, map or embedding once."""
    return FAMILIES[config.type].parameters(config)


def count_effective(config: AnyConfig) -> Parameters:
    """Count parameters as if nothing were shared: what the same computation would weigh written out."""
    alone = FAMILIES[config.type].without_sharing(config)
    return count_parameters(alone.model_copy(update={"tie_embeddings": False}))


def count_savings(config: AnyConfig) -> dict[str, int]:
    """Count the parameters that each way of sharing saves, in this order; depth updates cost, so theirs is negative.

    All that does not apply is left out; the rest adds up to the difference between effective and unique.
    """
    return {what: count for what, count in FAMILIES[config.type].savings(config).items() if count}


def flops_per_symbol(config: AnyConfig, context: int, training: bool = False) -> Flops:
    """Count the operations of one symbol that sees `context` symbols.

    Training runs all heads, and adds a backward of twice the forward.
    """
    family = FAMILIES[config.type]
    one = family.flops(config, context)
    if not training:
        return one
    first, *_ = family.stacks(config)  # where symbols are, and heads read
    return (one + heads_flops(config.heads, first.d_model, config.vocab_size, len(config.stack.layers))).times(3)


def run_once(config: AnyConfig) -> AnyConfig:
    """Return the model as it trains until its loops begin: every block once, at its first depth."""
    stacks = {name: value for name, value in config if isinstance(value, StackConfig)}
    once = {
        name: stack.model_copy(update={"layers": tuple(dict.fromkeys(stack.layers))}) for name, stack in stacks.items()
    }
    return config.model_copy(update=once)


def kv_bytes_per_symbol(config: AnyConfig, bytes_per_value: int = 2) -> int:
    """Count the bytes a decoding row remembers for each symbol, over all depths."""
    return round(FAMILIES[config.type].kv_bytes(config, bytes_per_value))


def weight_bytes(config: AnyConfig, precision: str = "bf16") -> int:
    """Count the bytes of the weights stored at a precision of `PRECISIONS`, scales included."""
    stored, parameters = PRECISIONS[precision], count_parameters(config)
    bytes_elsewhere = 4 if stored.bits == 32 else 2
    elsewhere = (parameters.total - parameters.matrices) * bytes_elsewhere
    return elsewhere + sum(stack_matrix_bytes(stack, stored) for stack in stacks_of(config))


def stacks_of(config: AnyConfig) -> list[StackConfig]:
    """Return every stack in a model."""
    return FAMILIES[config.type].stacks(config)


def without_sharing(config: LlamaConfig) -> LlamaConfig:
    """Return the config of the same computation with every block, map and vector its own: a plain stack."""
    return config.model_copy(update={"embedding_rank": None, "stack": unshared(config.stack)})


def embedding_parameters(config: LlamaConfig) -> int:
    """Count the parameters of the embedding, one table or its two factors."""
    rank, width = config.embedding_rank, config.stack.d_model
    return config.vocab_size * width if rank is None else (config.vocab_size + width) * rank


def _ngram_parameters(config: LlamaConfig) -> int:
    return len(config.ngrams) * config.ngram_buckets * config.stack.d_model


def _llama_parameters(config: LlamaConfig) -> Parameters:
    head = 0 if config.tie_embeddings else config.vocab_size * config.stack.d_model
    beside = count_heads(config.heads, config.stack.d_model)
    embedding = embedding_parameters(config) + _ngram_parameters(config)
    return replace(count_stack(config.stack), embedding=embedding, head=head, beside=beside)


def _llama_savings(config: LlamaConfig) -> dict[str, int]:
    table = config.vocab_size * config.stack.d_model
    return {
        "the head is the embedding": table if config.tie_embeddings else 0,
        "the embedding is factored": table - embedding_parameters(config),
        **stack_savings(config.stack),
    }


def _llama_flops(config: LlamaConfig, context: int) -> Flops:
    width = config.stack.d_model
    head = embedding_parameters(config) if config.tie_embeddings else config.vocab_size * width
    widening = (config.embedding_rank or 0) * width
    return stack_flops(config.stack, context) + Flops(matrices=2 * widening, attention=0, head=2 * head)


FAMILIES: dict[str, Family] = {
    "llama": Family(
        parameters=_llama_parameters,
        without_sharing=without_sharing,
        savings=_llama_savings,
        flops=_llama_flops,
        kv_bytes=lambda config, bytes_per_value: stack_kv_bytes(config.stack, bytes_per_value),
        stacks=lambda config: [config.stack],
    ),
    "bytepatch": Family(
        parameters=patch_stats.parameters,
        without_sharing=patch_stats.without_sharing,
        savings=patch_stats.savings,
        flops=patch_stats.flops,
        kv_bytes=patch_stats.kv_bytes,
        stacks=patch_stats.stacks,
    ),
}
