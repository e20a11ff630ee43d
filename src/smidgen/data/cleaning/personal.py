"""Mask what reaches a person: e-mail, IP and street addresses, phone, card and US social security numbers.

Patterns find candidates; what can be checked is checked (Luhn, address ranges, area codes). Names are not masked: no
pattern knows them. Numbers, dates and versions of ordinary prose stay.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from typing import Literal

import numpy as np

from smidgen.config import Config
from smidgen.data.cleaning.characters import DIGIT, code_points, kinds_of
from smidgen.data.cleaning.step import Kept, Verdict

Kind = Literal["email", "ip", "phone", "card", "ssn", "street"]
_AFTER = r"(?![\w-]|\.\d)"
_PATTERNS: dict[Kind, tuple[re.Pattern[str], ...]] = {
    "email": (
        re.compile(r"[A-Za-z0-9](?<![\w.+-].)[\w.+-]{0,63}@[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}\.)+[A-Za-z]{2,24}\b"),
    ),
    "ip": (
        re.compile(r"\d(?<![\w.:]\d)\d{0,2}(?:\.\d{1,3}){3}(?![\w:]|\.\d)"),
        re.compile(r"[0-9a-fA-F:](?<![\w.:].)[0-9a-fA-F]{0,3}:[0-9a-fA-F]{0,4}:[0-9a-fA-F:]{0,34}(?![\w:])"),
    ),
    "card": (re.compile(r"\d(?<![\w.-]\d)(?:[ -]?\d){12,18}" + _AFTER),),
    "ssn": (re.compile(r"[0-8](?<![\w-]\d)\d\d(?<!000)(?<!666)-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])"),),
    "phone": (
        re.compile(r"\+(?<![\w.-]\+)\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}" + _AFTER),
        re.compile(r"\((?<![\w.-]\()[2-9]\d\d\) ?[2-9]\d\d[ .-]\d{4}" + _AFTER),
        re.compile(r"\d(?<![\w.-]\d)(?:(?<=1)[ .-][2-9]|(?<=[2-9]))\d\d[.-][2-9]\d\d[ .-]\d{4}" + _AFTER),
    ),
    "street": (
        re.compile(
            r"\d(?<![\w.,-]\d)\d{0,4}[A-Za-z]? (?:[A-Z][\w'’.-]* ){1,3}(?:Street|St\.|Avenue|Ave\.?|Road|Rd\.?|"
            r"Boulevard|Blvd\.?|Lane|Ln\.?|Drive|Dr\.|Court|Ct\.|Square|Terrace)(?!\w)"
            r"(?:,? (?:Apt|Suite|Unit|#)\.? ?\w+)?"
            r"(?:, [A-Z][\w'’-]+(?: [A-Z][\w'’-]+)?)?(?:,? [A-Z]{2} \d{5}(?:-\d{4})?)?"
        ),
    ),
}
"""In the order in which they are tried: a card number holds what looks like a phone number. What may stand before the
first character is asked after it: a pattern that begins with a look behind is tried at every place of a text."""
_STREETS = (
    "Street",
    "St.",
    "Ave",
    "Road",
    "Rd",
    "Boulevard",
    "Blvd",
    "Lane",
    "Ln",
    "Drive",
    "Dr.",
    "Court",
    "Ct",
    "Square",
    "Terrace",
)
_DOTTED = re.compile(r"\.\d{1,3}\.\d{1,3}\.\d")
_GROUPED = re.compile(r":[0-9a-fA-F]{0,4}:")
_DIGITS = re.compile(r"\D")
_NUMBER = re.compile(r"\d+")
_BEFORE_YEAR = re.compile(
    r"\b(?:in|of|by|since|until|from|and|to|the|during|after|before|early|late|mid) $", re.IGNORECASE
)
_VERSION = re.compile(r"(?:version|v|release|ver)\.? ?$", re.IGNORECASE)


class PersonalConfig(Config):
    """What is masked, and by what."""

    type: Literal["personal"] = "personal"
    kinds: tuple[Kind, ...] = ("email", "ip", "card", "ssn", "phone", "street")
    """What is looked for. `street` also masks addresses that everybody knows."""
    mask: str = "<{kind}>"
    """What stands in its place; {kind} becomes the kind, in capitals, and every other brace stays."""


class Personal:
    """Masks personal data; drops nothing."""

    name = "personal"

    def __init__(self, config: PersonalConfig) -> None:
        self.config = config
        self._kinds: list[Kind] = [kind for kind in _PATTERNS if kind in config.kinds]

    def __call__(self, text: str) -> Verdict:
        """Return the text with personal data masked, counted by kind."""
        changes: Counter[str] = Counter()
        numbers = _Numbers(text)
        for kind in self._kinds:
            if numbers.may_hold(kind):
                for pattern in _PATTERNS[kind]:
                    text = pattern.sub(self._masker(kind, changes), text)
                if text != numbers.text:
                    numbers = _Numbers(text)
        return Kept(text, dict(changes))

    def _masker(self, kind: Kind, changes: Counter[str]) -> Callable[[re.Match[str]], str]:
        mask, holds = self.config.mask.replace("{kind}", kind.upper()), _CHECKS.get(kind)

        def masked(match: re.Match[str]) -> str:
            if holds and not holds(match):
                return match[0]
            changes[f"personal:{kind}"] += 1
            return mask

        return masked


class _Numbers:
    """Where the digits of a text are: what most patterns cannot match is told from that, quicker than by trying."""

    def __init__(self, text: str) -> None:
        self.text, self._codes = text, code_points(text)
        self._digits = np.flatnonzero(kinds_of(self._codes) & DIGIT)

    def may_hold(self, kind: Kind) -> bool:
        """Return False only if no pattern of this kind can match."""
        if kind == "email":
            return "@" in self.text
        if not len(self._digits):
            return False
        if kind == "ip":
            return bool(_DOTTED.search(self.text) or _GROUPED.search(self.text))
        if kind == "card":
            return self._close(13, 24)
        if kind == "ssn":
            return self._close(9, 10)
        if kind == "phone":
            return "+" in self.text or "(" in self.text or self._close(10, 18)
        return any(word in self.text for word in _STREETS) and self._before_capitals()

    def _close(self, many: int, within: int) -> bool:
        """Return whether so many digits stand so close together."""
        at = self._digits
        return len(at) >= many and bool((at[many - 1 :] - at[: 1 - many] <= within).any())

    def _before_capitals(self) -> bool:
        """Return whether a digit, and perhaps a letter, stands before a space and a capital."""
        padded = np.append(self._codes, np.zeros(3, np.uint32))
        one, two, three = (padded[self._digits + n] for n in (1, 2, 3))
        letter, space = (one | 0x20) - np.uint32(ord("a")) < 26, ord(" ")
        numbered = (one == space) & _is_capital(two)
        return bool((numbered | (letter & (two == space) & _is_capital(three))).any())


def _is_capital(codes: np.ndarray) -> np.ndarray:
    return codes - np.uint32(ord("A")) < 26


def luhn(digits: str) -> bool:
    """Return whether the last digit checks the others. Source: Luhn 1960, US patent 2950048; ISO/IEC 7812-1."""
    doubled = (int(digit) * (1 + n % 2) for n, digit in enumerate(reversed(digits)))
    return sum(value // 10 + value % 10 for value in doubled) % 10 == 0


def _is_card(match: re.Match[str]) -> bool:
    digits = _DIGITS.sub("", match[0])
    # Issuers' numbers begin with 2 to 6 (ISO/IEC 7812); a row of one digit passes Luhn for 0 only.
    return 13 <= len(digits) <= 19 and digits[0] in "23456" and len(set(digits)) > 1 and luhn(digits)


def _is_address(match: re.Match[str]) -> bool:
    if _VERSION.search(match.string, max(0, match.start() - 10), match.start()):
        return False
    try:
        ipaddress.ip_address(match[0])
    except ValueError:
        return False
    return True


def _is_group_address(match: re.Match[str]) -> bool:
    # `a::b` is an address by the letter and code by its looks: a real one has three groups at least, and a digit.
    groups = [group for group in match[0].split(":") if group]
    return len(groups) >= 3 and any(map(str.isdigit, match[0])) and _is_address(match)


def _is_street(match: re.Match[str]) -> bool:
    number = _NUMBER.match(match[0])
    is_year = number is not None and len(number[0]) == 4 and "1500" <= number[0] < "2100"
    return not (is_year and _BEFORE_YEAR.search(match.string, max(0, match.start() - 12), match.start()))


def _is_phone(match: re.Match[str]) -> bool:
    return 7 <= len(_DIGITS.sub("", match[0])) <= 15  # E.164: fifteen digits at most


_CHECKS: dict[Kind, Callable[[re.Match[str]], bool]] = {
    "card": _is_card,
    "ip": lambda match: (_is_group_address if ":" in match[0] else _is_address)(match),
    "phone": _is_phone,
    "street": _is_street,
}
