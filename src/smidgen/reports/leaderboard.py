"""All models below a folder on one page: what each weighs and costs, and how it does, to be sorted by a click.

One file that fetches nothing; without its script it is a plain table, ordered by the mean score. It computes no score,
only means of those that stand in the files.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from markupsafe import Markup

from smidgen.reports.chart import BITS_PER_BYTE, Dot, Form, Measure, draw_dots
from smidgen.reports.entrants import Entrant, Field, HeldOut
from smidgen.reports.pages import inlined, open_templates
from smidgen.reports.quantities import count, duration, number, share, size
from smidgen.reports.records import as_table, show_controls
from smidgen.reports.standing import OWN_TEXT, Score, Standing

_Z = 1.96
_COLOURS = 8
_COSTS: tuple[tuple[str, str, Form], ...] = (
    ("parameters", "parameters", count),
    ("file_bytes", "bytes shipped", size),
    ("seconds", "seconds of training", duration),
)


@dataclass(frozen=True)
class Mark:
    """One number of one model at one measure."""

    value: float
    reach: float | None
    """Half the length of its 95% interval."""
    beside: str = ""
    """What limits it, in a few letters."""
    told: str = ""
    """All that is known of it, for the pointer."""
    among: str = ""
    """What it may be compared with: marks of the same text, or the same version and items of a task."""
    is_limited: bool = False
    """Whether fewer items were asked than there were: a trial, never the best."""


@dataclass(frozen=True)
class Column:
    """A measure and what every model has of it."""

    title: str
    note: str
    measure: Measure
    marks: Mapping[str, Mark]
    """By the name of the model; who has none was not measured."""
    limit: str = ""
    """What limits all of them alike."""

    def is_top(self, name: str) -> bool:
        """Whether a model is the best of the column, or its own interval does not tell it from the best."""
        if name not in self.marks or self.marks[name].is_limited:
            return False
        own, sign = self.marks[name], -1 if self.measure.lower_is_better else 1
        peers = [sign * mark.value for mark in self.marks.values() if mark.among == own.among]
        return len(peers) > 1 and sign * own.value + (own.reach or 0.0) >= max(peers)

    def parts(self) -> "list[Column]":
        """Return the column by what may be compared; whole, where all of it may."""
        groups = Counter(mark.among for mark in self.marks.values())
        return [
            replace(self, note=among, marks={name: mark for name, mark in self.marks.items() if mark.among == among})
            for among, _ in groups.most_common()
        ]


@dataclass(frozen=True)
class Panel:
    """The figures of one measure."""

    title: str
    charts: tuple[tuple[str, Markup], ...]


_SHARE = Measure("score", False, share, lambda value: f"{100 * value:.1f} points", lambda tick: f"{100 * tick:.6g}%")


def columns_of(field: Field) -> list[Column]:
    """Return the measures of a leaderboard: bits per byte, the mean of the suite, every task."""
    tasks = [_task(field.entrants, name) for name in _task_names(field.entrants)]
    first = [_held_out(field.entrants), _mean(field.entrants)]
    return [*(column for column in first if column is not None), *tasks]


def ordered(field: Field, columns: Sequence[Column]) -> list[Entrant]:
    """Return the models, the best first: by the mean, else by the first measure there is."""
    first = next((column for column in columns if column.title == "above chance"), columns[0] if columns else None)
    if first is None:
        return list(field.entrants)
    sign = 1 if first.measure.lower_is_better else -1
    marks = first.marks
    return sorted(field.entrants, key=lambda one: sign * marks[one.name].value if one.name in marks else float("inf"))


def render_leaderboard(field: Field) -> str:
    """Return the page."""
    columns = columns_of(field)
    entrants = ordered(field, columns)
    environment = open_templates()
    environment.filters |= {"count": count, "size": size, "duration": duration}
    styles = inlined(("report.css", "study.css", "leaderboard.css"))
    page = environment.get_template("leaderboard.html").render(
        name=field.folder.resolve().name,
        style=styles,
        script=inlined(["leaderboard.js"]),
        entrants=entrants,
        columns=columns,
        panels=_panels(entrants, columns),
        legend=_legend(entrants),
        findings=_findings(columns),
        notes=leaderboard_notes(field),
        reach=describe_reach,
    )
    return show_controls(page)


def leaderboard_notes(field: Field) -> list[str]:
    """Say what limits a comparison, and what was passed over."""
    notes = []
    scores = [(one, score) for one in field.entrants if one.standing for score in one.standing.scores]
    if len({one.text for one in _texts_held_out(field.entrants).values()}) > 1:
        notes.append("Bits per byte were measured on different texts: only within one do they compare.")
    versions: dict[str, set[str]] = {}
    for _, score in scores:
        versions.setdefault(score.name, set()).add(score.version)
    for name, found in versions.items():
        if len(found) > 1:
            told = ", ".join(sorted(found))
            notes.append(f"{name}: versions {told} stand in one column; scores of different versions do not compare.")
    if ways := _ways([score for _, score in scores]):
        notes.append(f"Models were asked in different ways: {'; '.join(ways[:6])}.")
    if any(score.is_part for _, score in scores):
        notes.append(
            "“n of m”: only so many of the published items were asked. The interval covers that; a part chosen as "
            "the first n may also be easier or harder than the rest."
        )
    notes += [note for one in field.entrants if one.standing and (note := _seen(one.name, one.standing))]
    cut = [f"{one.name} {score.cut:,} at {score.name}" for one, score in scores if score.cut]
    if cut:
        notes.append(f"Items that did not fit the context whole: {'; '.join(cut[:8])}.")
    others = sum(one.standing.others for one in field.entrants if one.standing)
    if others:
        notes.append(f"{others} evaluations of weights that have been replaced are left out.")
    return [*notes, *field.notes]


def _ways(scores: Sequence[Score]) -> list[str]:
    """Return how the protocols of one task differ between models, each with the tasks it holds for."""
    found: dict[tuple[str, str], set[str]] = {}
    for score in scores:
        for key, value in score.protocol.items():
            found.setdefault((key, score.name), set()).add(str(value))
    tasks: dict[str, list[str]] = {}
    for (key, name), values in found.items():
        if len(values) > 1:
            tasks.setdefault(f"{key} ({', '.join(sorted(values))})", []).append(name)
    many = [f"{names[0]} and {len(names) - 1} more" if len(names) > 2 else ", ".join(names) for names in tasks.values()]
    return [f"{way} at {names}" for way, names in zip(tasks, many, strict=True)]


def _seen(name: str, standing: Standing) -> str:
    """Say which tasks' items stood in a model's training text; nothing if none did, or nobody looked."""
    found = []
    for score in standing.scores:
        clean = as_table(score.contamination.get("score_clean")).get("value")
        if score.contamination.get("share"):
            without = f", without them {score.told(clean)} instead of {score.told(score.value)}" if clean else ""
            found.append(f"{share(score.contamination['share'])} of {score.name}{without}")
    more = f"; and {len(found) - 4} more tasks" if len(found) > 4 else ""
    return f"{name}: of the items, its training text held {'; '.join(found[:4])}{more}." if found else ""


def _held_out(entrants: Sequence[Entrant]) -> Column | None:
    """Return bits per byte on what each run held out; where that is several texts, each number says which."""
    held = _texts_held_out(entrants)
    labels = {found.text: found.label for found in held.values()}
    if not held:
        return None
    alike = Counter(labels.values())
    names = {text: f"{label} ({text})" if alike[label] > 1 else label for text, label in labels.items()}
    marks = {
        name: Mark(
            found.bits_per_byte,
            _Z * found.error if found.error else None,
            names[found.text] if len(names) > 1 else "",
            f"{names[found.text]}: {found.told}",
            names[found.text],
        )
        for name, found in held.items()
    }
    note = f"held out of {next(iter(names.values()))}" if len(names) == 1 else f"{len(names)} texts"
    return Column("bits per byte", note, BITS_PER_BYTE, marks)


def _texts_held_out(entrants: Sequence[Entrant]) -> dict[str, HeldOut]:
    """Return what was held out with one name for each text: two sources may give the very same documents."""
    held = {one.name: one.held_out for one in entrants if one.held_out}
    first: dict[str, str] = {}
    names = {one.text: first.setdefault(one.documents, one.text) for one in held.values() if one.documents}
    return {name: replace(one, text=names.get(one.text, one.text)) for name, one in held.items()}


def _task_names(entrants: Sequence[Entrant]) -> list[str]:
    """Return the tasks, in the order of the models that were asked most."""
    evaluated = sorted((e.standing for e in entrants if e.standing), key=lambda standing: -len(standing.scores))
    names = dict.fromkeys(score.name for standing in evaluated for score in standing.scores)
    return [name for name in names if name != OWN_TEXT]  # which the run itself measured: not told twice


def _task(entrants: Sequence[Entrant], name: str) -> Column:
    found = {one.name: score for one in entrants if one.standing and (score := one.standing.find(name))}
    latest = next(iter(found.values()))
    measure = _SHARE if latest.told(latest.value).endswith("%") else Measure(latest.metric.replace("_", " "))
    if measure is not _SHARE and not latest.is_lower_better:
        measure = Measure(measure.name, False)
    said = [latest.metric.replace("_", " ")] if latest.metric != "accuracy" else []
    said += [f"chance {share(latest.chance).replace('.0%', '%')}"] if latest.chance else []
    marks = {one: _mark(score) for one, score in found.items()}
    beside = {mark.beside for mark in marks.values()}
    limit = beside.pop() if len(beside) == 1 else ""
    if limit:
        marks = {one: replace(mark, beside="") for one, mark in marks.items()}
    return Column(name.replace("bits_per_byte:", ""), ", ".join(said) or "accuracy", measure, marks, limit)


def _mark(score: Score) -> Mark:
    reach = (score.high - score.low) / 2 if score.low is not None and score.high is not None else None
    seen = score.contamination.get("share")
    beside = [score.asked()] if score.is_part else []
    beside += [f"{share(seen)} seen"] if seen else []
    told = f"{score.name} {score.version}, {score.metric}: {score.told(score.value)}"
    told += f", 95% interval {score.told(score.low)} to {score.told(score.high)}" if reach is not None else ""
    told += f", {score.asked()} items, {score.at[:10]}"
    among = f"version {score.version}, {score.items_hash or score.asked()}"
    return Mark(score.value, reach, ", ".join(beside), told, among, score.limit is not None)


def _mean(entrants: Sequence[Entrant]) -> Column | None:
    """Return the mean above chance of the tasks that most models share; None if no two tasks are shared."""
    asked = {
        one.name: {score.name: score for score in one.standing.scores if score.corrected is not None}
        for one in entrants
        if one.standing
    }
    sets = Counter(frozenset(scores) for scores in asked.values() if len(scores) > 1)
    if not sets:
        return None
    suite = max(sets, key=lambda tasks: (sum(tasks <= set(own) for own in asked.values()) * len(tasks), len(tasks)))
    owners = {name: [scores[task] for task in sorted(suite)] for name, scores in asked.items() if suite <= set(scores)}
    sets_of_items = [items for items, _ in Counter(map(_items_of, owners.values())).most_common()]
    marks = {}
    for name, own in owners.items():
        other = sets_of_items.index(_items_of(own))
        limits = ["limited"] * any(score.is_part for score in own) + [f"other items {other}"] * (other > 0)
        beside = ", ".join(limits)
        marks[name] = Mark(
            fmean(score.corrected or 0.0 for score in own),
            math.hypot(*map(_above_chance_reach, own)) / len(own),
            beside,
            f"mean over {', '.join(sorted(suite))}",
            beside,
            any(score.limit is not None for score in own),
        )
    return Column("above chance", f"mean of {len(suite)} tasks", _SHARE, marks)


def _items_of(scores: Sequence[Score]) -> tuple[tuple[str, str], ...]:
    """Name what a mean is over: two means compare only where it is the same."""
    return tuple((score.version, score.items_hash) for score in scores)


def _above_chance_reach(score: Score) -> float:
    width = (score.high or score.value) - (score.low or score.value)
    return width / 2 / (1 - (score.chance or 0.0))


def _panels(entrants: Sequence[Entrant], columns: Sequence[Column]) -> list[Panel]:
    """Return the figures of every measure; one text each of bits per byte, where two models at least read it."""
    panels = []
    for column in columns:
        if column.title == "bits per byte":
            texts = column.parts()
            shown = [text for text in texts if len(text.marks) > 1] or texts[:1]
            panels += [_panel(f"bits per byte, {text.note}", entrants, text) for text in shown]
        else:
            panels.append(_panel(column.title, entrants, column))
    return [panel for panel in panels if panel.charts]


def _panel(title: str, entrants: Sequence[Entrant], column: Column) -> Panel:
    kinds = {group: number for number, group in enumerate(dict.fromkeys(one.group for one in entrants))}
    charts = []
    for key, name, form in _COSTS:
        dots = []
        for place, one in enumerate(entrants, start=1):
            cost, mark = getattr(one, key), column.marks.get(one.name)
            if cost and mark is not None and math.isfinite(mark.value):  # a perplexity may be beyond all numbers
                dots.append(Dot(place, one.name, cost, mark.value, mark.reach, kinds[one.group] % _COLOURS))
        if dots:
            charts.append((f"Against {name}", Markup(draw_dots(dots, name, form, column.measure))))
    return Panel(title, tuple(charts))


def _legend(entrants: Sequence[Entrant]) -> list[tuple[int, str]]:
    groups = list(dict.fromkeys(one.group for one in entrants))
    return [(n % _COLOURS, group or "at the top") for n, group in enumerate(groups)] if len(groups) > 1 else []


def _findings(columns: Sequence[Column]) -> list[str]:
    """Say who is best at the mean and at bits per byte, and how many cannot be told from it."""
    told = []
    for column in columns:
        if column.title not in ("bits per byte", "above chance"):
            continue
        sign = 1 if column.measure.lower_is_better else -1
        for part in column.parts()[:3]:
            top = sorted((sign * mark.value, name) for name, mark in part.marks.items() if part.is_top(name))
            if top:
                what = f"{column.title.capitalize()}, {part.note or column.note}"
                best = f"{top[0][1]} ({column.measure.form(abs(top[0][0]))})"
                told.append(f"{what}: {best}{_not_told([name for _, name in top[1:]])}.")
    return told


def _not_told(names: Sequence[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return f", not to be told from {', '.join(names[:2])}{more}" if names else ""


def leaderboard_table(field: Field) -> tuple[list[str], list[list[str]], list[str]]:
    """Return the columns and rows of what a terminal has room for, and what their letters mean."""
    columns = columns_of(field)
    texts = next((column for column in columns if column.title == "bits per byte"), None)
    means = [column for column in columns if column.title == "above chance"]
    parts = texts.parts() if texts else []
    letters = {part.note: chr(ord("a") + at % 26) if len(parts) > 1 else "" for at, part in enumerate(parts)}
    rows = []
    for place, one in enumerate(ordered(field, columns), start=1):
        bits = texts.marks.get(one.name) if texts else None
        told = f"{BITS_PER_BYTE.form(bits.value)} {letters[bits.among]}".rstrip() if bits else "–"
        above = [mean.measure.form(mean.marks[one.name].value) if one.name in mean.marks else "–" for mean in means]
        cost = [count(one.parameters) if one.parameters else "–", size(one.file_bytes)]
        cost += [duration(one.seconds) if one.seconds is not None else "–"]
        rows.append([str(place), one.name, *cost, told, *above])
    titles = ["#", "model", "parameters", "shipped", "training", "bits/byte", *(mean.title for mean in means)]
    return titles, rows, [f"{letter}: held out of {text}" for text, letter in letters.items() if letter]


def describe_reach(column: Column, mark: Mark) -> str:
    """Return half an interval as it stands beside a number; nothing where it is not known."""
    if mark.reach is None:
        return ""
    return f"± {100 * mark.reach:.1f}" if column.measure is _SHARE else f"± {number(mark.reach, 2)}"
