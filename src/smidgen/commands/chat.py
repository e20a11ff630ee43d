"""`smidgen chat MODEL`: a conversation in the terminal, with history and answers as they come."""

import sys
from typing import TYPE_CHECKING, Any

import click

from smidgen.commands.sampling import sampling_options

if TYPE_CHECKING:
    from smidgen.inference import ChatSession


@click.command()
@click.argument("model")
@click.option("--system", metavar="TEXT", help="What the model is told before the conversation.")
@click.option("--adapter", metavar="ADAPTER", help="A directory or an adapter string, applied to the model.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps. Default: the fastest one here.")
@sampling_options
def command(sampling: dict[str, Any], model: str, system: str | None, adapter: str | None, device: str | None) -> None:
    """Talk with a model. /new begins afresh, /quit or Ctrl-D ends; Ctrl-C stops an answer.

    MODEL is a run, a model directory, a .gguf file or a pulled name. From a pipe, each line is one message.
    """
    from smidgen.errors import DataError
    from smidgen.inference import ChatSession
    from smidgen.inference.session import CHAT_DEFAULTS
    from smidgen.journey.speaking import chat_advice, open_speaker

    speaker = open_speaker(model, device, sampling, adapter=adapter)
    engine, params = speaker.engine, speaker.params(sampling, CHAT_DEFAULTS)
    for line in chat_advice(speaker):
        click.echo(line, err=True)
    session = ChatSession(engine, params, system)
    while (message := _listen()) is not None:
        if message == "/quit":
            return
        if message == "/new":
            session = ChatSession(engine, params, system)
        elif message:
            try:
                _answer(session, message)
            except DataError as error:  # a message that does not fit: the conversation goes on without it
                click.echo(str(error), err=True)


def _listen() -> str | None:
    """Return the next message, or None when there will be none."""
    try:
        if sys.stdin.isatty():
            import readline  # noqa: F401  (gives input() a history and line editing)
        return input("> " if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        return None


def _answer(session: "ChatSession", message: str) -> None:
    """Print the answer as it comes; Ctrl-C keeps what was said so far."""
    try:
        for piece in session.reply(message):
            click.echo(piece, nl=False)
    except KeyboardInterrupt:
        click.echo(" ...", nl=False)
    click.echo()
