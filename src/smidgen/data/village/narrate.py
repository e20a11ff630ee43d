"""Tell the log of a world in English: one sentence an event, with pronouns, connectives, joins and details.

References follow what has been said: a thing is first "Mira's red kite" (or "a red kite"), then "the kite"; a person is
first named with a job or a kinship, later by name, and by pronoun only when no other person of that sex is near.
"""

from random import Random

from smidgen.data.village.grammar import Production, Role, capitalize, expand, grammar, polish
from smidgen.data.village.words import NUMBERS
from smidgen.data.village.world import Act, Person, Thing, World

_REASONED = {"go": "go.why"}
_MOVES = ("go", "shelter", "follow", "guide")
# Sentences that fix where or why something happened must not hang on a sentence about something else.
_NEVER_JOINED = ("start", "be_at", "keep", "come_along", "meet", "miss", "carry")
# What is so rather than what happens next: no `after that` before it.
_STATES = frozenset(
    (
        "start",
        "be_at",
        "keep",
        "come_along",
        "meet",
        "come_along",
        "carry",
        "shut_in",
        "miss",
        "want",
        "hungry",
        "tell_where",
        "not_know",
    )
)
_CLOSING = ('"', ", and ", ", but ", " because ", ". ", " so ", "!", "?")


class Teller:
    """Turns acts into sentences, remembering what has been mentioned."""

    def __init__(self, rng: Random, world: World, detail: float, rich: bool = False) -> None:
        self.rng = rng
        self.world = world
        self.detail = detail
        self.rich = rich  # prefer the more colourful ways of telling, and describe places; else prefer the plain ones
        self.said_people: set[Person] = {world.people[0]}
        self.said_things: set[Thing] = set()
        self.said_adjectives: set[Thing] = set()
        self.subject: Person | None = None
        self.last_people: tuple[Person, ...] = ()
        self.act: Act = world.log[0]
        self.named: set[Person] = set()
        self.open_end = False  # may the sentence be continued with `and` and a verb of the same subject?
        self.quoted = False  # the sentence begins with direct speech

    def text(self) -> str:
        """Tell the whole log."""
        sentences: list[str] = []
        described = False  # a detail stands between this sentence and the last event
        for index, act in enumerate(self.world.log):
            open_end = index > 1 and not described and self.open_end
            sentence, joined = self._sentence(act, open_end)
            if joined:
                sentences[-1] = f"{sentences[-1][:-1]}{self._draw(JOINS)}{sentence}"
            else:
                sentences.append(sentence)
            described = self.rng.random() < self.detail
            if described:
                sentences.append(self._detail(act))
        return " ".join(sentences)

    def _draw(self, options):
        return options[int(self.rng.random() * len(options))]

    def _sentence(self, act: Act, open_end: bool) -> tuple[str, bool]:
        previous, self.act, self.named = self.act, act, set()
        kind = _REASONED.get(act.kind, act.kind) if act.r else act.kind
        options = grammar()[f"event.{kind}"]
        random = self.rng.random()
        production: Production = options[int((random**0.5 if self.rich else random**2) * len(options))]
        joined = open_end and self._may_join(act, previous, production)
        self.quoted = production[0][:1] == '"'
        out: list[str] = []
        link = ""
        if joined:
            self.named.add(act.a)
            production = (str(production[1]).lstrip(), *production[2:])
        elif act.kind not in _STATES:
            link = self._link(act, production)
        expand(production, self.role, self.rng, out)
        text = "".join(out)
        self.open_end = (joined or production[0] in ("A", "lead")) and not any(m in text for m in _CLOSING)
        if not joined:
            text = capitalize(link + text)
        if text[-1] not in '.!?"':
            text += "."
        self.subject = act.a
        self.last_people = tuple(self.named)
        return polish(text), joined

    def _may_join(self, act: Act, previous: Act, production: Production) -> bool:
        return (
            act.a is previous.a
            and act.kind not in _NEVER_JOINED
            and previous.kind not in _NEVER_JOINED
            and not act.link
            and production[0] == "A"
            and production[0].__class__ is Role
            and production[1].__class__ is str
            and self.rng.random() < (0.25 if self.rich else 0.12)
            and not any(isinstance(p, str) and ('"' in p or ". " in p) for p in production)
        )

    def _link(self, act: Act, production: Production) -> str:
        if production[0][:1] == '"' or production[0] in ("R.cap", "X.the.cap", "lead"):
            return ""
        random = self.rng.random()
        section = (
            "link.so"
            if act.link == "so" and random < 0.6
            else "link.next"
            if random < (0.22 if self.rich else 0.08)
            else ""
        )
        if not section or not (production[0].__class__ is Role and production[0] in ("A", "B", "X", "X.his")):
            return ""
        return "".join(map(str, self._draw(grammar()[section]))) + " "

    def _detail(self, act: Act) -> str:
        self.subject, self.last_people = None, ()  # the detail may name a stranger: no pronoun across it
        here = act.here or act.place
        assert here is not None
        surroundings = f"detail.{here.group}"
        section = self._draw((surroundings, surroundings, "detail.any", "detail.any", "detail.sky"))
        if section == "detail.sky":
            hidden = here.group == "indoor" and act.weather in ("rain", "snow", "wind", "fog")
            section = f"detail.{act.time}" if hidden or self.rng.random() < 0.5 else f"detail.{act.weather}"
        options = grammar()[section]
        random = self.rng.random()
        chosen = options[int((random**0.5 if self.rich else random**2) * len(options))]
        out: list[str] = []
        expand(chosen, self.role, self.rng, out)
        return polish(capitalize("".join(out))) + "."

    def role(self, name: str) -> str:
        """Answer a role slot of the current act, as `A`, `B.his`, `X.the.cap`, `L.at`, `N`."""
        if name.endswith(".cap"):
            return capitalize(self.role(name[:-4]))
        key, _, form = name.partition(".")
        act = self.act
        if key in ("A", "B", "C"):
            person = act.a if key == "A" else act.b if key == "B" else act.c
            assert person is not None
            return self._person(person, form, key == "A")
        if key in ("X", "Y"):
            thing, owner = (act.x, act.owner) if key == "X" else (act.y, act.owner_y)
            assert thing is not None
            return self._thing(thing, owner, form)
        if key in ("L", "P"):
            place = act.l if key == "L" else act.place
            assert place is not None
            told = f"{self._adjective()}{place.text}" if self.rich and self.rng.random() < 0.5 else place.text
            return f"{place.preposition} the {told}" if form == "at" else f"the {told}"
        if key == "D":
            return f"the {act.d}" if form == "the" else f"a {act.d}"
        if key == "N":
            return NUMBERS[act.n]
        if key == "R":
            return act.r
        section = {"T": f"time.{act.time}", "W": f"weather.{act.weather}"}[key] + (f".{form}" if form else "")
        out: list[str] = []
        expand(self._draw(grammar()[section]), self.role, self.rng, out)
        text = "".join(out)
        return text if form else capitalize(text) + ("." if key == "W" else "")

    def _person(self, person: Person, form: str, is_actor: bool) -> str:
        if form == "job":
            return person.job
        if form == "intro":
            self.named.add(person)
            self.said_people.add(person)
            hero = self.world.people[0]
            if person is not hero and (person.name in hero.kin or self.rng.random() < 0.3):
                return self._relative(person)
            return self._introduction(person)
        other = self.act.b if is_actor else self.act.a
        clash = other is not None and other is not person and other.female == person.female
        known = person in self.named
        if form in ("he", "him", "his"):
            if (is_actor or not clash) and (known or self._is_near(person)):
                return PRONOUNS[person.female][form]
            form = "poss" if form == "his" else ""
        if form == "" and not self.named and not clash and self._may_pronoun(person):
            self.named.add(person)
            return PRONOUNS[person.female]["he" if is_actor else "him"]
        if form == "" and known and is_actor and not clash:
            return PRONOUNS[person.female]["he"]
        self.named.add(person)
        if person not in self.said_people:
            self.said_people.add(person)
            if form == "" and self.rng.random() < 0.6:
                return self._relative(person)
        return f"{person.name}'s" if form == "poss" else person.name

    def _is_near(self, person: Person) -> bool:
        return person in self.last_people and not any(
            p is not person and p.female == person.female for p in self.last_people
        )

    def _adjective(self) -> str:
        return "".join(map(str, self._draw(grammar()["adj.place"]))) + " "

    def _may_pronoun(self, person: Person) -> bool:
        return (
            not self.quoted
            and person is self.subject
            and self._is_near(person)
            and self.rng.random() < (0.6 if self.rich else 0.4)
        )

    def _introduction(self, person: Person) -> str:
        random = self.rng.random()
        if random < 0.35:
            return person.name
        if random < 0.6:
            return f"{person.name} the {person.job}"
        if random < 0.8:
            return f"{person.name}, a {person.trait} {person.job},"
        return f"{self._draw(('little', 'young', 'old', 'good old', 'tall'))} {person.name}"

    def _relative(self, person: Person) -> str:
        hero = self.world.people[0]
        kin = hero.kin.get(person.name)
        if kin and hero in self.named:
            return f"{PRONOUNS[hero.female]['his']} {kin} {person.name}"
        if kin:
            return f"{hero.name}'s {kin} {person.name}"
        return f"{person.name} the {person.job}"

    def _thing(self, thing: Thing, owner: Person | None, form: str) -> str:
        if form in ("n", "some", "my"):
            return {"n": "", "some": "a ", "my": "my "}[form] + thing.noun
        first = thing not in self.said_things
        self.said_things.add(thing)
        if form == "the" and not first:
            return f"the {thing.noun}"
        described = f"{thing.adjective} {thing.noun}"
        if first:
            self.said_adjectives.add(thing)
            if form == "s":
                return described
            if form == "a" or owner is None:
                return f"a {described}"
            if owner in self.named and not self._ambiguous(owner):
                return f"{PRONOUNS[owner.female]['his']} {described}"
            self.named.add(owner)
            self.said_people.add(owner)
            return f"{owner.name}'s {described}"
        if form == "s":
            return thing.noun
        if thing in self.said_adjectives and self.rng.random() < 0.15:
            return f"the {described}"
        return f"the {thing.noun}"

    def _ambiguous(self, owner: Person) -> bool:
        return any(p is not owner and p.female == owner.female for p in self.named)


JOINS = (" and ", " and then ", ", then ")
PRONOUNS = {
    True: {"he": "she", "him": "her", "his": "her"},
    False: {"he": "he", "him": "him", "his": "his"},
}
