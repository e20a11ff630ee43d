"""A recipe: all that decides a run, assembled from the configs of the rooms, checked across them, written as TOML.

Every config lives beside the code it configures; this room only puts them together and asks whether they agree.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from smidgen.config import Config, load_config, validate_config
from smidgen.data.corpus import ReadConfig
from smidgen.data.prepare import PrepareConfig
from smidgen.data.village.corpus import VillageConfig
from smidgen.errors import ConfigError
from smidgen.models import ModelConfig
from smidgen.models.llama import LlamaConfig
from smidgen.models.stats import flops_per_symbol, run_once, stacks_of
from smidgen.tokenizers.bpe import BpeConfig
from smidgen.tokenizers.bytes import ByteConfig
from smidgen.tokenizers.bytes_bpe import BytesBpeConfig
from smidgen.training.config import TimeBudget, TrainConfig
from smidgen.training.objectives.build import find_mismatch, find_unreadable


class TextData(Config):
    """Documents of a file or folder."""

    type: Literal["text"] = "text"
    path: Path
    """File or folder of txt, md, jsonl, json, csv or parquet, plain or packed."""
    read: ReadConfig = ReadConfig()
    """Which field of a record is its text."""
    prepare: PrepareConfig = PrepareConfig()
    """How much of it is taken, and how much validates."""


class VillageData(Config):
    """Stories and questions of the embedded village, told on demand."""

    type: Literal["village"] = "village"
    text_bytes: Annotated[int, Field(ge=10_000)] = 40_000_000
    """Bytes of text to tell."""
    world: VillageConfig = VillageConfig()
    """Which village, and what is told of it."""
    prepare: PrepareConfig = PrepareConfig()
    """How much of it validates."""


class PreparedData(Config):
    """What `smidgen data prepare` wrote: shards and their tokenizer, taken as they are."""

    type: Literal["prepared"] = "prepared"
    path: Path
    """The folder it wrote. Its tokenizer is the run's, whatever `tokenizer` says."""


DataConfig = Annotated[TextData | VillageData | PreparedData, Field(discriminator="type")]
TokenizerConfig = Annotated[BpeConfig | ByteConfig | BytesBpeConfig, Field(discriminator="type")]


class Recipe(Config):
    """One run, whole: the same recipe on the same machine gives the same model."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "run"
    """What the run is called; its directory is runs/NAME."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides every random draw: weights, order of the data, samples."""
    start_from: str | None = None
    """A model to go on from: a run, a model directory, a .gguf file or a pulled name. None: fresh weights."""
    data: DataConfig = VillageData()
    """What is read."""
    tokenizer: TokenizerConfig = BpeConfig()
    """What a symbol is; with `start_from`, that model's own tokenizer is used instead."""
    model: ModelConfig = LlamaConfig()
    """What is trained; with `start_from`, the shape of that model."""
    train: TrainConfig = TrainConfig()
    """How it is trained."""

    @model_validator(mode="after")
    def _check(self) -> "Recipe":
        train, model = self.train, self.model
        if train.seq_len > model.max_seq_len:
            raise ValueError(
                f"train.seq_len ({train.seq_len}) is longer than model.max_seq_len ({model.max_seq_len}). "
                "Lower the one or raise the other."
            )
        if train.batch_tokens % train.seq_len:
            low = max(1, train.batch_tokens // train.seq_len) * train.seq_len
            raise ValueError(
                f"train.batch_tokens ({train.batch_tokens}) must be a multiple of train.seq_len ({train.seq_len}). "
                f"Try {low} or {low + train.seq_len}."
            )
        mismatch = find_unreadable(train.objective)
        mismatch = mismatch or find_mismatch(train.objective, model, trained_before=self.start_from is not None)
        if mismatch is not None:
            raise ValueError(mismatch)
        if self.start_from is None and model.needs_bytes and isinstance(self.tokenizer, BpeConfig):
            raise ValueError(
                f"a {model.type} model reads bytes: set tokenizer.type to bytes (bytes_bpe for the patcher symbol)."
            )
        if train.loop_from is not None and all(s.n_blocks == len(s.layers) for s in stacks_of(model)):
            raise ValueError(
                f"train.loop_from ({train.loop_from}) waits for nothing: no block repeats. "
                'Leave it out, or loop: model.stack.layers = "middle:8,3,4,2".'
            )
        if self.start_from is None and self.tokenizer.vocab_size != model.vocab_size:
            raise ValueError(
                f"tokenizer.vocab_size ({self.tokenizer.vocab_size}) and model.vocab_size ({model.vocab_size}) differ. "
                "Give both the same number."
            )
        return self


def training_flops(recipe: Recipe) -> float:
    """Return the operations of training on one symbol, the mean over the budget where loops begin part-way."""
    model, train = recipe.model, recipe.train
    looped = flops_per_symbol(model, train.seq_len, training=True).total
    if train.loop_from is None:
        return looped
    once = flops_per_symbol(run_once(model), train.seq_len, training=True).total
    before = train.loop_from
    if isinstance(train.budget, TimeBudget):  # a share of the time, in which cheaper symbols are more
        return 1 / (before / once + (1 - before) / looped)
    return before * once + (1 - before) * looped


def load_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read and check a recipe file. Raises ConfigError naming every problem at once."""
    return load_config(path, Recipe, overrides)


def recipe_from(data: Mapping[str, Any], where: str) -> Recipe:
    """Check a recipe made of plain values; `where` names its origin in errors."""
    return validate_config(data, Recipe, where)


def format_recipe(recipe: BaseModel, heading: str = "") -> str:
    """Return the recipe as TOML that reads back to an equal recipe, each key explained where it stands."""
    lines = [f"# {line}" for line in heading.splitlines()]
    lines += [""] if lines else []
    return "\n".join([*lines, *_table(recipe, ())]) + "\n"


def differing_keys(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return each key in which two dumped recipes differ, with both values: `train.seq_len (512, now 256)`."""
    flat, changed = dict(_flatten(before)), dict(_flatten(now))
    keys = [key for key in {**flat, **changed} if flat.get(key) != changed.get(key)]
    return [f"{key} ({_shown(flat.get(key))}, now {_shown(changed.get(key))})" for key in keys]


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _table(config: BaseModel, path: tuple[str, ...]) -> Iterator[str]:
    """Yield a config's own keys, then its tables. A key whose value is None is left out: TOML has no word for it."""
    tables = {}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            tables[name] = value
        elif value is not None:
            help_text = " ".join((field.description or "").split())
            yield (
                f"{name} = {_value(value)}".ljust(40) + f" # {help_text}" if help_text else f"{name} = {_value(value)}"
            )
        elif field.default is not None:
            raise ConfigError(f"{'.'.join((*path, name))}: None cannot be written in TOML; give it a number.")
    for name, table in tables.items():
        lines = list(_table(table, (*path, name)))
        yield from ("", f"[{'.'.join((*path, name))}]", *lines) if lines else ()


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_value(key)} = {_value(item)}" for key, item in value.items()) + "}"
    plain = str(value) if isinstance(value, Path) else value
    # JSON's strings, numbers and booleans are TOML's too, save that TOML wants DEL escaped.
    return json.dumps(plain, ensure_ascii=False).replace("\x7f", "\\u007f")
