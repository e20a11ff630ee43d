"""Line plots as SVG text: axes with units, nice ticks, colours from the page's style sheet.

Nothing is drawn that the data does not hold: gaps stay gaps, and what lies beyond the frame is told in words.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise
from typing import Literal

from smidgen.reports.quantities import number
from smidgen.reports.records import Points

_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 16, 40
_MOST_POINTS = 400
"""Points of a drawn line: about one per pixel of the plot; a longer log is averaged in bins."""


@dataclass(frozen=True)
class Series:
    """One line or one set of dots; `role` is its colour in the style sheet."""

    name: str
    points: Points
    role: Literal["train", "validation", "plain"]
    dots: bool = False
    smooth: bool = True
    """Draw the running mean over a faint line of what was logged; False for what is exact."""


@dataclass(frozen=True)
class Mark:
    """A horizontal reference line, such as what the plan expected."""

    name: str
    value: float


@dataclass(frozen=True)
class Plot:
    """Series over training steps, on one pair of axes."""

    title: str
    unit: str
    series: Sequence[Series]
    marks: Sequence[Mark] = ()
    logarithmic: bool = False
    from_zero: bool = False
    skip_start: bool = False
    """Let the first steps leave the frame, where a falling loss would flatten all the rest."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(_drawable(point, self) for series in self.series for point in series.points)


@dataclass(frozen=True)
class _Frame:
    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    logarithmic: bool

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = map(self._scale, self.y_range)
        return self.height - _BOTTOM - (self._scale(value) - low) / (high - low) * (self.height - _TOP - _BOTTOM)

    def _scale(self, value: float) -> float:
        return math.log10(max(value, 1e-30)) if self.logarithmic else value

    def holds(self, value: float) -> bool:
        return self.y_range[0] <= value <= self.y_range[1]


def draw_plot(plot: Plot, width: int = 480, height: int = 250) -> str:
    """Return the plot as an SVG element that scales with the page and carries its values for the hover script."""
    series = [replace(one, points=[p for p in one.points if _drawable(p, plot)]) for one in plot.series]
    frame = _frame(plot, series, width, height)
    parts = [*_axes(frame, plot), *_marks(frame, plot)]
    for one in series:
        parts += _dots(frame, one) if one.dots else _line(frame, one)
    parts += _beyond(frame, series)
    values = json.dumps(_hover_values(frame, series), separators=(",", ":"))
    label = f"{plot.title}, {plot.unit}, over training steps"
    area = f'data-frame="{_LEFT},{_TOP},{width - _RIGHT},{height - _BOTTOM}"'
    return (
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}" {area} '
        f'data-values="{escape(values)}">{"".join(parts)}</svg>'
    )


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round numbers inside a range, about as many as wanted."""
    rough = (high - low) / max(1, wanted)
    if not rough > 0:
        return [low]
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _drawable(point: tuple[float, float], plot: Plot) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1]) and (point[1] > 0 or not plot.logarithmic)


def _frame(plot: Plot, series: Sequence[Series], width: int, height: int) -> _Frame:
    xs = [x for one in series for x, _ in one.points] or [0.0]
    start = min(xs) + 0.07 * (max(xs) - min(xs)) if plot.skip_start and len(xs) >= 40 else -math.inf
    ys = [y for one in series for x, y in one.points if x >= start] or [y for s in series for _, y in s.points] or [0.0]
    low, high = min([*ys, *(m.value for m in plot.marks)]), max([*ys, *(m.value for m in plot.marks)])
    if plot.from_zero:
        low = min(0.0, low)
    if plot.logarithmic:
        low, high = low / 1.15, high * 1.15
    else:
        pad = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
        low, high = (low if plot.from_zero and low == 0 else low - pad), high + pad
    x_low = 0.0 if min(xs) >= 0 else min(xs)
    return _Frame(width, height, (x_low, max(max(xs), x_low + 1)), (low, high), plot.logarithmic)


def _axes(frame: _Frame, plot: Plot) -> list[str]:
    right, bottom, parts = frame.width - _RIGHT, frame.height - _BOTTOM, []
    for tick, name in _named(log_ticks(*frame.y_range) if frame.logarithmic else nice_ticks(*frame.y_range)):
        y = frame.y(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{name}</text>')
    steps = [tick for tick in nice_ticks(*frame.x_range, wanted=6 if frame.width > 600 else 4) if tick == round(tick)]
    for tick, name in _named(steps):
        x = frame.x(tick)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{name}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    middle = (_TOP + bottom) / 2
    parts.append(f'<text class="unit" x="{right}" y="{frame.height - 6}" text-anchor="end">step</text>')
    turned = f'transform="translate(12 {middle:.0f}) rotate(-90)" text-anchor="middle"'
    parts.append(f'<text class="unit" {turned}>{escape(plot.unit)}</text>')
    return parts


def _marks(frame: _Frame, plot: Plot) -> list[str]:
    parts = []
    for mark in plot.marks:
        y, right = frame.y(mark.value), frame.width - _RIGHT
        parts.append(f'<line class="mark" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        text = f"{escape(mark.name)} {number(mark.value)}"
        parts.append(f'<text class="mark-name" x="{_LEFT + 6}" y="{y - 5:.1f}">{text}</text>')
    return parts


def _line(frame: _Frame, series: Series) -> list[str]:
    points = thin_points(series.points)
    if len(points) == 1:
        return _dots(frame, series)
    if len(points) < 40 or not series.smooth:
        return [_path(frame, points, f"line {series.role}")]
    faint = _path(frame, points, f"line faint {series.role}")
    return [faint, _path(frame, smooth_points(points), f"line {series.role}")]


def _path(frame: _Frame, points: Points, role: str) -> str:
    """Draw a line cut at the upper and lower edge of the frame."""
    pieces, pen_down = [], False
    for before, after in pairwise(points):
        clipped = _clip(frame, before, after)
        if clipped is None:
            pen_down = False
            continue
        (x0, y0), (x1, y1) = clipped
        if not pen_down or (x0, y0) != before:
            pieces.append(f"M{frame.x(x0):.1f} {frame.y(y0):.1f}")
        pieces.append(f"L{frame.x(x1):.1f} {frame.y(y1):.1f}")
        pen_down = (x1, y1) == after
    return f'<path class="{role}" d="{"".join(pieces)}"/>'


def _clip(
    frame: _Frame, a: tuple[float, float], b: tuple[float, float]
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    low, high = frame.y_range
    if (a[1] > high and b[1] > high) or (a[1] < low and b[1] < low):
        return None

    def inside(point: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
        edge = min(max(point[1], low), high)
        if edge == point[1]:
            return point
        return point[0] + (edge - point[1]) / (other[1] - point[1]) * (other[0] - point[0]), edge

    return inside(a, b), inside(b, a)


def _dots(frame: _Frame, series: Series) -> list[str]:
    parts = [_path(frame, series.points, f"line thin {series.role}")] if len(series.points) > 1 else []
    inside = [(x, y) for x, y in series.points if frame.holds(y)]
    circle = f'<circle class="dot {series.role}" r="3.2" '
    return parts + [f'{circle}cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}"/>' for x, y in inside]


def _beyond(frame: _Frame, series: Sequence[Series]) -> list[str]:
    above = [(x, y) for one in series for x, y in one.points if y > frame.y_range[1]]
    if not above:
        return []
    x = frame.x(max(x for x, _ in above)) + 14
    highest = number(max(y for _, y in above))
    return [f'<text class="beyond" x="{x:.1f}" y="{_TOP + 8}">↑ up to {highest}, beyond the frame</text>']


def thin_points(points: Points, most: int = _MOST_POINTS) -> Points:
    """Average a long line in bins of equal numbers of points."""
    if len(points) <= most:
        return points
    edges = [round(i * len(points) / most) for i in range(most + 1)]
    bins = [points[a:b] for a, b in pairwise(edges)]
    return [(sum(x for x, _ in b) / len(b), sum(y for _, y in b) / len(b)) for b in bins]


def smooth_points(points: Points) -> Points:
    """Average each point with its neighbours, 3% of the line but at least 7.

    Fewer at the start, where a loss falls steeply and a lopsided mean would lie beside it; at the end, what is there.
    """
    reach = max(3, round(0.015 * len(points)))
    smooth = []
    for i, (x, _) in enumerate(points):
        near = min(reach, i)
        window = points[i - near : i + near + 1]
        smooth.append((x, sum(y for _, y in window) / len(window)))
    return smooth


def _hover_values(frame: _Frame, series: Sequence[Series]) -> list[dict[str, object]]:
    told = []
    for one in series:
        points = one.points if one.dots else thin_points(one.points, 200)
        places = [(round(frame.x(x), 1), round(frame.y(y), 1), f"{x:,.0f}", number(y, 4)) for x, y in points]
        told.append({"name": one.name, "role": one.role, "points": places})
    return told


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers of a logarithmic axis: powers of ten, and as many between as make three at least."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    choices: tuple[tuple[float, ...], ...] = ((1,), (1, 3), (1, 2, 5))
    options = [[m * 10.0**e for e in exponents for m in c if low <= m * 10.0**e <= high] for c in choices]
    return next((ticks for ticks in options if len(ticks) >= 3), nice_ticks(low, high, 4))


def _named(ticks: Sequence[float]) -> list[tuple[float, str]]:
    """Name ticks alike: all of an axis in thousands, or none."""
    scale, suffix = (1000, "k") if max(map(abs, ticks), default=0) >= 10_000 else (1, "")
    return [(tick, f"{tick / scale:,.6g}{suffix if tick else ''}") for tick in ticks]
