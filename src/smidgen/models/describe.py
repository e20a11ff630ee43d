"""A model's shape and what it shares, in a person's words, from its config alone."""

from smidgen.models.bytepatch import BytePatchConfig
from smidgen.models.llama import LlamaConfig
from smidgen.models.patch_stats import stacks
from smidgen.models.stack import StackConfig
from smidgen.models.stats import Parameters


def describe_shape(config: LlamaConfig | BytePatchConfig) -> str:
    """Return depth, width and whatever else decides what a model computes, in one line."""
    runs = (
        f", runs of {', '.join(map(str, config.ngrams))} hashed into {config.ngram_buckets:,}" if config.ngrams else ""
    )
    return f"{SHAPES[config.type](config)}, vocabulary {config.vocab_size:,}{runs}, context {config.max_seq_len:,}"


def describe_sharing(config: LlamaConfig | BytePatchConfig) -> str:
    """Return what is shared, by id; of a byte model's stacks, the trunk's."""
    stack, shared = config.stack, []
    if stack.n_blocks < len(stack.layers):
        shared.append(f"depth {len(stack.layers)} from {stack.n_blocks} blocks {list(stack.layers)}")
    if stack.mlps is not None:
        shared.append(f"feed-forwards by id {list(stack.mlps)}")
    if stack.attention_outputs is not None:
        shared.append(f"attention outputs by id {list(stack.attention_outputs)}")
    if config.tie_embeddings:
        shared.append("head and embedding")
    if stack.depth_lora_rank:
        shared.append(f"each depth's own updates are of rank {stack.depth_lora_rank}")
    return f"shared: {', '.join(shared)}; against a model that shares nothing:" if shared else "shared: nothing"


def compare_parts(parts: Parameters, alone: Parameters) -> list[tuple[str, int, int]]:
    """Return each part's name with its unique and its effective parameters, parts that nobody has left out."""
    names = {
        "embedding": "embedding",
        "attention": "attention",
        "feed_forward": "feed-forward",
        "adapters": "updates of each depth",
        "pooling": "patches and widths",
        "norms": "norms and scalars",
        "head": "head",
        "beside": "heads beside it",
    }
    rows = [(name, getattr(parts, field), getattr(alone, field)) for field, name in names.items()]
    return [(name, own, whole) for name, own, whole in rows if own or whole]


def _stack(stack: StackConfig) -> str:
    attention = stack.attention
    window = f" seeing {attention.window}" if attention.window else ""
    heads = f"{attention.n_heads}/{attention.kv_heads} heads of {stack.d_head}{window}"
    return f"{len(stack.layers)} layers of {stack.d_model}, {heads}, {stack.mlp.type} {stack.mlp.d_ff}"


def _patched(config: BytePatchConfig) -> str:
    patcher, (encoder, trunk, decoder, *_) = config.patcher, stacks(config)
    said = f"patches by {patcher.type}, about {patcher.bytes_per_patch:g} symbols and at most {patcher.longest}"
    local = f"encoder of {len(encoder.layers)} and {config.head} decoder of {len(decoder.layers)} layers of"
    return f"{said}, {config.pooling.type} pooling; trunk of {_stack(trunk)}; {local} {encoder.d_model}"


SHAPES = {"llama": lambda config: _stack(config.stack), "bytepatch": _patched}
