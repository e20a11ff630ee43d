"""Every cleaning step there is, by the `type` that a pipeline file names."""

from typing import Annotated

from pydantic import Field

from smidgen.data.cleaning.boilerplate import Boilerplate, BoilerplateConfig
from smidgen.data.cleaning.decontaminate import Decontaminate, DecontaminateConfig
from smidgen.data.cleaning.diversity import Diversity, DiversityConfig
from smidgen.data.cleaning.exact import ExactConfig, ExactDocuments, ExactParts
from smidgen.data.cleaning.garbage import Garbage, GarbageConfig
from smidgen.data.cleaning.html import Html, HtmlConfig
from smidgen.data.cleaning.language import Language, LanguageConfig
from smidgen.data.cleaning.minhash import Near, NearConfig
from smidgen.data.cleaning.offensive import Offensive, OffensiveConfig
from smidgen.data.cleaning.personal import Personal, PersonalConfig
from smidgen.data.cleaning.quality import C4, C4Config, FineWeb, FineWebConfig, Gopher, GopherConfig
from smidgen.data.cleaning.repair import Repair, RepairConfig
from smidgen.data.cleaning.repetition import Repetition, RepetitionConfig
from smidgen.data.cleaning.step import CorpusStep, Step

StepConfig = Annotated[
    HtmlConfig
    | GarbageConfig
    | RepairConfig
    | BoilerplateConfig
    | LanguageConfig
    | C4Config
    | GopherConfig
    | FineWebConfig
    | RepetitionConfig
    | ExactConfig
    | NearConfig
    | DecontaminateConfig
    | OffensiveConfig
    | PersonalConfig
    | DiversityConfig,
    Field(discriminator="type"),
]
"""One `[[steps]]` of a pipeline file."""

_STEPS = {
    HtmlConfig: Html,
    GarbageConfig: Garbage,
    RepairConfig: Repair,
    BoilerplateConfig: Boilerplate,
    LanguageConfig: Language,
    C4Config: C4,
    GopherConfig: Gopher,
    FineWebConfig: FineWeb,
    RepetitionConfig: Repetition,
    NearConfig: Near,
    DecontaminateConfig: Decontaminate,
    OffensiveConfig: Offensive,
    PersonalConfig: Personal,
    DiversityConfig: Diversity,
}

RECOMMENDED: tuple[StepConfig, ...] = (
    GarbageConfig(),  # before repair, which removes the control characters it counts
    HtmlConfig(),
    RepairConfig(),
    BoilerplateConfig(),
    LanguageConfig(),
    C4Config(),
    GopherConfig(),
    FineWebConfig(),
    RepetitionConfig(),
    ExactConfig(),
    NearConfig(),
    OffensiveConfig(),
    PersonalConfig(),
)
"""The order in which each step finds the text as it needs it; decontamination, which needs files, goes before personal
data."""


def build_step(config: StepConfig) -> Step | CorpusStep:
    """Return the step that a config describes."""
    if isinstance(config, ExactConfig):
        return ExactDocuments(config) if config.unit == "document" else ExactParts(config)
    return _STEPS[type(config)](config)
