"""What a byte model with pooling weighs and costs, at the bytes per patch its patcher is expected to give."""

from smidgen.models.bytepatch import BytePatchConfig
from smidgen.models.counting import (
    Flops,
    Parameters,
    count_heads,
    count_stack,
    stack_flops,
    stack_kv_bytes,
    stack_savings,
    unshared,
)
from smidgen.models.patching import EntropyConfig, LearnedConfig
from smidgen.models.pooling import CrossAttentionConfig
from smidgen.models.stack import StackConfig


def stacks(config: BytePatchConfig) -> list[StackConfig]:
    """Return every stack in the model."""
    own = [config.patcher.stack] if isinstance(config.patcher, EntropyConfig) else []
    return [config.encoder, config.stack, config.decoder, *own]


def parameters(config: BytePatchConfig) -> Parameters:
    """Count parameters that exist, those of the patcher's own model by their part too."""
    parts, local, trunk = [count_stack(stack) for stack in stacks(config)], config.encoder.d_model, config.stack.d_model
    own, table = config.patcher, config.vocab_size * local
    patcher = config.vocab_size * own.stack.d_model + 1 if isinstance(own, EntropyConfig) else 0
    return Parameters(
        embedding=table + len(config.ngrams) * config.ngram_buckets * local,
        attention=sum(part.attention for part in parts),
        feed_forward=sum(part.feed_forward for part in parts),
        norms=sum(part.norms for part in parts),
        head=0 if config.tie_embeddings else table,
        adapters=sum(part.adapters for part in parts),
        pooling=patcher + trunk + _patcher_maps(config) + _pooling_maps(config) + local * trunk * (1 + _slots(config)),
        beside=count_heads(config.heads, local, trunk),
    )


def without_sharing(config: BytePatchConfig) -> BytePatchConfig:
    """Return the config of the same computation with every block and map its own."""
    alone = {name: unshared(getattr(config, name)) for name in ("encoder", "stack", "decoder")}
    if isinstance(config.patcher, EntropyConfig):
        own = config.patcher.model_copy(update={"stack": unshared(config.patcher.stack)})
        return config.model_copy(update={**alone, "patcher": own})
    return config.model_copy(update=alone)


def savings(config: BytePatchConfig) -> dict[str, int]:
    """Count the parameters that each way of sharing saves, over all stacks."""
    table = config.vocab_size * config.encoder.d_model
    saved = {"the head is the embedding": table if config.tie_embeddings else 0}
    for stack in stacks(config):
        for what, count in stack_savings(stack).items():
            saved[what] = saved.get(what, 0) + count
    return saved


def flops(config: BytePatchConfig, context: int) -> Flops:
    """Count the operations of one symbol: the local stacks whole, of the trunk a patch's share."""
    each, local, trunk = 1 / config.patcher.bytes_per_patch, config.encoder.d_model, config.stack.d_model
    patch = stack_flops(config.stack, context * each) + Flops(2 * local * trunk * (1 + _slots(config)), 0, 0)
    total = stack_flops(config.encoder, context) + Flops(0, 0, 2 * config.vocab_size * local)
    if config.head == "parallel":
        slots = config.patcher.longest
        patch += stack_flops(config.decoder, slots).times(slots)
    else:
        total += stack_flops(config.decoder, context)
    if isinstance(config.patcher, EntropyConfig):
        own = config.patcher.stack
        total += stack_flops(own, context) + Flops(0, 0, 2 * config.vocab_size * own.d_model)
    local_maps = _patcher_maps(config) + _pooling_maps(config)
    return total + patch.times(each) + Flops(2 * local_maps, 0, 0)


def kv_bytes(config: BytePatchConfig, bytes_per_value: int) -> float:
    """Count the bytes a decoding row remembers for each symbol: keys, values, the encoder's outputs, contexts."""
    each, local = 1 / config.patcher.bytes_per_patch, config.encoder.d_model
    patch = stack_kv_bytes(config.stack, bytes_per_value) + _slots(config) * local * bytes_per_value
    symbol = stack_kv_bytes(config.encoder, bytes_per_value) + local * bytes_per_value
    if config.head == "autoregressive":
        symbol += stack_kv_bytes(config.decoder, bytes_per_value)
    if isinstance(config.patcher, EntropyConfig):
        symbol += stack_kv_bytes(config.patcher.stack, bytes_per_value)
    return symbol + each * patch


def _slots(config: BytePatchConfig) -> int:
    return config.patcher.longest if config.head == "parallel" else 1


def _patcher_maps(config: BytePatchConfig) -> int:
    return 2 * config.encoder.d_model**2 if isinstance(config.patcher, LearnedConfig) else 0


def _pooling_maps(config: BytePatchConfig) -> int:
    return 4 * config.encoder.d_model**2 if isinstance(config.pooling, CrossAttentionConfig) else 0
