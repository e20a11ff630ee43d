"""Pictures of a corpus on its way through a pipeline, as SVG text: what flows on, what leaves, how long documents are.

Numbers stand beside what is drawn, so nothing is told by colour or width alone. Colours come from the page's style.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from smidgen.reports.quantities import size

_WIDTH, _LEFT, _BAND, _OUT = 1000, 196, 330, 590
_ROW = 62
_THICKEST = 44.0


@dataclass(frozen=True)
class Stretch:
    """One step of the way."""

    name: str
    documents: int
    """Documents that go on."""
    bytes: int
    """Their text."""
    lost_bytes: int
    """Text that came and does not go on: of dropped documents, or cut out of others."""
    lost: str
    """What is said of it; nothing was lost if this is empty."""


def draw_flow(stretches: Sequence[Stretch]) -> str:
    """Return a stream from top to bottom, as wide as there is text, and what leaves it to the right at every step."""
    most = max((s.bytes + s.lost_bytes for s in stretches), default=1) or 1
    height = _ROW * len(stretches) + 40
    label = f"Text through {len(stretches)} steps, from {size(most)} to {size(stretches[-1].bytes)}"
    svg = [f'<svg class="flow" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}">']
    for row, stretch in enumerate(stretches):
        svg += _stretch(stretch, row * _ROW + 8, most)
    svg.append("</svg>")
    return "\n".join(svg)


def _stretch(stretch: Stretch, top: float, most: int) -> list[str]:
    came, goes = (_BAND * amount / most for amount in (stretch.bytes + stretch.lost_bytes, stretch.bytes))
    bottom, middle = top + _ROW, top + 0.55 * _ROW
    said = f"{stretch.documents:,} documents, {size(stretch.bytes)}"
    drawn = [
        f'<text class="step" x="{_LEFT - 14}" y="{middle - 4:.0f}" text-anchor="end">{escape(stretch.name)}</text>',
        f'<text x="{_LEFT - 14}" y="{middle + 12:.0f}" text-anchor="end">{said}</text>',
        f'<path class="stream" d="M{_LEFT} {top}H{_LEFT + goes:.1f}V{bottom}H{_LEFT}Z"/>',
    ]
    if not stretch.lost:
        return drawn
    if stretch.lost_bytes:
        thick = min(max(came - goes, 1.0), _THICKEST)
        inner, outer = _LEFT + goes, _LEFT + max(came, goes + 1)
        drawn.append(
            f'<path class="leaving" d="M{inner:.1f} {top}C{inner:.1f} {middle + thick / 2:.1f} '
            f"{inner + 60:.1f} {middle + thick / 2:.1f} {_OUT} {middle + thick / 2:.1f}V{middle - thick / 2:.1f}"
            f'C{outer + 60:.1f} {middle - thick / 2:.1f} {outer:.1f} {middle - thick / 2:.1f} {outer:.1f} {top}Z"/>'
        )
    lines = _wrapped(stretch.lost, 58)
    for number, line in enumerate(lines):
        y = middle + 4 + 15 * (number - (len(lines) - 1) / 2)
        drawn.append(f'<text class="lost" x="{_OUT + 12}" y="{y:.0f}">{escape(line)}</text>')
    return drawn


def _wrapped(text: str, width: int, lines: int = 3) -> list[str]:
    """Break a text at spaces into a few lines, the last of which may be cut short."""
    broken, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            broken.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    broken.append(line)
    return broken if len(broken) <= lines else [*broken[: lines - 1], broken[lines - 1].rstrip(",") + " …"]


def draw_lengths(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """Return two histograms side by side: documents by the power of two below their bytes."""
    bins = sorted({int(bits) for bits in (*before, *after)})
    if not bins:
        return ""
    bins = list(range(bins[0], bins[-1] + 1))
    most = max(max(before.values(), default=1), max(after.values(), default=1))
    width, height, left, base = 480, 240, 10, 200
    step = (width - 2 * left) / len(bins)
    svg = [f'<svg class="flow" viewBox="0 0 {width} {height}" role="img" aria-label="Documents by length">']
    for place, bits in enumerate(bins):
        x = left + place * step
        for kind, counts, offset in (("before", before, 0.08), ("after", after, 0.5)):
            count = counts.get(str(bits), 0)
            tall = (base - 20) * count / most
            title = f"{count:,} documents of {size(1 << bits)} to {size(2 << bits)} {kind} cleaning"
            svg.append(
                f'<rect class="{kind}" x="{x + offset * step:.1f}" y="{base - tall:.1f}" width="{0.4 * step:.1f}" '
                f'height="{tall:.1f}"><title>{title}</title></rect>'
            )
        if place % max(1, len(bins) // 6) == 0:
            svg.append(f'<text x="{x + step / 2:.1f}" y="{base + 16}" text-anchor="middle">{size(1 << bits)}</text>')
    svg.append(f'<path class="axis" d="M{left} {base}H{width - left}"/></svg>')
    return "\n".join(svg)


def draw_bars(amounts: Sequence[tuple[str, int, bool]]) -> str:
    """Return one bar for each (name, documents, kept), the longest first."""
    most = max((count for _, count, _ in amounts), default=1) or 1
    height = 24 * len(amounts) + 8
    svg = [f'<svg class="flow" viewBox="0 0 480 {height}" role="img" aria-label="Documents by kind">']
    for row, (name, count, kept) in enumerate(amounts):
        y = 4 + 24 * row
        wide = max(1.5, 280 * count / most)
        svg += [
            f'<text x="96" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{"after" if kept else "gone"}" x="104" y="{y + 3}" width="{wide:.1f}" height="15" rx="2"/>',
            f'<text x="{110 + wide:.1f}" y="{y + 14}">{count:,}</text>',
        ]
    svg.append("</svg>")
    return "\n".join(svg)
