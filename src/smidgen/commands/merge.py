"""`smidgen merge MODEL ADAPTER --out DIR`: base and adapter as one plain model, or the adapter in PEFT's files."""

from pathlib import Path

import click


@click.command()
@click.argument("model")
@click.argument("adapter")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to write.")
@click.option(
    "--as", "form", type=click.Choice(["model", "peft", "lora"]), default="model", help="What to write. Default: model."
)
def command(model: str, adapter: str, out: Path, form: str) -> None:
    """Write MODEL with ADAPTER folded in; `--as peft` the adapter in PEFT's files, `--as lora` as ordinary LoRA there.

    ADAPTER is a directory, ours or PEFT's, or an adapter string.
    """
    import torch

    from smidgen.checkpoint import load_model, save_model
    from smidgen.checkpoint.adapters import load_adapter
    from smidgen.checkpoint.peft import save_peft

    loaded = load_model(model)
    attached = load_adapter(adapter, loaded.model)
    if form == "model":
        # In fp32: rounded to bf16 a weight may lose the whole of a small adapter's update.
        save_model(out, attached.merged(), loaded.tokenizer, torch.float32)
    else:
        save_peft(out, attached, model, as_lora=form == "lora")
    click.echo(f"{out}: {attached.n_parameters:,} trained numbers of {attached.config.type}, as {form}.")
