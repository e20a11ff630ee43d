"""`smidgen report RUN`: the report and the model card, made anew from what the run wrote."""

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def command(run: Path) -> None:
    """Write report.html anew, and the model's card; also for a run that is still going."""
    from smidgen.journey.finish import write_pages
    from smidgen.runs import RunDirectory

    click.echo(f"Wrote {write_pages(RunDirectory(run))}")
