"""`smidgen plan`: every decision `train` would take, with its rule and source, and nothing run."""

from pathlib import Path
from typing import Any

import click

from smidgen.commands.dials import dial_options


@click.command()
@click.argument("arguments", nargs=-1, metavar="[TEXT] [KEY=VALUE]...")
@dial_options
@click.option(
    "--recipe", type=click.Path(path_type=Path), metavar="FILE", help="Write the planned recipe to FILE, too."
)
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps. Default: the fastest one here.")
def command(dials: dict[str, Any], arguments: tuple[str, ...], recipe: Path | None, device: str | None) -> None:
    """Show every decision `train` would take with these dials, and what to expect of the run."""
    from smidgen.journey.request import plan_only, read_request
    from smidgen.planning.measure import measure_machine
    from smidgen.planning.render import render_plan
    from smidgen.recipe import format_recipe
    from smidgen.runs import atomic_write
    from smidgen.runtime import open_runtime

    request = read_request(arguments, dials, device=device)
    made, planned = plan_only(request, lambda: measure_machine(open_runtime(device=device)))
    click.echo(render_plan(made))
    if recipe is not None:
        atomic_write(recipe, format_recipe(planned, "Made by `smidgen plan`; every line may be changed."))
        click.echo(f"Wrote {recipe}. Run it: smidgen train {recipe}")
