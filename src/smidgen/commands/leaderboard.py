"""`smidgen leaderboard RUNS`: every model below a folder on one page, scores against size and time."""

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="RUNS", default=Path("runs"))
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Default: RUNS/leaderboard.html.")
def command(folder: Path, out: Path | None) -> None:
    """Write one page of all models below RUNS: bits per byte and scores, parameters, bytes shipped, training time.

    Finished runs, studies, model directories and evaluated .gguf files count. The page is one file, sorted by a click.
    """
    from smidgen.journey.screen import Screen
    from smidgen.reports.entrants import find_entrants
    from smidgen.reports.leaderboard import leaderboard_notes, leaderboard_table, render_leaderboard
    from smidgen.runs import atomic_write

    field = find_entrants(folder)
    columns, rows, letters = leaderboard_table(field)
    screen = Screen()
    screen.show_table("", rows, columns)
    for note in [*letters, *leaderboard_notes(field)]:
        screen.say(note)
    path = out or folder / "leaderboard.html"
    atomic_write(path, render_leaderboard(field))
    screen.say(f"Wrote {path}")
