"""`smidgen plan`: every decision `train` would take, with its rule and source, and nothing run."""

from pathlib import Path

import click


@click.command()
@click.argument("arguments", nargs=-1, metavar="[TEXT] [KEY=VALUE]...")
@click.option("--size", help="Parameters (300k, 10M) or bytes of the shipped file (8MB); default: what suits the time.")
@click.option("--time", "duration", metavar="TIME", help="Of the whole command: 90s, 10m, 1h30m. Default: 10m.")
@click.option("--seed", type=click.IntRange(min=0), help="Decides every random draw. Default: 0.")
@click.option("--name", help="Name of the run. Default: after what it reads.")
@click.option(
    "--recipe", type=click.Path(path_type=Path), metavar="FILE", help="Write the planned recipe to FILE, too."
)
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps. Default: the fastest one here.")
def command(
    arguments: tuple[str, ...],
    size: str | None,
    duration: str | None,
    seed: int | None,
    name: str | None,
    recipe: Path | None,
    device: str | None,
) -> None:
    """Show every decision `train` would take with these dials, and what to expect of the run."""
    from smidgen.journey.request import plan_only, read_request
    from smidgen.planning.measure import measure_machine
    from smidgen.planning.render import render_plan
    from smidgen.recipe import format_recipe
    from smidgen.runs import atomic_write
    from smidgen.runtime import open_runtime

    dials = {"size": size, "time": duration, "seed": seed, "name": name}
    request = read_request(arguments, dials, device=device)
    made, planned = plan_only(request, lambda: measure_machine(open_runtime(device=device)))
    click.echo(render_plan(made))
    if recipe is not None:
        atomic_write(recipe, format_recipe(planned, "Made by `smidgen plan`; every line may be changed."))
        click.echo(f"Wrote {recipe}. Run it: smidgen train {recipe}")
