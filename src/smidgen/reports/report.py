"""`report.html`: one file that tells a whole run, readable anywhere, with nothing to fetch and no script needed.

Style, plots and script are written into the page; the script only adds values under the pointer. Everything that came
from data or model is escaped by the template engine.
"""

from pathlib import Path

from markupsafe import Markup

from smidgen.reports import views
from smidgen.reports.curves import draw_curves
from smidgen.reports.pages import inlined, open_templates
from smidgen.reports.quantities import number, share
from smidgen.reports.records import RunRecord, as_rows, plain, read_run, show_controls
from smidgen.runs import RunDirectory, atomic_write

_VERDICTS = {"good": "fine", "watch": "worth a look", "bad": "a problem", "unknown": "not known"}


def write_report(path: Path) -> Path:
    """Write `report.html` into a run directory, finished or not, and return its path.

    Raises RunError if there is no run, or the page cannot be written.
    """
    report = RunDirectory(path).report
    atomic_write(report, show_controls(render_report(read_run(path))))
    return report


def render_report(run: RunRecord) -> str:
    """Return the page of a run."""
    environment = open_templates()
    environment.filters |= {"share": share, "number": number, "plain": plain, "svg": Markup}
    return environment.get_template("report.html").render(
        run=run,
        style=inlined(["report.css"]),
        script=inlined(["report.js"]),
        verdicts=_VERDICTS,
        status=views.status(run),
        tiles=views.tiles(run),
        figures=draw_curves(run),
        comparisons=views.comparisons(run),
        decisions=views.decisions(run),
        findings=views.findings(run),
        tasks=as_rows((run.final or {}).get("tasks")),
        trails=views.sample_trails(run),
        notes=views.notes(run),
        facts=views.facts(run),
    )
