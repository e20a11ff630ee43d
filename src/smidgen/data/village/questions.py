"""Questions about a tale, with the one answer the text gives.

Answers come from the log and the final state, never from the sentences; a question is asked only when the log makes its
answer unique and the text has said what is needed. Every question is about one combination (person and thing, person
and place, thing and place); outside train only those held out for the split are asked.
"""

from collections import Counter
from dataclasses import dataclass
from random import Random

from smidgen.data.village.words import COLOURS, NUMBERS, Word, combination_split
from smidgen.data.village.world import Act, Person, Thing, World


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its exact answer."""

    kind: str
    """As `who_has`, `where_person`, `why_go`, `how_many_left`."""
    question: str
    """The question, in one of a few phrasings."""
    answer: str
    """One to a few words: a name, `the mill`, `the kite`, a number word, yes or no, a reason as the text gives it."""
    about: tuple[str, str]
    """The combination that decides in which split it may be asked."""


# Event kinds told by one verb: past tense, plain form.
DEEDS = {
    "found": ("find", ("find", "find_in")),
    "broke": ("break", ("drop", "knock_over")),
    "made": ("make", ("make", "bake")),
    "repaired": ("repair", ("repair",)),
    "ate": ("eat", ("eat",)),
    "hid": ("hide", ("hide",)),
    "stole": ("steal", ("steal",)),
    "won": ("win", ("win",)),
    "caught": ("catch", ("catch",)),
    "bought": ("buy", ("buy",)),
    "picked": ("pick", ("pick",)),
}
PASTS = {kind: past for past, (_, kinds) in DEEDS.items() for kind in kinds}
GIVING = ("give", "hand", "give_back", "reward")
COUNTING = {"pick": "pick", "give_some": "give", "spill": "lose", "eat_some": "eat"}
# After one of these the text has said where the thing is or who has it.
LOCATING = frozenset(
    {
        "keep",
        "find",
        "find_in",
        "take",
        "put_down",
        "hide",
        "leave_behind",
        "blow_away",
        "run_off",
        "tell_where",
        "remember",
        "carry",
        "shut_in",
        "notice",
        "give",
        "lend",
        "hand",
        "give_back",
        "reward",
        "trade",
        "buy",
        "steal",
        "make",
        "bake",
        "win",
        "catch",
        "repair",
        "ask_repair",
        "pick",
        "use",
    }
)


def the(word: Word) -> str:
    """Return the noun as an answer gives it: `the kite`, `the mill`, but plain `plums`."""
    return word.text if word.group == "many" else f"the {word.text}"


def ask(world: World, adjectives_said: set[Thing], rng: Random) -> list[Question]:
    """Return every question the tale answers and its split may ask, in a random order."""
    found = [
        *_deeds(world),
        *_giving(world),
        *_going(world),
        *_reasons(world),
        *_final(world, rng),
        *_numbers(world),
        *_looks(world, adjectives_said),
    ]
    questions = []
    for kind, phrasings, answer, first, second in found:
        if world.split == "train" or combination_split(first, second) == world.split:
            phrasing = phrasings[int(rng.random() * len(phrasings))]
            questions.append(Question(kind, phrasing, answer, (first.text, second.text)))
    rng.shuffle(questions)
    return questions


def _deeds(world: World):
    acts = [e for e in world.log if e.kind in PASTS and e.x]
    by_thing = Counter((PASTS[e.kind], e.x) for e in acts)
    by_person = Counter((PASTS[e.kind], e.a) for e in acts)
    for e in acts:
        assert e.x is not None
        assert e.place is not None
        past, x, a = PASTS[e.kind], e.x.word, e.a
        plain = DEEDS[past][0]
        if by_thing[past, e.x] == 1:
            yield f"who_{plain}", (f"Who {past} {the_(x)}?",), a.name, a.word, x
        if by_person[past, a] == 1:
            yield f"what_{plain}", (f"What did {a.name} {plain}?",), the(x), a.word, x
        if by_thing[past, e.x] == 1 and e.told and e.kind not in ("steal", "knock_over"):
            yield f"where_{plain}", (f"Where did {a.name} {plain} {the_(x)}?",), the(e.place), x, e.place
        if e.kind == "buy" and e.b:
            yield "who_sold", (f"Who did {a.name} buy {the_(x)} from?",), e.b.name, e.b.word, x
            yield "how_many_pennies", (f"How many pennies did {a.name} pay for {the_(x)}?",), NUMBERS[e.n], a.word, x
        if e.kind == "hide":
            yield "what_in", (f"What did {a.name} hide {the_(x)} in?",), f"a {e.d}", a.word, x


def the_(word: Word) -> str:
    """Return the noun as a question names it, always with its article."""
    return f"the {word.text}"


def _giving(world: World):
    acts = [e for e in world.log if e.kind in GIVING and e.b and e.x]
    to_whom = Counter((e.a, e.x) for e in acts)
    from_whom = Counter((e.b, e.x) for e in acts)
    between = Counter((e.a, e.b) for e in acts)
    for e in acts:
        assert e.b is not None
        assert e.x is not None
        x, a, b = e.x.word, e.a, e.b
        if to_whom[a, e.x] == 1:
            yield (
                "who_to",
                (f"Who did {a.name} give {the_(x)} to?", f"To whom did {a.name} give {the_(x)}?"),
                b.name,
                (b.word),
                x,
            )
        if from_whom[b, e.x] == 1:
            yield "who_give", (f"Who gave {the_(x)} to {b.name}?", f"Who gave {b.name} {the_(x)}?"), a.name, a.word, x
        if between[a, b] == 1:
            yield "what_give", (f"What did {a.name} give to {b.name}?",), the(x), b.word, x
    for e in world.log:
        if e.kind == "lend" and e.b and e.x:
            x = e.x.word
            yield "who_lend", (f"Who lent {the_(x)} to {e.b.name}?",), e.a.name, e.a.word, x
            yield "what_lend", (f"What did {e.a.name} lend to {e.b.name}?",), the(x), e.b.word, x


def _going(world: World):
    first = world.log[0]
    assert first.place is not None
    a, place = first.a, first.place
    phrasings = (f"Where was {a.name} at first?", f"Where was {a.name} at the beginning?")
    yield "where_first", phrasings, the(place), a.word, place
    trips = [e for e in world.log if e.kind in ("go", "shelter") and e.l]
    goals = Counter((e.a, e.l) for e in trips)
    reasons = Counter((e.a, e.r) for e in trips)
    for e in trips:
        assert e.l is not None
        if e.r and goals[e.a, e.l] == 1 and not (e.a is a and e.l is place):
            yield "why_go", (f"Why did {e.a.name} go to {the(e.l)}?",), e.r, e.a.word, e.l
        if e.r and reasons[e.a, e.r] == 1:
            yield "where_go", (f"Where did {e.a.name} go {e.r}?",), the(e.l), e.a.word, e.l
    for e in world.log:
        if e.kind == "blow_away" and e.x and e.l:
            yield "where_blow", (f"Where did the wind carry {the_(e.x.word)}?",), the(e.l), e.x.word, e.l
        if e.kind == "run_off" and e.x and e.l:
            yield "where_run", (f"Where did {the_(e.x.word)} run off to?",), the(e.l), e.x.word, e.l


_FEELINGS = {"sad": "sad", "angry": "angry", "glad": "happy"}


def _reasons(world: World):
    feelings = Counter((e.a, e.kind) for e in world.log if e.kind in _FEELINGS)
    for e in world.log:
        if e.kind == "want" and e.x:
            yield "why_want", (f"Why did {e.a.name} want {the_(e.x.word)}?",), e.r, e.a.word, e.x.word
            yield "what_want", (f"What did {e.a.name} want?",), the(e.x.word), e.a.word, e.x.word
        elif e.kind in _FEELINGS and feelings[e.a, e.kind] == 1:
            thing = next((t for t in world.things if t.noun in e.r.split()), None)
            if thing:
                yield "why_feel", (f"Why was {e.a.name} {_FEELINGS[e.kind]}?",), e.r, e.a.word, thing.word


def _final(world: World, rng: Random):
    people = [p for p in world.people if p.placed]
    for person in people:
        name = person.name
        phrasings = (f"Where is {name}?", f"Where is {name} now?", f"Where is {name} at the end?")
        yield "where_person", phrasings, the(person.place), person.word, person.place
    located = {e.x for e in world.log if e.kind in LOCATING} | {e.y for e in world.log if e.kind == "trade"}
    for thing in world.things:
        if thing not in located or thing.gone or thing.word.group == "many":
            continue
        x, holder = thing.word, thing.holder
        if thing.place and (holder is None or holder.placed):
            phrasings = (f"Where is {the_(x)}?", f"Where is {the_(x)} now?", f"Where is {the_(x)} at the end?")
            yield "where_thing", phrasings, the(thing.place), x, thing.place
        if holder:
            if sum(t.holder is holder for t in world.things) == 1:
                yield (
                    "what_has",
                    (f"What does {holder.name} have?", f"What does {holder.name} have now?"),
                    the(x),
                    (holder.word),
                    x,
                )
            yield "who_has", (f"Who has {the_(x)}?", f"Who has {the_(x)} now?"), holder.name, holder.word, x
            if rng.random() < 0.3:
                person: Person = rng.choice(people) if rng.random() < 0.5 and people else holder
                answer = "yes" if person is holder else "no"
                yield "yes_no", (f"Does {person.name} have {the_(x)}?",), answer, person.word, x


def _numbers(world: World):
    last: dict[Thing, Act] = {}
    for e in world.log:
        if e.kind in COUNTING and e.x:
            x = e.x.word
            to = f" to {e.b.name}" if e.kind == "give_some" and e.b else ""
            phrasing = f"How many {x.text} did {e.a.name} {COUNTING[e.kind]}{to}?"
            yield f"how_many_{COUNTING[e.kind]}", (phrasing,), NUMBERS[e.n], e.a.word, x
            last[e.x] = e
    for thing, e in last.items():
        x, name = thing.word, e.a.name
        if e.kind != "pick" or len(last) == 1:
            phrasings = (f"How many {x.text} does {name} have now?", f"How many {x.text} does {name} have left?")
            yield "how_many_left", phrasings, NUMBERS[e.left], e.a.word, x


def _looks(world: World, adjectives_said: set[Thing]):
    coloured = [t for t in adjectives_said if t.adjective in COLOURS]
    for thing in world.things if len(coloured) > 1 else ():
        if thing in adjectives_said and thing.adjective in COLOURS and thing.word.group != "many":
            person = next((e.a for e in world.log if e.x is thing or e.y is thing), None)
            if person:
                yield "what_color", (f"What color is {the_(thing.word)}?",), thing.adjective, person.word, thing.word
