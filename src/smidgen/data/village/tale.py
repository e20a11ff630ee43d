"""One tale: a pure function of (seed, split, index).

The generator of every tale is seeded with the text "seed/split/index" (hashed by SHA-512 inside `random.Random`, the
same on every platform), so tale i can be told without telling the ones before it. Everything beside the text is worked
out when first asked for, from generators of its own.
"""

from dataclasses import dataclass
from functools import cached_property
from random import Random

from smidgen.data.village.language import Translation, translations
from smidgen.data.village.narrate import Teller
from smidgen.data.village.plans_social import live
from smidgen.data.village.questions import Question, ask
from smidgen.data.village.retell import converse, summarize
from smidgen.data.village.words import SPLITS, Split, lists
from smidgen.data.village.world import Thing, World
from smidgen.errors import DataError


@dataclass(frozen=True)
class Tale:
    """A simulated day and everything that can be said about it."""

    key: str
    """seed/split/index: what the tale is a function of."""
    text: str
    """The story in English, one paragraph."""
    world: World
    """Final state and log of the simulation; read only."""
    adjectives_said: frozenset[Thing]
    """Things whose adjective the text mentions."""

    @cached_property
    def questions(self) -> list[Question]:
        """Questions with exact answers; outside train only about combinations held out for the split."""
        return ask(self.world, set(self.adjectives_said), Random(f"{self.key}/questions"))

    @cached_property
    def summary(self) -> str:
        """The tale in one sentence."""
        return summarize(self.world)

    @property
    def sentiment(self) -> str:
        """`positive`, `negative` or `neutral`: how the hero feels at the end."""
        mood = self.world.people[0].mood
        return "positive" if mood > 0 else "negative" if mood < 0 else "neutral"

    @cached_property
    def dialogue(self) -> str:
        """Two people of the tale talk about what happened: lines of `Name: words`."""
        return converse(self.world, Random(f"{self.key}/dialogue"))

    @cached_property
    def translations(self) -> list[Translation]:
        """Sentences about the tale in English and in the second language."""
        return translations(self.world)


def tell(seed: int, split: Split, index: int, episodes: int = 1, detail: float = 0.12) -> Tale:
    """Tell tale number `index` of `split`; `episodes` plans make up the day, `detail` sentences describe per event.

    Without an episode a tale is a scene: who is where with what. A day of two or more is told more colourfully.

    Raises DataError if the split is unknown or the index negative.
    """
    if split not in SPLITS or index < 0:
        raise DataError(
            f"no village tale {index} of split {split!r}. Splits are {', '.join(SPLITS)}; tales count from 0."
        )
    key = f"{seed}/{split}/{index}"
    rng = Random(key)
    world = World(rng, split, lists("cast.txt"))
    live(world, episodes)
    teller = Teller(rng, world, detail, rich=episodes > 1)
    text = teller.text()
    return Tale(key, text, world, frozenset(teller.said_adjectives))
