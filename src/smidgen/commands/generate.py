"""`smidgen generate MODEL [PROMPT]`: a model continues a text."""

import sys
from typing import Any

import click

from smidgen.commands.sampling import sampling_options


@click.command()
@click.argument("model")
@click.argument("prompt", default="")
@click.option("--samples", "-n", type=click.IntRange(1, 64), default=1, help="How many continuations. Default: 1.")
@click.option("--adapter", metavar="ADAPTER", help="A directory or an adapter string, applied to the model.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps. Default: the fastest one here.")
@sampling_options
def command(
    sampling: dict[str, Any], model: str, prompt: str, samples: int, adapter: str | None, device: str | None
) -> None:
    """Continue PROMPT, or begin a text if there is none; `-` reads the prompt from standard input.

    MODEL is a run, a model directory, a .gguf file or a pulled name.
    """
    from smidgen.journey.speaking import open_speaker

    text = sys.stdin.read() if prompt == "-" else prompt
    speaker = open_speaker(model, device, sampling, rows=min(samples, 16), adapter=adapter)
    engine, params = speaker.engine, speaker.params(sampling)
    if samples == 1:
        click.echo(text, nl=False)
        for piece in engine.stream(text, params):
            click.echo(piece, nl=False)
        click.echo()
        return
    each = [params.model_copy(update={"seed": params.seed + index}) for index in range(samples)]
    for number, sequence in enumerate(engine.generate([text] * samples, each), start=1):
        click.echo(f"--- {number}\n{text}{sequence.text}")
