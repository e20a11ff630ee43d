"""`smidgen pull NAME`: a pretrained model, in the cache and ready for every other verb."""

import click


@click.command()
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """Fetch a pretrained model once and keep it in the cache.

    NAME is one of the catalogue, a hub id (owner/name, or owner/name/file.gguf), a directory or a .gguf file. Without a
    name, the catalogue is shown.
    """
    from smidgen.checkpoint import CATALOGUE, pull

    if name is None:
        for short, entry in CATALOGUE.items():
            click.echo(f"{short:<16}{entry.about} ({entry.megabytes} MB)")
        return
    directory = pull(name, say=lambda text: click.echo(text, err=True))
    click.echo(f"{name} is ready in {directory}")
    click.echo(f"Talk with it: smidgen chat {name}")
