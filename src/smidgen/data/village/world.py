"""The state of the small world: people, things, places, weather, time, and the log of what happened.

It changes in one way only, through `events.do(world, Act(...))`. Everything that
happens is logged as an `Act`; narration, questions, summary, dialogue and translation all read this log and the final
state, so they cannot disagree with each other. Who knows what is state too: a person may only tell where a thing is
when they know it.
"""

import random
from dataclasses import dataclass, field

from smidgen.data.village.words import Split, Word, forbidden_classes, partner_class, vocabulary

TIMES = ("dawn", "morning", "noon", "afternoon", "evening")
WEATHERS = ("sun", "cloud", "rain", "wind", "snow", "fog")


@dataclass(slots=True, eq=False)
class Person:
    """Somebody of the tale."""

    word: Word
    female: bool
    job: str
    trait: str
    place: Word
    kin: dict[str, str] = field(default_factory=dict)  # name of the other -> what the other is to this person
    knows: dict[str, Word] = field(default_factory=dict)  # thing -> place where this person believes it to be
    mood: int = 0
    hungry: bool = False
    wet: bool = False
    placed: bool = False  # has the text said where this person is?

    @property
    def name(self) -> str:
        """The person's name."""
        return self.word.text


@dataclass(slots=True, eq=False)
class Thing:
    """Something that can be held, lie somewhere, break or be eaten."""

    word: Word
    adjective: str
    owner: Person | None = None
    holder: Person | None = None
    lies: Word | None = None  # the place, while nobody holds it
    box: str = ""  # the container it was hidden or locked in
    broken: bool = False
    gone: bool = False  # eaten, snatched, given away out of sight
    count: int = 1  # how many the holder has, for things that come in numbers

    @property
    def noun(self) -> str:
        """The noun."""
        return self.word.text

    @property
    def place(self) -> Word | None:
        """Where the thing is: with its holder, or where it lies."""
        return self.holder.place if self.holder else self.lies


@dataclass(slots=True, eq=False)
class Act:
    """One thing that happened: who, with whom, what, where, how many, why."""

    kind: str
    a: Person
    b: Person | None = None
    x: Thing | None = None
    c: Person | None = None  # somebody spoken of
    y: Thing | None = None
    l: Word | None = None  # noqa: E741 (the template slot is {L})
    d: str = ""  # a container
    n: int = 0
    r: str = ""  # the reason, in the words of the text
    link: str = ""  # how it follows from what came before: so, but, then
    place: Word | None = None  # where the actor was when it happened
    here: Word | None = None  # where the actor was afterwards
    owner: Person | None = None  # whose the thing was before
    owner_y: Person | None = None  # whose the second thing was before
    told: bool = False  # does the text say where the actor was?
    left: int = 0  # how many of the thing the actor had afterwards
    time: str = ""
    weather: str = ""


class World:
    """Cast, places, things, weather and time of one tale, and the log of what happened."""

    def __init__(self, rng: random.Random, split: Split, lists: dict[str, list[str]]) -> None:
        self.rng = rng
        self.split: Split = split
        self.log: list[Act] = []
        self.things: list[Thing] = []
        self.time = TIMES[int(rng.random() * len(TIMES))]
        self.weather = WEATHERS[int(rng.random() * len(WEATHERS))]
        self.lists = lists
        self._cast()

    def pick(self, items):
        """Draw one item."""
        return items[int(self.rng.random() * len(items))]

    def chance(self, probability: float) -> bool:
        """Draw a yes with this probability."""
        return self.rng.random() < probability

    def _cast(self) -> None:
        words = vocabulary()
        pick = self.pick
        everyone = words.people["woman"] + words.people["man"]
        hero = pick(everyone)
        names = [hero]
        while len(names) < 3:
            # Held-out tales draw most of their cast from one class, so that most of what happens can be asked about.
            other = pick(everyone)
            same = self.split == "train" or other.cls == hero.cls or self.chance(0.02)
            if same and other not in names:
                names.append(other)
        self.places = self._choose_places(names, hero)
        jobs_left = self.rng.sample(self.lists["job"], 3)
        self.people = [
            Person(n, n.group == "woman", jobs_left[i], pick(self.lists["trait"]), self.places[0])
            for i, n in enumerate(names)
        ]
        self._families()
        self._blocked = set[int]().union(*(forbidden_classes(w, "thing", self.split) for w in (*names, *self.places)))
        self._home_class = None if self.split == "train" else partner_class(hero, "thing", self.split)

    def _choose_places(self, names: list[Word], hero: Word) -> list[Word]:
        words = vocabulary()
        pool = words.places["outdoor"] + words.places["indoor"]
        blocked = set[int]().union(*(forbidden_classes(n, "place", self.split) for n in names))
        wanted = None if self.split == "train" else partner_class(hero, "place", self.split)
        chosen = [w for w in pool if w.cls == wanted and w.cls not in blocked]
        while len(chosen) < 4:
            place = self.pick(pool)
            if place.cls not in blocked and place not in chosen:
                chosen.append(place)
        self.rng.shuffle(chosen)
        return chosen

    def _families(self) -> None:
        hero, b, c = self.people
        for other in (b, c):
            relation = self.pick(FEMALE_KIN if other.female else MALE_KIN)
            if self.chance(0.45) and relation not in hero.kin.values():
                hero.kin[other.name] = relation
        for other in (b, c):
            relation = hero.kin.get(other.name)
            if relation:
                other.kin[hero.name] = INVERSE[relation][0 if hero.female else 1]

    def thing(self, kind: str, owner: Person | None = None) -> Thing:
        """Bring a new thing of `kind` into the tale, of a noun that may stand beside everybody and every place."""
        used = {t.word.text for t in self.things}
        pool = vocabulary().things[kind]
        free = [w for w in pool if w.cls not in self._blocked and w.text not in used]
        home = [w for w in free if w.cls == self._home_class]
        made = Thing(home[0] if home else self.pick(free), self.pick(self.lists[kind]), owner)
        self.things.append(made)
        return made


FEMALE_KIN = ("sister", "aunt", "mother", "grandmother", "cousin", "neighbor", "friend", "teacher")
MALE_KIN = ("brother", "uncle", "father", "grandfather", "cousin", "neighbor", "friend", "teacher")
INVERSE = {
    "sister": ("sister", "brother"),
    "brother": ("sister", "brother"),
    "aunt": ("niece", "nephew"),
    "uncle": ("niece", "nephew"),
    "mother": ("daughter", "son"),
    "father": ("daughter", "son"),
    "grandmother": ("granddaughter", "grandson"),
    "grandfather": ("granddaughter", "grandson"),
    "cousin": ("cousin", "cousin"),
    "neighbor": ("neighbor", "neighbor"),
    "friend": ("friend", "friend"),
    "teacher": ("pupil", "pupil"),
}
