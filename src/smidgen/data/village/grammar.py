"""A small grammar: sections of productions with `{slots}` and `(inline|choices)`, expanded with a random generator.

A slot that begins with a lower-case letter names another section; one that begins with a capital is a role of the
event being told and is answered by the caller. `.cap` at the end of any slot makes its first letter a capital.
Productions are compiled once into tuples, so that expanding a sentence costs microseconds.
"""

import re
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

from smidgen.data.village.words import lists
from smidgen.errors import DataError

GRAMMAR_FILES = ("events.txt", "phrases.txt", "lexicon.txt", "details.txt", "talk.txt")


class Ref(str):
    """A slot: the name of a section."""

    __slots__ = ()


class Role(str):
    """A slot answered by the caller."""

    __slots__ = ()


Part = str | Ref | Role | tuple[Any, ...]
Production = tuple[Part, ...]


def compile_production(text: str) -> Production:
    """Turn one production into parts: literals, slots, and choices (a tuple of productions)."""
    parts, position = _sequence(text, 0)
    if position != len(text):
        raise DataError(f"village grammar: unbalanced ')' in {text!r}.")
    return parts


def _sequence(text: str, position: int) -> tuple[Production, int]:
    parts: list[Part] = []
    literal = ""
    while position < len(text) and text[position] not in "|)":
        char = text[position]
        if char not in "{(":
            literal += char
            position += 1
            continue
        if literal:
            parts.append(literal)
            literal = ""
        if char == "{":
            end = text.index("}", position)
            name = text[position + 1 : end]
            parts.append(Role(name) if name[0].isupper() else Ref(name))
            position = end + 1
        else:
            options = []
            while text[position] != ")":
                option, position = _sequence(text, position + 1)
                options.append(option)
                if position >= len(text):
                    raise DataError(f"village grammar: missing ')' in {text!r}.")
            parts.append(tuple(options))
            position += 1
    if literal:
        parts.append(literal)
    return tuple(parts), position


@cache
def grammar() -> dict[str, tuple[Production, ...]]:
    """Read and compile every grammar file; a slot that names no section is an error."""
    table: dict[str, tuple[Production, ...]] = {}
    for name in GRAMMAR_FILES:
        for section, entries in lists(name).items():
            title = f"event.{section}" if name == "events.txt" else section
            if title in table:
                raise DataError(f"village grammar: section {title!r} of {name} exists already.")
            compiled = [compile_production(entry) for entry in entries]
            table[title] = tuple(sorted(compiled, key=_richness))
    for title, productions in list(table.items()):
        for reference in _references(productions):
            base = reference.removesuffix(".cap")
            if base not in table:
                raise DataError(f"village grammar: {{{reference}}} in section {title!r} names no section.")
            if base != reference:
                table[reference] = ((Ref(base),),)
    return table


def _richness(parts: tuple[Any, ...]) -> int:
    """Count the slots that draw words; a section lists its plainest production first."""
    return sum(_richness(p) if isinstance(p, tuple) else isinstance(p, Ref) for p in parts)


def _references(parts: tuple) -> set[str]:
    found: set[str] = set()
    for part in parts:
        if isinstance(part, Ref):
            found.add(str(part))
        elif isinstance(part, tuple):
            found |= _references(part)
    return found


def expand(parts: Production, role: Callable[[str], str], rng: Random, out: list[str]) -> None:
    """Append the text of `parts` to `out`, asking `role` for capital slots."""
    random = rng.random
    table = grammar()
    part: Any
    for part in parts:
        kind = part.__class__  # the fastest way to tell the four apart
        if kind is str:
            out.append(part)
        elif kind is Role:
            out.append(role(part))
        elif kind is tuple:
            expand(part[int(random() * len(part))], role, rng, out)
        else:
            options = table[part]
            chosen: Any = options[int(random() * len(options))]
            if part.endswith(".cap"):
                inner: list[str] = []
                expand(chosen, role, rng, inner)
                out.append(capitalize("".join(inner)))
            elif len(chosen) == 1 and chosen[0].__class__ is str:
                out.append(chosen[0])
            else:
                expand(chosen, role, rng, out)


_MEND = re.compile(
    r"(?P<space>  +)|(?P<stray> (?=[.,]))|(?P<comma>,(?=,))|(?P<full>\.(?=\" said))"
    r"|\b(?P<twin>\w+ and )(?=(?P<word>\w+)\b)"
    r"|\b(?P<a>[Aa]) (?=[aeiouAEIOU]|hour|honest)(?!one\b|one-|uni|use|usu|ewe)"
)


def _mended(match: re.Match[str]) -> str:
    if match["a"]:
        return match["a"] + "n "
    if match["twin"]:
        return "" if match["twin"] == f"{match['word']} and " else match["twin"]
    return " " if match["space"] else "" if match["comma"] or match["stray"] else ","


def polish(text: str) -> str:
    """Mend a/an, double spaces and commas, the comma before `said`, and a word joined to itself."""
    return _MEND.sub(_mended, text)


def capitalize(text: str) -> str:
    """Make the first letter a capital, looking past an opening quotation mark."""
    at = 1 if text[:1] == '"' else 0
    return text[:at] + text[at : at + 1].upper() + text[at + 1 :]
