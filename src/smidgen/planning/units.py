"""Sizes and times as people type them, both ways."""

import re
from dataclasses import dataclass

from smidgen.errors import BudgetError

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?b|b|k|m|)\s*", re.IGNORECASE)
_TIME = re.compile(
    r"\s*(?:(\d+(?:\.\d+)?)\s*d)?\s*(?:(\d+(?:\.\d+)?)\s*h)?\s*(?:(\d+(?:\.\d+)?)\s*m(?:in)?)?\s*(?:(\d+(?:\.\d+)?)\s*s)?\s*"
)
_COUNTS = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}
_BYTES = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SECONDS = (86_400, 3_600, 60, 1)


@dataclass(frozen=True)
class Size:
    """What `--size` asked for: parameters, or bytes of the shipped file."""

    amount: int
    """How many."""
    in_bytes: bool = False
    """Whether the amount is bytes."""
    preset: str | None = None
    """The named model it is the size of, where one was asked for."""

    def __str__(self) -> str:
        return self.preset or (format_bytes(self.amount) if self.in_bytes else format_count(self.amount))


def parse_size(text: str) -> Size:
    """Read "10M", "300k" or "1.1B" as parameters, "8MB" or "512KiB" as bytes. Raises BudgetError."""
    found = _SIZE.fullmatch(text)
    unit = found[2].lower() if found else ""
    if found is None or float(found[1]) <= 0:
        raise BudgetError(f"--size {text!r} is not a size. Write parameters (300k, 10M, 1.1B) or bytes (8MB).")
    in_bytes = unit in _BYTES
    scale = _BYTES[unit] if in_bytes else _COUNTS[unit]
    return Size(round(float(found[1]) * scale), in_bytes)


def parse_memory(text: str) -> int:
    """Read "4GB" or "512MiB" as bytes. Raises BudgetError."""
    found = _SIZE.fullmatch(text)
    if found is None or found[2].lower() not in _BYTES or float(found[1]) <= 0:
        raise BudgetError(f"--memory {text!r} is not an amount of memory. Write bytes, such as 4GB or 512MiB.")
    return round(float(found[1]) * _BYTES[found[2].lower()])


def parse_time(text: str) -> float:
    """Read "90s", "10m", "1h30m" or "1d" as seconds. Raises BudgetError."""
    found = _TIME.fullmatch(text)
    amounts = found.groups() if found else ()
    seconds = sum(float(amount) * unit for amount, unit in zip(amounts, _SECONDS, strict=False) if amount)
    if seconds <= 0:
        raise BudgetError(f"--time {text!r} is not a time. Write 90s, 10m or 1h30m.")
    return seconds


def format_count(number: float) -> str:
    """Write a count in at most three digits: 300k, 9.97M, 1.1B; what `parse_size` reads."""
    for scale, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * scale:
            return f"{number / scale:.3g}{unit}"
    return f"{number:.0f}"


def format_bytes(number: float) -> str:
    """Write bytes in at most three digits: 620KB, 8MB, 1.31GB; what `parse_size` reads."""
    for scale, unit in ((1e9, "GB"), (1e6, "MB")):
        if number >= 0.9995 * scale:
            return f"{number / scale:.3g}{unit}"
    return f"{number / 1e3:.3g}KB"


def format_time(seconds: float) -> str:
    """Write a time in at most two units: 45s, 10m, 1h30m, 2d4h; what `parse_time` reads."""
    left = max(1, round(seconds))
    for (large, big), (small, little) in (
        (("d", 86_400), ("h", 3_600)),
        (("h", 3_600), ("m", 60)),
        (("m", 60), ("s", 1)),
    ):
        if left >= big:
            whole, rest = divmod(round(left / little) * little, big)
            return f"{whole}{large}" + (f"{rest // little}{small}" if rest else "")
    return f"{left}s"
