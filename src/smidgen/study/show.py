"""A study on the terminal: what it will cost, and what it has shown."""

from smidgen.journey.screen import Screen
from smidgen.planning.measure import measure_machine
from smidgen.planning.units import format_time
from smidgen.reports.study import BRIEF, study_findings, study_heading, study_rows
from smidgen.reports.study import COLUMNS as RESULT_COLUMNS
from smidgen.runtime import open_runtime
from smidgen.study.conduct import Asked
from smidgen.study.forecast import COLUMNS, forecast
from smidgen.study.layout import StudyDirectory
from smidgen.study.plan import Plan
from smidgen.study.results import write_results


def show_results(directory: StudyDirectory, screen: Screen) -> None:
    """Write the results anew from the cells' records and print them. Raises RunError if there is no study."""
    results = write_results(directory)
    screen.say(study_heading(results))
    screen.show_table("", [row[:BRIEF] for row in study_rows(results)], RESULT_COLUMNS[:BRIEF])
    for line in [*study_findings(results), *results["notes"]]:
        screen.say(line)
    screen.say(f"All figures: {directory.page}, {directory.table}, {directory.results}")


def show_forecast(plan: Plan, directory: StudyDirectory, asked: Asked, screen: Screen) -> None:
    """Print what every variant weighs and costs, and about how long the whole study will take."""
    rows = forecast(plan, directory, asked.only, lambda: measure_machine(open_runtime(device=asked.device)))
    screen.show_table("", [entry.row for entry in rows], COLUMNS)
    cells = len(plan.cells(asked.only))
    seconds = sum(entry.seconds for entry in rows) / asked.jobs
    screen.say(
        f"{cells} runs ({len(rows)} variants, seeds {', '.join(map(str, plan.study.seeds))}), "
        f"compared with {plan.study.reference!r}: about {format_time(seconds)} to go, preparing the text not counted. "
        "Bytes per symbol are estimated for English. Nothing was run."
    )
