"""A plan as text for a terminal: what was decided and why, then what to expect."""

import textwrap

from smidgen.planning.dials import Plan
from smidgen.planning.units import format_bytes, format_count, format_time

_IN = "    "


def render_plan(plan: Plan, width: int = 120) -> str:
    """Return the plan: key and value, the reason below them, then the outlook and the warnings."""
    keys = max(len(d.key) for d in plan.decisions) + 2
    lines = []
    for decision in plan.decisions:
        lines.append(f"{decision.key:<{keys}}{_shown(decision.value)}")
        lines += textwrap.wrap(f"{decision.rule} [{decision.source}]", width, initial_indent=_IN, subsequent_indent=_IN)
    closing = [_outlook(plan), *(f"! {warning}" for warning in plan.warnings)]
    return "\n".join([*lines, "", *(line for text in closing for line in textwrap.wrap(text, width))])


def _outlook(plan: Plan) -> str:
    expected = plan.expected
    return (
        f"Expected: {expected.bits_per_byte:.2f} ± {expected.bits_per_byte_error:.2f} bits per byte after "
        f"{format_time(expected.seconds)}, {format_count(expected.tokens)} symbols "
        f"({expected.epochs:.2f} times the text), {format_bytes(expected.memory_bytes)} of memory; "
        f"file {format_bytes(expected.file_bytes)} in bf16, {format_bytes(expected.file_bytes_int8)} in int8."
    )


def _shown(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
