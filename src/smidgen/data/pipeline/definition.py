"""What a pipeline is: sources, named steps, and what comes out, as one TOML file.

name = "mine"
[[sources]]
name = "notes"
path = "notes/"
license = "CC0-1.0"
[[steps]]
type = "repair"
[output]
tokenizer = { type = "bpe", vocab_size = 4096 }
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from smidgen.config import Config, load_config
from smidgen.data.cleaning.mixing import MixConfig, SourceShare
from smidgen.data.cleaning.steps import RECOMMENDED, StepConfig
from smidgen.data.corpus import ReadConfig
from smidgen.tokenizers.bpe import BpeConfig
from smidgen.tokenizers.bytes import ByteConfig
from smidgen.tokenizers.bytes_bpe import BytesBpeConfig

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class SourceConfig(Config):
    """One body of text, and how much of it is wanted."""

    name: Name
    """What it is called in ids, counts and the report."""
    path: str
    """File, folder, glob (`crawl/**/*.jsonl.zst`), or an address the engine reads: s3://, gs://, hf://, https://."""
    license: str = "not stated"
    """Under what terms its publisher gives it; stands beside its figures wherever they are told."""
    read: ReadConfig = ReadConfig()
    """Which field of a record is its text."""
    weight: Annotated[float, Field(gt=0)] | None = None
    """Its share of the training symbols, beside the weights of other sources."""
    tokens: Annotated[int, Field(ge=1)] | None = None
    """Its training symbols: documents are left out, or repeated, until there are about so many."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """How often each of its documents is seen in one reading of the result; 0.5: every second one."""

    @model_validator(mode="after")
    def _check(self) -> "SourceConfig":
        given = [key for key in ("weight", "tokens", "epochs") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both say how much of '{self.name}' is wanted. Give one.")
        return self

    @property
    def share(self) -> SourceShare:
        """How much of it is asked for, as the mixing reads it."""
        return SourceShare(weight=self.weight, symbols=self.tokens, epochs=self.epochs)


class SavedTokenizer(Config):
    """The tokenizer of a model that exists."""

    type: Literal["saved"] = "saved"
    path: Path
    """A model directory, or any folder with a BPE tokenizer.json."""


class OutputConfig(Config):
    """What is written: token shards that `smidgen train` reads as its data, and a report."""

    tokenizer: Annotated[BpeConfig | ByteConfig | BytesBpeConfig | SavedTokenizer, Field(discriminator="type")] = (
        BpeConfig()
    )
    """What a symbol is: a vocabulary trained on the cleaned text, bytes, or one that exists."""
    seq_len: Annotated[int, Field(ge=8)] = 512
    """Row length for which the report tells how well documents pack. Shards hold whole documents: any length trains."""
    shard_symbols: Annotated[int, Field(ge=1)] = 64 << 20
    """Symbols after which a new shard is begun."""
    validation_fraction: Annotated[float, Field(gt=0, le=0.5)] | None = None
    """Share of the documents never trained on; None: 0.5 MB of text, but 0.5% at least and 10% at most."""
    mix: MixConfig = MixConfig()
    """How sources without tokens or epochs of their own are weighed, and how much there is in all."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides the order of the documents."""


class PipelineConfig(Config):
    """One pipeline, whole: the same files and the same pipeline give the same bytes, whoever runs it."""

    name: Name = "prepared"
    """What the result is called; its directory is prepared/NAME unless --out says otherwise."""
    sources: Annotated[list[SourceConfig], Field(min_length=1)]
    """What is read."""
    steps: tuple[StepConfig, ...] = RECOMMENDED
    """What is done to it, in this order; without a word on it, what is recommended for English."""
    output: OutputConfig = OutputConfig()
    """What comes out."""
    part_bytes: Annotated[int, Field(ge=1 << 10)] = 32 << 20
    """Text of one part of the corpus. A worker holds about eight times this much; a killed run loses a part each."""
    document_bytes: Annotated[int, Field(ge=1 << 10)] = 16 << 20
    """A longer line or document is dropped, and counted: none fills the memory."""

    @model_validator(mode="after")
    def _check(self) -> "PipelineConfig":
        twice = [name for name, times in Counter(source.name for source in self.sources).items() if times > 1]
        if twice:
            raise ValueError(f"two sources are called '{twice[0]}'. Give each a name of its own.")
        weighed = [source for source in self.sources if source.tokens is None and source.epochs is None]
        bare = [source.name for source in weighed if source.weight is None]
        if bare and len(bare) < len(weighed):
            raise ValueError(f"a weight is a part of the whole: give '{bare[0]}' one too, or tokens, or epochs.")
        return self


def load_pipeline(path: Path, overrides: Iterable[str] = ()) -> PipelineConfig:
    """Read and check a pipeline file. Raises ConfigError naming every problem at once."""
    return load_config(path, PipelineConfig, overrides)
