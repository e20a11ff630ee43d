"""The steps a pipeline file can name, in one table, and how they stand in a row.

A step that needs the whole corpus first cuts the row: everything before it is one pass over the parts, its decision is
taken between, and its judgment opens the next pass.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from smidgen.data.cleaning.boilerplate import Boilerplate, BoilerplateConfig
from smidgen.data.cleaning.decontaminate import Decontaminate, DecontaminateConfig
from smidgen.data.cleaning.diversity import Diversity, DiversityConfig
from smidgen.data.cleaning.exact import ExactConfig, ExactDocuments, ExactParts
from smidgen.data.cleaning.garbage import Garbage, GarbageConfig
from smidgen.data.cleaning.html import Html, HtmlConfig
from smidgen.data.cleaning.language import Language, LanguageConfig
from smidgen.data.cleaning.minhash import Near, NearConfig
from smidgen.data.cleaning.personal import Personal, PersonalConfig
from smidgen.data.cleaning.quality import C4, C4Config, FineWeb, FineWebConfig, Gopher, GopherConfig
from smidgen.data.cleaning.repair import Repair, RepairConfig
from smidgen.data.cleaning.repetition import Repetition, RepetitionConfig
from smidgen.data.cleaning.step import CorpusStep, Step

AnyStep = Step | CorpusStep

StepConfig = Annotated[
    BoilerplateConfig
    | C4Config
    | DecontaminateConfig
    | DiversityConfig
    | ExactConfig
    | FineWebConfig
    | GarbageConfig
    | GopherConfig
    | HtmlConfig
    | LanguageConfig
    | NearConfig
    | PersonalConfig
    | RepairConfig
    | RepetitionConfig,
    Field(discriminator="type"),
]
"""One step of a pipeline file, told apart by its `type`."""


def _exact(config: ExactConfig) -> CorpusStep:
    return ExactDocuments(config) if config.unit == "document" else ExactParts(config)


STEPS: Mapping[type, Callable[[Any], AnyStep]] = {
    BoilerplateConfig: Boilerplate,
    C4Config: C4,
    DecontaminateConfig: Decontaminate,
    DiversityConfig: Diversity,
    ExactConfig: _exact,
    FineWebConfig: FineWeb,
    GarbageConfig: Garbage,
    GopherConfig: Gopher,
    HtmlConfig: Html,
    LanguageConfig: Language,
    NearConfig: Near,
    PersonalConfig: Personal,
    RepairConfig: Repair,
    RepetitionConfig: Repetition,
}
"""What carries out each of them."""


@dataclass(frozen=True)
class Pass:
    """One reading of all parts: a decision applied, steps that look at one document, something collected."""

    opening: int | None
    """The step whose decision is applied first, by its place in the pipeline; None for the first pass."""
    steps: tuple[int, ...]
    """The steps for single documents, by their places."""
    closing: int | None
    """The step that collects from what is left; None for the last pass."""

    @property
    def places(self) -> tuple[int, ...]:
        """The steps that may keep or drop documents in this pass, in order."""
        return self.steps if self.opening is None else (self.opening, *self.steps)


def build_step(config: Any) -> AnyStep:
    """Return the step of a config; its library is loaded with the first document."""
    return STEPS[type(config)](config)


def passes_of(configs: Sequence[Any]) -> list[Pass]:
    """Cut a row of steps at those that need the whole corpus."""
    passes: list[Pass] = []
    opening: int | None = None
    alone: list[int] = []
    for place, config in enumerate(configs):
        if isinstance(build_step(config), CorpusStep):
            passes.append(Pass(opening, tuple(alone), place))
            opening, alone = place, []
        else:
            alone.append(place)
    return [*passes, Pass(opening, tuple(alone), None)]


def step_names(configs: Sequence[Any]) -> list[str]:
    """Return what each step is called in counts and the report: its type, numbered where it comes twice."""
    names: list[str] = []
    for config in configs:
        told = f"{config.type} ({config.unit})" if isinstance(config, ExactConfig) else config.type
        times = sum(name.partition(" #")[0] == told for name in names)
        names.append(f"{told} #{times + 1}" if times else told)
    return names
