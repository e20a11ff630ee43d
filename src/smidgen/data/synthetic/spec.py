"""What is to be written, by what, and what has to be true of it, as one TOML file.

name = "letters"
documents = 500
[generator]
type = "template"
texts = ["{name} saw {animal} near {place}."]
slots = { name = ["Ada", "Ben"], animal = ["a fox", "an owl"], place = ["the mill", "the pond"] }
"""

import re
from random import Random
from typing import Annotated, Literal, Protocol

from pydantic import Field, model_validator

from smidgen.config import Config
from smidgen.data.cleaning.minhash import NearConfig
from smidgen.data.cleaning.repetition import RepetitionConfig
from smidgen.data.cleaning.steps import StepConfig
from smidgen.data.pipeline.definition import Name
from smidgen.data.village.corpus import VillageConfig, make_document

_SLOT = re.compile(r"\{(\w+)\}")
_DEEPEST = 50


class Phrases(Config):
    """Texts with slots, and what fills them; a slot's values may have slots of their own."""

    texts: Annotated[tuple[str, ...], Field(min_length=1)]
    """One of them is drawn for each document."""
    slots: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """Values by the name of a slot; within a document a slot has one value."""

    @model_validator(mode="after")
    def _check(self) -> "Phrases":
        texts = [*self.texts, *(value for values in self.slots.values() for value in values)]
        missing = sorted({name for text in texts for name in _SLOT.findall(text)} - set(self.slots))
        if missing:
            raise ValueError(f"slot {{{missing[0]}}} has no values. Add it to slots.")
        for name in self.slots:
            self._follow(name, ())
        return self

    def _follow(self, name: str, above: tuple[str, ...]) -> None:
        if name in above or len(above) > _DEEPEST:
            raise ValueError(f"slot {{{name}}} is part of itself, by way of {', '.join(above)}.")
        for inner in {found for value in self.slots[name] for found in _SLOT.findall(value)}:
            self._follow(inner, (*above, name))

    def fill(self, rng: Random) -> str:
        """Return one of the texts, its slots filled."""
        chosen: dict[str, str] = {}

        def value(name: str) -> str:
            if name not in chosen:
                chosen[name] = _SLOT.sub(lambda found: value(found[1]), rng.choice(self.slots[name]))
            return chosen[name]

        return _SLOT.sub(lambda found: value(found[1]), rng.choice(self.texts))


class TemplateConfig(Phrases):
    """Documents are the filled texts."""

    type: Literal["template"] = "template"


class VillageTextConfig(Config):
    """Documents are those of the village; a conversation becomes its turns, one below the other."""

    type: Literal["village"] = "village"
    village: VillageConfig = VillageConfig()
    """What the village tells, and the seed of its world."""


class GamesTextConfig(Config):
    """Documents are turns of games, each a conversation: what a player saw, and the move it made."""

    type: Literal["games"] = "games"
    game: str = "tictactoe"
    """The game, with its options: `nim:piles=1-2-3`."""
    players: Annotated[tuple[str, ...], Field(min_length=1)] = ("random",)
    """Who plays: random, mixed, optimal; each game's two are drawn from these."""


class TeacherConfig(Config):
    """Documents are what a model writes when it is asked, or goes on from a beginning."""

    type: Literal["teacher"] = "teacher"
    model: str
    """A run, a model directory, a .gguf file or a pulled name."""
    prompts: Phrases
    """What it is asked, or the beginnings it continues."""
    ask: bool = True
    """Whether the prompt is the user's turn of a conversation; else the document is the prompt and what follows it."""
    temperature: Annotated[float, Field(ge=0)] = 0.8
    """Of sampling."""
    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Of sampling."""
    max_symbols: Annotated[int, Field(ge=1)] = 512
    """Longest answer; one that does not end by then is dropped, and counted. Of letters by SmolLM2-135M 78% did not end
    within 256."""


class SyntheticConfig(Config):
    """One body of text that is made."""

    name: Name = "synthetic"
    """What it is called; it is written to synthetic/NAME unless --out says otherwise."""
    license: str = "not stated"
    """Under what terms it may be used: a model's may ask for something."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides every draw."""
    documents: Annotated[int, Field(ge=1)] = 1000
    """Documents wanted, after checks and without copies."""
    most_tries: Annotated[float, Field(ge=1)] = 4.0
    """Documents written for each one wanted, at most."""
    generator: Annotated[
        TemplateConfig | VillageTextConfig | GamesTextConfig | TeacherConfig, Field(discriminator="type")
    ]
    """What writes."""
    checks: tuple[StepConfig, ...] = (RepetitionConfig(),)
    """Cleaning steps, as in a pipeline, that each document has to pass; none that needs the whole corpus."""
    near: NearConfig | None = NearConfig()
    """What counts as a copy; None: only the same text. Texts of few templates are near copies of each other."""

    @property
    def idle(self) -> set[str]:
        """The fields that do nothing: games are no text, and right by their rules; of copies only exact ones go."""
        return {"checks", "near"} if isinstance(self.generator, GamesTextConfig) else set()

    @model_validator(mode="after")
    def _check(self) -> "SyntheticConfig":
        if said := sorted(self.idle & self.model_fields_set):
            raise ValueError(f"'{said[0]}' is for text; moves are right by the rules of the game. Leave it out.")
        return self


class Draft(Config):
    """One document, or one game, before anybody looked at it."""

    text: str = ""
    """What was written."""
    turns: tuple[tuple[str, str], ...] = ()
    """Of a game instead: what was seen and what was done, turn after turn, each a document of its own."""
    prompt: str = ""
    """What was asked for it."""
    finished: bool = True
    """Whether it came to its end."""


class Writer(Protocol):
    """Writes documents by their numbers: a number gives the same document whatever was written before."""

    def write(self, numbers: range) -> list[Draft]:
        """Return the drafts of these numbers."""
        ...


def rng_of(config: SyntheticConfig, number: int) -> Random:
    """Return the draws of one document."""
    return Random(f"{config.seed}/{config.name}/{number}")


class TemplateWriter:
    """Fills templates."""

    def __init__(self, config: SyntheticConfig, phrases: Phrases) -> None:
        self._config, self._phrases = config, phrases

    def write(self, numbers: range) -> list[Draft]:
        """Return the filled texts of these numbers."""
        return [Draft(text=self._phrases.fill(rng_of(self._config, number))) for number in numbers]


class VillageWriter:
    """Tells of the village, of the part of its world that is for training."""

    def __init__(self, config: VillageTextConfig) -> None:
        self._config = config.village

    def write(self, numbers: range) -> list[Draft]:
        """Return the documents of these numbers as plain text."""
        documents = [make_document(self._config, "train", number) for number in numbers]
        return [Draft(text=d.text or "\n".join(m.content for m in d.messages)) for d in documents]
