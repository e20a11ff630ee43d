"""Bare clauses of what happened: who did what to whom, where. Summary, dialogue and translation are built from them."""

from dataclasses import dataclass

from smidgen.data.village.words import NUMBERS, Word
from smidgen.data.village.world import Act, Person, Thing

# Event kind -> past tense and the roles that follow it, in English order. `x` and `y` are objects, `to:b` a person
# reached, `from:b` a person left, `to:l` a goal, `at` the place it happened.
FRAMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "go": ("went", ("to:l",)),
    "shelter": ("ran", ("to:l",)),
    "meet": ("met", ("b",)),
    "guide": ("led", ("b", "to:l")),
    "take": ("took", ("x",)),
    "put_down": ("left", ("x", "at")),
    "leave_behind": ("left", ("x", "at")),
    "hide": ("hid", ("x", "at")),
    "find": ("found", ("x", "at")),
    "find_in": ("found", ("x", "at")),
    "notice": ("saw", ("x", "at")),
    "miss": ("lost", ("x",)),
    "drop": ("broke", ("x",)),
    "knock_over": ("broke", ("x",)),
    "blow_away": ("lost", ("x",)),
    "run_off": ("lost", ("x",)),
    "make": ("made", ("x",)),
    "bake": ("made", ("x",)),
    "repair": ("repaired", ("x",)),
    "give": ("gave", ("x", "to:b")),
    "lend": ("lent", ("x", "to:b")),
    "hand": ("gave", ("x", "to:b")),
    "give_back": ("returned", ("x", "to:b")),
    "reward": ("gave", ("x", "to:b")),
    "give_some": ("gave", ("n:x", "to:b")),
    "buy": ("bought", ("x", "from:b")),
    "steal": ("stole", ("x",)),
    "win": ("won", ("x",)),
    "want": ("wanted", ("x",)),
    "eat": ("ate", ("x",)),
    "catch": ("caught", ("x", "at")),
    "pick": ("picked", ("n:x",)),
    "spill": ("lost", ("n:x",)),
    "thank": ("thanked", ("b",)),
    "forgive": ("forgave", ("b",)),
    "comfort": ("comforted", ("b",)),
    "bandage": ("helped", ("b",)),
    "praise": ("praised", ("b",)),
    "teach": ("taught", ("b",)),
    "challenge": ("challenged", ("b",)),
    "clean": ("cleaned", ("x",)),
    "use": ("used", ("x",)),
}


@dataclass(frozen=True, slots=True)
class Phrase:
    """One argument of a clause."""

    role: str
    """object, to, from, goal or at."""
    word: Word
    """The person, thing or place."""
    adjective: str = ""
    """What the thing is like, if said."""
    number: int = 0
    """How many, for things that come in numbers; 0 if none is said."""


@dataclass(frozen=True, slots=True)
class Clause:
    """Subject, past-tense verb and arguments."""

    subject: Person
    """Who did it."""
    verb: str
    """The verb in the past tense."""
    phrases: tuple[Phrase, ...]
    """The arguments in English order."""
    act: Act
    """The event behind the clause."""


def clause(act: Act, adjective: bool = False) -> Clause | None:
    """Return the clause of an event, or None if it has no simple one (rain, a feeling, a question)."""
    if act.kind not in FRAMES:
        return None
    verb, frame = FRAMES[act.kind]
    phrases: list[Phrase] = []
    for slot in frame:
        if slot in ("x", "n:x"):
            thing: Thing | None = act.x
            assert thing is not None
            told = thing.adjective if adjective else ""
            phrases.append(Phrase("object", thing.word, told, act.n if slot == "n:x" else 0))
        elif slot == "b":
            assert act.b is not None
            phrases.append(Phrase("object", act.b.word))
        elif slot in ("to:b", "from:b"):
            assert act.b is not None
            phrases.append(Phrase(slot[:-2], act.b.word))
        elif slot == "to:l":
            assert act.l is not None
            phrases.append(Phrase("goal", act.l))
        else:
            assert act.place is not None
            phrases.append(Phrase("at", act.place))
    return Clause(act.a, verb, tuple(phrases), act)


def english(said: Clause, subject: str | None = None, me: str = "", you: str = "") -> str:
    """Return the clause in English without a full stop; `me` and `you` are names spoken as such."""
    words = [said.subject.name if subject is None else subject, said.verb]
    for phrase in said.phrases:
        words.append(_phrase(phrase, me, you))
    return " ".join(word for word in words if word)


def _phrase(phrase: Phrase, me: str, you: str) -> str:
    word = phrase.word
    if word.role == "person":
        name = "me" if word.text == me else "you" if word.text == you else word.text
        return name if phrase.role == "object" else f"{phrase.role} {name}"
    if word.role == "place":
        return f"to the {word.text}" if phrase.role == "goal" else f"{word.preposition} the {word.text}"
    start = NUMBERS[phrase.number] if phrase.number else "the"
    return " ".join(part for part in (start, phrase.adjective, word.text) if part)
