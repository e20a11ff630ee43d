"""`smidgen inspect MODEL`: what a model is made of and what it costs, counted and not run."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from smidgen.models import ModelConfig


@click.command()
@click.argument("model")
@click.option("--context", type=click.IntRange(min=1), help="Symbols seen, for FLOPs and memory; default: as trained.")
def command(model: str, context: int | None) -> None:
    """Show a model's parameters by part, what is shared, and its bytes, FLOPs and memory per symbol.

    MODEL is a run, a model directory, a .gguf file, a pulled name, a preset or a recipe.
    """
    from smidgen.journey.screen import Screen
    from smidgen.models.stats import (
        PRECISIONS,
        count_effective,
        count_parameters,
        flops_per_symbol,
        kv_bytes_per_symbol,
    )
    from smidgen.models.stats import weight_bytes as bytes_at
    from smidgen.planning.units import format_bytes

    config, notes = _read(model)
    screen, seen = Screen(), context or config.max_seq_len
    parts, alone = count_parameters(config), count_effective(config)
    tied = " (the embedding's own)" if config.tie_embeddings else ""
    rows = [
        ("embedding", parts.embedding, ""),
        ("attention", parts.attention, ""),
        ("feed-forward", parts.feed_forward, ""),
    ]
    rows += [("norms and scalars", parts.norms, ""), ("head", parts.head, tied)]
    screen.say(f"{model}: {parts.total:,} parameters, {_shape(config)}")
    screen.show_table("", [(name, f"{count:>15,}", f"{count / parts.total:>6.1%}{more}") for name, count, more in rows])
    screen.say(_sharing(config, parts.total, alone.total))
    sizes = ", ".join(f"{name} {format_bytes(bytes_at(config, name))}" for name in PRECISIONS)
    one, training = flops_per_symbol(config, seen), flops_per_symbol(config, seen, training=True)
    memory = kv_bytes_per_symbol(config)
    screen.say(f"weights in a file: {sizes}")
    screen.say(f"FLOPs per symbol at {seen:,} of context: {one.total:,} to generate, {training.total:,} to train")
    screen.say(
        f"memory of a conversation: {memory:,} bytes per symbol, {format_bytes(memory * seen)} at {seen:,} (bf16)"
    )
    for note in notes:
        screen.say(note)


def _read(source: str) -> "tuple[ModelConfig, tuple[str, ...]]":
    """Return the config a name means, and what is worth a word."""
    from smidgen.checkpoint import load_model
    from smidgen.planning.presets import PRESETS, preset
    from smidgen.recipe import load_recipe

    if source.endswith(".toml"):
        return load_recipe(Path(source)).model, ()
    if source in PRESETS and not Path(source).exists():
        return preset(source), ()
    loaded = load_model(source)
    return loaded.model.config, loaded.notes


def _shape(config: "ModelConfig") -> str:
    stack, attention = config.stack, config.stack.attention
    heads = f"{attention.n_heads}/{attention.kv_heads} heads of {stack.d_head}"
    return (
        f"{len(stack.layers)} layers of {stack.d_model}, {heads}, {stack.mlp.type} {stack.mlp.d_ff}, "
        f"vocabulary {config.vocab_size:,}, context {config.max_seq_len:,}"
    )


def _sharing(config: "ModelConfig", total: int, alone: int) -> str:
    shared = []
    if config.stack.n_blocks < len(config.stack.layers):
        shared.append(
            f"depth {len(config.stack.layers)} from {config.stack.n_blocks} blocks {list(config.stack.layers)}"
        )
    if config.stack.mlps is not None:
        shared.append(f"feed-forwards by id {list(config.stack.mlps)}")
    if config.tie_embeddings:
        shared.append("head and embedding")
    return f"shared: {', '.join(shared)}; unshared it would be {alone:,}" if shared else "shared: nothing"
