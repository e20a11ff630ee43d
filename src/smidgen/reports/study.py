"""A study as a table and as a page: what every variant cost, how it differs, and how sure that is.

Reads the plain values of results.json; computes nothing but their form.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from smidgen.reports.chart import Curve, Dot, Form, draw_curves, draw_dots
from smidgen.reports.pages import inlined, open_templates
from smidgen.reports.quantities import count, duration, number, size
from smidgen.reports.records import show_controls

Record = Mapping[str, Any]

_COLOURS = 8
_DASHES = 3
_CHIPS = {"better": "good", "worse": "bad", "no difference shown": "unknown", "reference": "watch"}
_AXES: tuple[tuple[str, str, Form], ...] = (
    ("parameters", "parameters", count),
    ("file_bytes", "bytes shipped (16 bits)", size),
    ("seconds", "seconds of training", duration),
)

_CHANGES_SHOWN = 8
_DOTS_CAPTION = (
    "Numbers are rows of the table, bars one standard error. Nothing lies both left of and below the dashed line."
)


@dataclass(frozen=True)
class Chart:
    """A drawn figure and what stands below it."""

    title: str
    svg: str
    caption: str


COLUMNS = (
    "#",
    "variant",
    "bits per byte",
    "difference ± 95%",
    "verdict",
    "parameters",
    "shipped",
    "training",
    "seeds",
    "by documents (95%)",
    "effective",
    "int8",
    "text read",
    "text/s",
    "FLOPs",
    "FLOPs/byte",
    "epochs",
    "memory",
)
BRIEF = 7
"""How many of the columns a terminal has room for."""


def study_rows(results: Record) -> list[list[str]]:
    """Return the table's cells as text, by `COLUMNS`; variants of a group stand together."""
    return [_row(row, results["study"]) for row in _ordered(results)]


def study_heading(results: Record) -> str:
    """Return in a sentence what was compared, and how far it came."""
    study, cells = results["study"], results["cells"]
    rows, seeds = len(results["variants"]), len(study["seeds"])
    done = "all finished" if cells["finished"] == cells["planned"] else f"{cells['finished']} finished"
    return (
        f"{rows} variants, {seeds} seed{'s' if seeds > 1 else ''}, {_budget(study)} each: "
        f"{cells['planned']} runs, {done}. "
        f"Bits per byte of the same held-out text; less is better. Compared with {study['reference']!r}."
    )


def study_findings(results: Record) -> list[str]:
    """Return what the study shows, one sentence for each verdict that was reached."""
    rows = [row for row in results["variants"] if row["verdict"] in ("better", "worse", "no difference shown")]
    told = []
    for verdict in ("better", "worse", "no difference shown"):
        named = sorted((row for row in rows if row["verdict"] == verdict), key=lambda row: row["difference"])
        if named:
            told.append(
                f"{verdict.capitalize()}: " + "; ".join(f"{r['name']} ({_change(r, results)})" for r in named) + "."
            )
    failed = [row["name"] for row in results["variants"] if row["failed"]]
    return told + ([f"Failed, wholly or in part: {', '.join(failed)}."] if failed else [])


def render_study_table(results: Record) -> str:
    """Return the study as Markdown."""
    lines = [f"# {results['study']['name']}", "", study_heading(results), ""]
    lines += [f"- {finding}" for finding in study_findings(results)] + [""]
    lines += [_markdown(COLUMNS), "|" + " --- |" * len(COLUMNS)]
    lines += [_markdown(row) for row in study_rows(results)]
    lines += ["", f"Differences are measured against {_noise(results['study'])}.", ""]
    lines += [f"- {note}" for note in results["notes"]]
    for row in _ordered(results):
        said = [row["note"].rstrip(".")] if row["note"] else []
        said += [f"changes {_few(row['changes'])}"] if row["changes"] else []
        said += [row["why"]] if row["why"] else []
        said += [f"seed {failure['seed']} failed: {failure['reason']}" for failure in row["failed"]]
        if said:
            lines.append(f"- {row['number']}. {row['name']}: {'; '.join(said)}")
    return "\n".join(lines) + "\n"


def render_study_page(results: Record) -> str:
    """Return the study as one HTML page with nothing to fetch."""
    styles = inlined(("report.css", "study.css"))
    rows = _ordered(results)
    page = (
        open_templates()
        .get_template("study.html")
        .render(
            name=results["study"]["name"],
            style=styles,
            heading=study_heading(results),
            findings=study_findings(results),
            columns=COLUMNS,
            rows=list(zip(rows, study_rows(results), strict=True)),
            chips=_CHIPS,
            noise=_noise(results["study"]),
            charts=[Chart(c.title, Markup(c.svg), c.caption) for c in draw_study(results)],
            legend=_legend(results),
            notes=results["notes"],
            facts=_facts(results),
        )
    )
    return show_controls(page)


def draw_study(results: Record) -> list[Chart]:
    """Return the figures: bits per byte against what a variant costs, and over training."""
    rows = [row for row in _ordered(results) if row["bits_per_byte"] is not None]
    kinds = _kinds(results)
    charts = []
    for key, name, form in _AXES if rows else ():
        dots = [
            Dot(
                row["number"],
                row["name"],
                max(row[key], 1e-9),
                row["bits_per_byte"],
                row["standard_error"],
                kinds[row["number"]],
            )
            for row in rows
        ]
        charts.append(Chart(f"Against {name}", draw_dots(dots, name, form), _DOTS_CAPTION))
    budget = results["study"]["budget"]
    unit, form = {"time": ("seconds of training", duration), "tokens": ("symbols", count), "flops": ("FLOPs", count)}[
        budget["type"]
    ]
    whole = budget["seconds" if budget["type"] == "time" else budget["type"]]
    curves, seen = [], dict[int, int]()
    for row in rows:
        if not row["curve"]:
            continue
        kind = kinds[row["number"]]
        seen[kind] = seen.get(kind, -1) + 1
        points = [(share * whole, bits) for share, bits in row["curve"]]
        curves.append(Curve(row["number"], row["name"], points, kind, seen[kind] % _DASHES))
    if curves:
        caption = (
            "Mean over seeds, on the same sample of held-out text, read without overlap: a little above the table."
        )
        charts.append(Chart("Over training", draw_curves(curves, unit, form), caption))
    return charts


def _ordered(results: Record) -> list[Record]:
    groups = list(dict.fromkeys(row["group"] for row in results["variants"]))
    return sorted(results["variants"], key=lambda row: groups.index(row["group"]))


def _kinds(results: Record) -> dict[int, int]:
    """Give every group a colour; where there are no groups, every variant."""
    groups = list(dict.fromkeys(row["group"] for row in results["variants"]))
    if len(groups) < 2:
        return {row["number"]: (row["number"] - 1) % _COLOURS for row in results["variants"]}
    return {row["number"]: groups.index(row["group"]) % _COLOURS for row in results["variants"]}


def _legend(results: Record) -> list[tuple[int, str]]:
    groups = list(dict.fromkeys(row["group"] for row in results["variants"]))
    if len(groups) < 2:
        return []
    return [(index % _COLOURS, group or "no group") for index, group in enumerate(groups)]


def _row(row: Record, study: Record) -> list[str]:
    seeds = f"{len(row['seeds'])}/{len(study['seeds'])}" + (f", {len(row['failed'])} failed" if row["failed"] else "")
    if row["bits_per_byte"] is None:
        verdict = "failed" if row["failed"] else row["verdict"]
        return [str(row["number"]), row["name"], "–", "–", verdict, "–", "–", "–", seeds, *["–"] * (len(COLUMNS) - 9)]
    error = f" ± {row['standard_error']:.4f}" if row["standard_error"] is not None else ""
    over_seeds = row.get("pooled" if study["noise"] == "pooled" else "paired")
    reach = f" ± {(over_seeds['high'] - over_seeds['low']) / 2:.4f}" if over_seeds else ""
    differs = f"{row['difference']:+.4f}{reach}" if "difference" in row else "–"
    documents = row.get("documents")
    return [
        str(row["number"]),
        row["name"],
        f"{row['bits_per_byte']:.4f}{error}",
        differs,
        row["verdict"],
        count(row["parameters"]),
        size(row["file_bytes"]),
        duration(row["seconds"]),
        seeds,
        f"[{documents['low']:+.4f}, {documents['high']:+.4f}]" if documents else "–",
        count(row["effective_parameters"]),
        size(row["int8_bytes"]),
        size(row["text_bytes"]),
        f"{size(row['bytes_per_second'])}/s",
        f"{row['flops']:.2e}",
        count(row["flops"] / row["text_bytes"]),
        number(row["epochs"]),
        size(row["memory_bytes"]),
    ]


def _change(row: Record, results: Record) -> str:
    base = next(r["bits_per_byte"] for r in results["variants"] if r["name"] == results["study"]["reference"])
    return f"{row['difference']:+.4f}, {100 * row['difference'] / base:+.1f}%"


def _budget(study: Record) -> str:
    budget = study["budget"]
    told = {"time": ("seconds", duration), "tokens": ("tokens", count), "flops": ("flops", lambda v: f"{v:.3g}")}
    key, form = told[budget["type"]]
    return f"{form(budget[key])}{'' if key == 'seconds' else ' symbols' if key == 'tokens' else ' FLOPs'} of training"


def _noise(study: Record) -> str:
    if study["noise"] == "pooled":
        return "the luck of the seeds, pooled over all variants (two-way analysis, Student's t)"
    return "the spread of their own pairs of seeds (paired t)"


def _facts(results: Record) -> list[tuple[str, str]]:
    study, hardware, versions = results["study"], results["hardware"] or {}, results["versions"] or {}
    facts = [
        ("budget of each run", _budget(study)),
        ("seeds", ", ".join(map(str, study["seeds"]))),
        ("held-out text", f"about {size(study['validation_bytes'])}, the same documents for every variant"),
        ("differences against", _noise(study)),
    ]
    facts += [(key, str(hardware[key])) for key in ("cpu", "cores", "threads", "gpu") if key in hardware]
    return facts + [(key, str(value)) for key, value in versions.items()]


def _markdown(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _few(changes: Sequence[str]) -> str:
    """Join what a variant changes; of another base recipe altogether the first, and how many more."""
    more = len(changes) - _CHANGES_SHOWN
    return ", ".join(changes[:_CHANGES_SHOWN]) + (f" and {more} more keys (results.json)" if more > 0 else "")
