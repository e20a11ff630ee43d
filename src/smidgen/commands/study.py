"""`smidgen study`: variants of a recipe at equal budgets, with several seeds, and what their differences show."""

from pathlib import Path

import click


@click.command()
@click.argument("study", type=click.Path(path_type=Path), metavar="STUDY.toml | DIRECTORY")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--dry-run", is_flag=True, help="Show every variant, what it weighs and costs, and run nothing.")
@click.option("--quick", is_flag=True, help="A trial of the whole study: a twentieth of the budget, one seed.")
@click.option("--only", multiple=True, metavar="NAME", help="Run this variant alone; may be given several times.")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, help="Runs at once. Default: 1, so that seconds compare."
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs"), help="Where the study's directory is.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps. Default: the fastest one here.")
def command(
    study: Path,
    overrides: tuple[str, ...],
    dry_run: bool,
    quick: bool,
    only: tuple[str, ...],
    jobs: int,
    out: Path,
    device: str | None,
) -> None:
    """Train every variant of STUDY.toml with every seed and compare them on the same bytes of held-out text.

    KEY=VALUE changes a key of the study (budget.seconds=60), else of its base recipe (data.path=my_texts). A study
    that was stopped goes on; finished runs are kept, changed variants run anew. A DIRECTORY shows its table again.
    """
    from smidgen.errors import ConfigError, RunError
    from smidgen.journey.screen import Screen
    from smidgen.study.conduct import Asked, conduct
    from smidgen.study.layout import StudyDirectory
    from smidgen.study.plan import check_only, plan_study
    from smidgen.study.show import show_forecast, show_results

    screen = Screen()
    if study.is_dir():
        if overrides or dry_run or quick or only:
            raise ConfigError(f"{study} is a study's directory: its table is shown, nothing run. Name the STUDY.toml.")
        show_results(StudyDirectory(study), screen)
        return
    plan = plan_study(study, overrides, quick)
    check_only(plan, only)
    directory, asked = StudyDirectory(out / plan.study.name), Asked(jobs, only, device)
    if dry_run:
        show_forecast(plan, directory, asked, screen)
        return
    failed = conduct(plan, directory, asked, screen)
    show_results(directory, screen)
    if failed:
        share = f"{len(failed)} of {len(plan.cells(only))} runs failed"
        raise RunError(f"{share}, each for the reason in the table. The same command tries them again.")
