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
    from smidgen.models.describe import compare_parts, describe_shape, describe_sharing
    from smidgen.models.stats import (
        PRECISIONS,
        count_effective,
        count_parameters,
        count_savings,
        flops_per_symbol,
        kv_bytes_per_symbol,
    )
    from smidgen.models.stats import weight_bytes as bytes_at
    from smidgen.planning.units import format_bytes

    config, notes = _read(model)
    screen, seen = Screen(), context or config.max_seq_len
    parts, alone = count_parameters(config), count_effective(config)
    screen.say(f"{model}: {parts.total:,} parameters, {describe_shape(config)}")
    rows = [("", "unique", "share", "effective")] + [
        (name, f"{own:,}", f"{own / parts.total:.1%}", f"{whole:,}")
        for name, own, whole in (*compare_parts(parts, alone), ("all", parts.total, alone.total))
    ]
    screen.show_table("", [(name, f"{own:>15}", f"{share:>7}", f"{whole:>15}") for name, own, share, whole in rows])
    screen.say(describe_sharing(config))
    for what, saved in count_savings(config).items():
        screen.say(f"  {what}: {saved:,} parameters, {_signed_bytes(2 * saved)} in bf16")
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


def _signed_bytes(count: int) -> str:
    from smidgen.planning.units import format_bytes

    return f"-{format_bytes(-count)}" if count < 0 else format_bytes(count)
