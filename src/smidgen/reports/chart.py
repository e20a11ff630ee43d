"""Variants in one picture, as SVG text: dots on a logarithmic axis with their error bars, or curves side by side.

Every mark carries its number in the table and, for a pointer or a screen reader, its name and values; colour and shape
only group. Colours come from the page's style sheet.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from smidgen.reports.plot import log_ticks, nice_ticks
from smidgen.reports.quantities import number
from smidgen.reports.records import Points

_WIDTH, _HEIGHT = 480, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 26, 14, 42
_LETTER = 7.0
_LINE = 12.0

Form = Callable[[float], str]


@dataclass(frozen=True)
class Dot:
    """One variant."""

    number: int
    """Its row in the table."""
    name: str
    x: float
    y: float
    error: float | None
    """How far its bar reaches to either side: of a study, the standard error."""
    kind: int
    """Which colour and shape."""


@dataclass(frozen=True)
class Level:
    """A value to compare with that costs nothing: a line across."""

    name: str
    y: float


@dataclass(frozen=True)
class Measure:
    """What a figure's vertical axis tells."""

    name: str = "bits per byte"
    lower_is_better: bool = True
    form: Form = lambda value: number(value, 4)
    """How a value is written."""
    reach: Form = lambda value: number(value, 2)
    """How the length of its bar is written."""
    tick: Form = lambda value: f"{value:.6g}"
    """How it is written on the axis."""


BITS_PER_BYTE = Measure()


@dataclass(frozen=True)
class Curve:
    """One variant over its training."""

    number: int
    name: str
    points: Points
    kind: int
    dash: int
    """Which dash pattern, to tell variants of one colour apart."""


@dataclass(frozen=True)
class _Axes:
    """From values to places."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    logarithmic: bool

    def x(self, value: float) -> float:
        low, high, at = (math.log(v) if self.logarithmic else v for v in (*self.x_range, value))
        return _LEFT + (at - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def draw_dots(
    dots: Sequence[Dot],
    x_name: str,
    form: Form,
    measure: Measure = BITS_PER_BYTE,
    levels: Sequence[Level] = (),
    joined: Sequence[str] = (),
) -> str:
    """Return a measure against a cost, on a logarithmic axis.

    A dashed line joins what nothing beats in both. With the names of the kinds in `joined`, a line joins the dots of
    each instead, and its name stands at its end in place of the dots' numbers.
    """
    reach = [(dot.y - (dot.error or 0), dot.y + (dot.error or 0)) for dot in dots] + [(one.y, one.y) for one in levels]
    xs = [dot.x for dot in dots]
    middle, spread = math.sqrt(min(xs) * max(xs)), max(1.25, 1.12 * math.sqrt(max(xs) / min(xs)))
    axes = _Axes((middle / spread, middle * spread), _padded(min(r[0] for r in reach), max(r[1] for r in reach)), True)
    parts = _frame(axes, x_name, form, measure)
    parts += [_level(axes, level) for level in levels]
    if joined:
        for kind in sorted({dot.kind for dot in dots}):
            way = sorted((dot.x, dot.y) for dot in dots if dot.kind == kind)
            parts.append(f'<path class="line k{kind}" d="{_path(axes, way)}"/>')
            x, y = axes.x(way[-1][0]), axes.y(way[-1][1])
            side = f'x="{x:.1f}" y="{y - 9:.1f}" text-anchor="end"'
            parts.append(f'<text class="name" {side}>{escape(joined[kind])}</text>')
    else:
        sign = 1 if measure.lower_is_better else -1
        best = [(x, sign * y) for x, y in pareto_front([(dot.x, sign * dot.y) for dot in dots])]
        if len(best) > 1:
            parts.append(f'<path class="front" d="{_path(axes, best)}"/>')
    taken: list[tuple[float, float]] = [(axes.x(dot.x), axes.y(dot.y)) for dot in dots]
    for dot in dots:
        x, y = axes.x(dot.x), axes.y(dot.y)
        told = f"{dot.number}. {dot.name}: {measure.form(dot.y)} {measure.name}"
        told += (f" ± {measure.reach(dot.error)}" if dot.error else "") + f", {form(dot.x)}"
        bar = ""
        if dot.error:
            ends = f"M{x:.1f} {axes.y(dot.y - dot.error):.1f}V{axes.y(dot.y + dot.error):.1f}"
            bar = f'<path class="bar k{dot.kind}" d="{ends}"/>'
        parts.append(f"<g><title>{escape(told)}</title>{bar}{_shape(dot.kind, x, y)}</g>")
        if not joined:
            parts.append(_label(dot.number, *_place(x, y, dot.number, taken)))
    return _svg(parts, f"{measure.name.capitalize()} against {x_name}, {len(dots)} points")


def draw_curves(curves: Sequence[Curve], x_name: str, form: Form) -> str:
    """Return bits per byte over training, one line for each variant, its number at its end."""
    late = max(x for curve in curves for x, _ in curve.points)
    # A falling loss would flatten all the rest: what is above the level after a fifth of the way leaves the frame.
    ys = [y for curve in curves for x, y in curve.points if x >= 0.2 * late or len(curve.points) < 5]
    axes = _Axes((0.0, late), _padded(min(ys), max(ys)), False)
    parts = _frame(axes, x_name, form)
    area = f'x="{_LEFT}" y="{_TOP}" width="{_WIDTH - _LEFT - _RIGHT}" height="{_HEIGHT - _TOP - _BOTTOM}"'
    parts.append(f'<clipPath id="inside"><rect {area}/></clipPath><g clip-path="url(#inside)">')
    for curve in curves:
        told = f"{curve.number}. {curve.name}: {number(curve.points[-1][1], 4)} bits per byte at the end"
        parts.append(f'<path class="line k{curve.kind} d{curve.dash}" d="{_path(axes, curve.points)}">')
        parts.append(f"<title>{escape(told)}</title></path>")
    parts.append("</g>")
    ends = sorted((axes.y(curve.points[-1][1]), axes.x(curve.points[-1][0]), curve.number) for curve in curves)
    lowest = -math.inf
    for y, x, name in ends:
        lowest = max(y, lowest + _LINE)
        parts.append(_label(name, x + 4, lowest + 4))
    return _svg(parts, f"Bits per byte over training, {len(curves)} variants")


def pareto_front(points: Points) -> Points:
    """Return the points that none is both left of and below, from left to right."""
    best: Points = []
    for x, y in sorted(points):
        if not best or y < best[-1][1]:
            best.append((x, y))
    return best


def _path(axes: _Axes, points: Points) -> str:
    return "M" + "L".join(f"{axes.x(x):.1f} {axes.y(y):.1f}" for x, y in points)


def _level(axes: _Axes, level: Level) -> str:
    y = axes.y(level.y)
    line = f'<line class="front" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + f'<text class="unit" x="{_LEFT + 6}" y="{y - 4:.1f}">{escape(level.name)}</text>'


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = 0.06 * (high - low) or 0.02 * abs(high) or 1.0
    return low - pad, high + pad


def _frame(axes: _Axes, x_name: str, form: Form, measure: Measure = BITS_PER_BYTE) -> list[str]:
    right, bottom, parts = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, []
    for tick in nice_ticks(*axes.y_range, wanted=7):
        y = axes.y(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{measure.tick(tick)}</text>'
        )
    ticks = log_ticks(*axes.x_range) if axes.logarithmic else nice_ticks(*axes.x_range, 4)
    taken = -math.inf
    for tick in ticks if len(ticks) >= 3 else nice_ticks(*axes.x_range, 6):
        x, half = axes.x(tick), 0.6 * _LETTER * len(form(tick))
        if x - half < taken:  # "4 min 20 s" is wider than the way to the next
            continue
        taken = x + half
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{escape(form(tick))}</text>'
        )
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(f'<text class="unit" x="{right}" y="{_HEIGHT - 6}" text-anchor="end">{escape(x_name)}</text>')
    turned = f'transform="translate(12 {(_TOP + bottom) / 2:.0f}) rotate(-90)" text-anchor="middle"'
    parts.append(f'<text class="unit" {turned}>{escape(measure.name)}</text>')
    return parts


def _shape(kind: int, x: float, y: float) -> str:
    """Draw a disc, square, diamond, or triangle up or down, so that groups differ without colour."""
    corners = {
        1: ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        2: ((0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)),
        3: ((0, -5), (5, 4), (-5, 4)),
        4: ((0, 5), (5, -4), (-5, -4)),
    }.get(kind % 5)
    if corners is None:
        return f'<circle class="dot k{kind}" r="4.4" cx="{x:.1f}" cy="{y:.1f}"/>'
    return f'<path class="dot k{kind}" d="M{"L".join(f"{x + dx:.1f} {y + dy:.1f}" for dx, dy in corners)}Z"/>'


def _place(x: float, y: float, name: int, taken: list[tuple[float, float]]) -> tuple[float, float]:
    """Find room for a number beside its dot: right, left, above, below, then further out."""
    width = _LETTER * len(str(name))
    for step in (1, 2, 3):
        for dx, dy in ((7 * step, 4), (-7 * step - width, 4), (-width / 2, -8 * step), (-width / 2, 8 + 8 * step)):
            centre = (x + dx + width / 2, y + dy - 4)
            is_inside = x + dx >= _LEFT and x + dx + width <= _WIDTH
            if is_inside and all(abs(centre[0] - a) > width / 2 + 6 or abs(centre[1] - b) > 10 for a, b in taken):
                taken.append(centre)
                return x + dx, y + dy
    return x + 7, y + 4


def _label(name: int, x: float, y: float) -> str:
    return f'<text class="name" x="{x:.1f}" y="{y:.1f}">{name}</text>'


def _svg(parts: Sequence[str], label: str) -> str:
    inside = "".join(parts)
    return f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{inside}</svg>'
