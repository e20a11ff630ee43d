"""Numbers as people read them: a few digits, a unit, never an exponent where a word will do."""

import math


def number(value: float, digits: int = 3) -> str:
    """Return a number with that many significant digits and thousands separated."""
    if not math.isfinite(value):
        return "not finite"
    if value == 0:
        return "0"
    value = float(f"{value:.{digits - 1}e}")  # rounded before its places are counted: 0.9996 is 1.00
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(0, places)}f}" if places <= 6 else f"{value:.{digits}g}"


def count(value: float) -> str:
    """Return a count: 950, 12.3 k, 10.2 M, 1.1 G."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * scale and (unit != "k" or abs(value) >= 9999.5):
            return f"{number(value / scale)} {unit}"
    return f"{value:,.0f}"


def size(value: float) -> str:
    """Return a number of bytes in decimal units, as disks and downloads are sold."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= 0.9995 * scale:
            return f"{number(value / scale)} {unit}"
    return f"{value:,.0f} bytes"


def duration(seconds: float) -> str:
    """Return a time: 48 s, 10 min 5 s, 3 h 20 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return (f"{minutes} min {rest} s" if rest else f"{minutes} min") if minutes else f"{rest} s"


def share(value: float) -> str:
    """Return a share in per cent."""
    return f"{100 * value:.1f}%" if abs(value) < 0.9995 else f"{100 * value:.0f}%"
