"""JSON extraction: a sentence about a person, and the facts in it as one JSON object of a small schema.

The text is made of templates, so the facts are known; the answer is graded by parsing it, never by its spelling.
"""

import json
import re
from random import Random
from typing import Any

from pydantic import Field

from smidgen.config import Config
from smidgen.data.village.words import lists, vocabulary
from smidgen.tasks.base import Example, Grade, half_credit
from smidgen.tasks.files import Files
from smidgen.tasks.options import full_name, read_options
from smidgen.tasks.question import QuestionTask
from smidgen.tasks.sources import Drawn

SCHEMA: dict[str, type] = {"name": str, "age": int, "job": str, "city": str}
"""The keys an answer has, and the type of each value."""

PARTLY = 0.4
"""Reward of an answer that is not right, were each value of its object; in proportion to those that are."""

_ASKING = (
    "{question}\n\nGive the facts as one JSON object with the keys "
    '"name" (text), "age" (number), "job" (text) and "city" (text). Answer with the JSON alone.'
)
_TEMPLATES = (
    "{name} is a {age}-year-old {job} who lives in {city}.",
    "Meet {name}, {age}, a {job} from {city}.",
    "In {city} lives {name}. At the age of {age}, {name} works as a {job}.",
    "The {job} {name} turned {age} this spring. {city} has been home ever since childhood.",
    "{name} moved to {city} to work as a {job} and is now {age} years old.",
    "At {age}, {name} is the best-known {job} in {city}.",
    '"I am {age} and I have always wanted to be a {job}," said {name} when we met in {city}.',
    "{city}, Tuesday. {name}, a {job}, celebrated a birthday and is now {age}.",
)
_CITIES = (
    *("Lisbon", "Oslo", "Cairo", "Lima", "Boston", "Dublin", "Kyoto", "Prague", "Delhi", "Quito"),
    *("Athens", "Geneva", "Nairobi", "Toronto", "Havana", "Warsaw", "Seville", "Perth", "Tunis", "Vienna"),
)
_FIRST_BRACE = re.compile(r"\{")
_LONGEST = 4000


class ExtractionConfig(Config):
    """How much is asked."""

    n: int = Field(default=1000, ge=1)
    """Questions of the test set."""


def make_extraction(options: str, files: Files) -> QuestionTask:
    """Make the task."""
    config = read_options("json", options, ExtractionConfig)
    name = full_name("json", options)
    return QuestionTask(name, _ASKING, Drawn(name, _draw, config.n), grade, reward)


def grade(example: Example, answer: str) -> Grade:
    """Grade the object; leniently it may stand within other text, and a value may differ in case or be quoted."""
    facts = example.extra["facts"]
    whole = _parse(answer)
    formatted = whole is not None and _fits_schema(whole)
    return Grade(
        strict=float(formatted and whole == facts),
        lenient=float(_share_right(find_object(answer), facts) == 1),
        formatted=formatted,
    )


def reward(example: Example, answer: str, grade: Grade) -> float:
    """Return half the lenient or all of the strict score; of another object, two fifths of the share of values."""
    return max(half_credit(grade), PARTLY * _share_right(find_object(answer), example.extra["facts"]))


def find_object(text: str) -> dict[str, Any] | None:
    """Find the first JSON object in a text, in a code fence or in prose; None if there is none."""
    decoder = json.JSONDecoder()
    for brace in _FIRST_BRACE.finditer(text[:_LONGEST]):
        try:
            found, _ = decoder.raw_decode(text[:_LONGEST], brace.start())
        except (ValueError, RecursionError):
            continue
        return found
    return None


def _parse(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text[: _LONGEST + 1]) if len(text) <= _LONGEST else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _fits_schema(found: dict[str, Any]) -> bool:
    return found.keys() == SCHEMA.keys() and all(type(found[key]) is kind for key, kind in SCHEMA.items())


def _share_right(found: dict[str, Any] | None, facts: dict[str, Any]) -> float:
    """Return the share of values that are right but for case and quotes; keys that are not asked for spoil it all."""
    if found is None or not found.keys() <= facts.keys():
        return 0.0
    return sum(_plain(found[key]) == _plain(value) for key, value in facts.items() if key in found) / len(facts)


def _plain(value: object) -> str:
    return str(value).strip().lower() if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _draw(rng: Random) -> Example:
    people = vocabulary().people
    facts = {
        "name": rng.choice([word.text for words in people.values() for word in words]),
        "age": rng.randint(18, 79),
        "job": rng.choice(lists("cast.txt")["job"]),
        "city": rng.choice(_CITIES),
    }
    said = {key: str(value) for key, value in facts.items()}
    text = re.sub(r"\{(\w+)\}", lambda slot: said[slot[1]], rng.choice(_TEMPLATES))
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    text = re.sub(r"\b([Aa]) (?=(8[0-9]?|18|11)\b)", r"\1n ", text)
    return Example(
        id="",
        question=text,
        answer=json.dumps(facts),
        kind="person",
        extra={"facts": facts, "key": json.dumps(facts)},
    )
