"""The people, things and places of the village, and the rule that keeps some combinations for the tests.

Every name, noun and place stands in a word list beside this file. A list is read in blocks of 20, and the position
within the block is the word's *class* (0-19). A combination is held out by the difference of two classes:

    (person, thing)   thing - person  = 0: test    7: validation   anything else: train
    (thing, place)    place - thing   = 0: test    7: validation
    (person, place)   place - person  = 0: test   14: validation

so 5% of each kind of combination belongs to the test, 5% to the validation, and the three rules agree: whoever stands
in class c, things of class c and places of class c form tales made of test combinations alone (c, c+7, c+14 for
validation). A train tale never puts a held-out combination into one text; a validation tale never shows a test
combination and the other way round; validation and test ask only about combinations of their own split. Every word
itself is frequent in train: what is measured is whether reading generalises, not whether a word is known.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

CLASSES = 20
THING_KINDS = ("food", "fragile", "tool", "treasure", "many", "animal")
COLOURS = (
    *("red", "blue", "green", "yellow", "white", "black", "brown"),
    *("grey", "purple", "orange", "pink", "golden", "silver"),
)
NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)

_VALIDATION_SHIFT = 7
_ORDER = {"person": 0, "thing": 1, "place": 2}


@dataclass(frozen=True, slots=True)
class Word:
    """A name, a thing or a place with its class."""

    text: str
    """The word itself."""
    role: str
    """`person`, `thing` or `place`."""
    group: str
    """`woman`/`man`, a thing kind, or `outdoor`/`indoor`."""
    preposition: str
    """For a place: `in`, `at` or `on`."""
    cls: int
    """Position modulo 20, from which held-out combinations follow."""


@dataclass(frozen=True)
class Vocabulary:
    """All words of the world, by role and group."""

    people: dict[str, tuple[Word, ...]]
    """woman, man."""
    things: dict[str, tuple[Word, ...]]
    """By thing kind."""
    places: dict[str, tuple[Word, ...]]
    """outdoor, indoor."""
    by_text: dict[str, Word]
    """Every word by its spelling."""


def sections(name: str) -> dict[str, list[str]]:
    """Read a word or grammar file of this folder: `== title` lines, each followed by its lines; `#` is a comment."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in files("smidgen.data.village").joinpath(name).read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            lines = found.setdefault(line[3:].strip(), [])
        elif line.strip() and not line.startswith("#"):
            lines.append(line.strip())
    return found


@cache
def vocabulary() -> Vocabulary:
    """Read the word lists once."""
    people = {
        group: tuple(Word(text, "person", group, "", i % CLASSES) for i, text in enumerate(" ".join(lines).split()))
        for group, lines in sections("names.txt").items()
    }
    things = {
        group: tuple(Word(text, "thing", group, "", i % CLASSES) for i, text in enumerate(" ".join(lines).split()))
        for group, lines in sections("things.txt").items()
    }
    places = {}
    for group, lines in sections("places.txt").items():
        pairs = [pair.split() for pair in " | ".join(lines).split(" | ")]
        places[group] = tuple(Word(text, "place", group, prep, i % CLASSES) for i, (prep, text) in enumerate(pairs))
    everything = (w for table in (people, things, places) for words in table.values() for w in words)
    return Vocabulary(people, things, places, {w.text: w for w in everything})


def combination_split(first: Word, second: Word) -> Split:
    """Return the only split whose questions are about this pair of words of different roles."""
    if _ORDER[first.role] > _ORDER[second.role]:
        first, second = second, first
    difference = (second.cls - first.cls) % CLASSES
    if difference == 0:
        return "test"
    if difference == (_ORDER[second.role] - _ORDER[first.role]) * _VALIDATION_SHIFT:
        return "validation"
    return "train"


def partner_class(word: Word, role: str, split: Split) -> int:
    """Return the class of `role` whose combinations with `word` are held out for `split` (validation or test)."""
    shift = _VALIDATION_SHIFT if split == "validation" else 0
    return (word.cls + shift * (_ORDER[role] - _ORDER[word.role])) % CLASSES


@cache
def forbidden_classes(word: Word, role: str, split: Split) -> frozenset[int]:
    """Return the classes of `role` that may not stand beside `word` in a tale of `split`."""
    others: tuple[Split, ...] = tuple(s for s in ("validation", "test") if s != split)
    return frozenset(partner_class(word, role, other) for other in others)


@cache
def lists(name: str) -> dict[str, list[str]]:
    """Read a file of plain lists, entries separated by `|` or line ends."""
    return {title: [e.strip() for e in " | ".join(lines).split(" | ")] for title, lines in sections(name).items()}
