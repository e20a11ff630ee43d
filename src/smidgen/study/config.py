"""A study file: variants of one recipe, seeds, and the budget every run gets."""

import difflib
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from smidgen.config import Config, apply_overrides, read_toml, tree_of, validate_config
from smidgen.errors import ConfigError
from smidgen.training.config import TimeBudget, TokenBudget

QUICK_SHARE = 1 / 20
"""Of the budget, for a trial of the whole study."""


class FlopsBudget(Config):
    """Train for a number of floating-point operations, forward and backward, as `smidgen inspect` counts them."""

    type: Literal["flops"] = "flops"
    flops: Annotated[float, Field(gt=0)] = 1e15
    """Operations of one run; symbols follow from the FLOPs of one, rounded up to whole steps."""


StudyBudget = Annotated[TimeBudget | TokenBudget | FlopsBudget, Field(discriminator="type")]


LONGEST_NAME = 60
"""Letters of a variant's name: as many as a table has room for."""


class Variant(Config):
    """One thing that is tried."""

    name: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME, pattern=r"^\S.*$")]
    """What it is called in tables and plots."""
    note: str = ""
    """Why it is tried, or what it stands for."""
    group: str = ""
    """Variants of a group stand together, and share a colour and a shape."""
    recipe: Path | None = None
    """A base recipe of its own, relative to the study file; None: the study's."""
    set: dict[str, Any] = Field(default_factory=dict)
    """What it changes: keys of a recipe, dotted, to values or whole tables."""


class Study(Config):
    """What is compared, and how fairly."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """What the study is called; its directory is runs/NAME."""
    recipe: Path
    """The base recipe, relative to the study file."""
    budget: StudyBudget
    """What every run gets alike: seconds of training (compilation counted, preparation not), symbols, or FLOPs."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0, 1)
    """Every variant is trained once with each; from three on, a paired test can show small differences."""
    reference: str
    """The variant all others are compared with."""
    noise: Literal["own", "pooled"] = "own"
    """What a difference is measured against: the spread of its own pairs of seeds, or of all variants' together."""
    validation_bytes: Annotated[int, Field(ge=1000)] = 300_000
    """Bytes of held-out text the finished models are measured on, the same for every variant."""
    curve_bytes: Annotated[int, Field(ge=100)] = 32_768
    """Bytes of it measured on the way, for the curves; their time counts as training."""
    variants: tuple[Variant, ...] = ()
    """What is tried."""
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    """Recipe keys to lists of values; every combination is one more variant."""

    def all_variants(self) -> list[Variant]:
        """Return the variants that are written out, then those of the grid."""
        keys = list(self.grid)
        combinations = [dict(zip(keys, values, strict=True)) for values in itertools.product(*self.grid.values())]
        made = [Variant(name=_grid_name(chosen), group="grid", set=chosen) for chosen in combinations if chosen]
        return [*self.variants, *made]

    def quick(self) -> "Study":
        """Return the trial of this study: a twentieth of the budget, one seed, less text measured, another name."""
        share = {
            "time": lambda b: {"seconds": b.seconds * QUICK_SHARE},
            "tokens": lambda b: {"tokens": max(1, round(b.tokens * QUICK_SHARE))},
            "flops": lambda b: {"flops": b.flops * QUICK_SHARE},
        }[self.budget.type]
        changed = {
            "name": f"{self.name}-quick",
            "budget": self.budget.model_copy(update=share(self.budget)),
            "seeds": self.seeds[:1],
            "validation_bytes": min(self.validation_bytes, 30_000),
            "curve_bytes": min(self.curve_bytes, 8_192),
        }
        return self.model_copy(update=changed)


def read_study(path: Path, overrides: Iterable[str] = ()) -> tuple[Study, list[str]]:
    """Read a study file; return it and the overrides that are meant for its recipes.

    `key=value` changes the study if its first word is a key of one (`budget.seconds=60`), else every base recipe
    (`data.path=my_texts`), below what the variants change. Raises ConfigError naming every problem of the file at once.
    """
    own, others = [], []
    for override in overrides:
        first = re.split(r"[.=]", override, maxsplit=1)[0].strip()
        (own if first in Study.model_fields else others).append(override)
    study = validate_config(apply_overrides(read_toml(path), own), Study, where=str(path))
    asked = apply_overrides({}, others)
    if problems := [*_disagreements(study), *(f"{p} Write budget.seconds=60, seeds=[0]." for p in _decided(asked))]:
        raise ConfigError(f"{path} is not valid:\n" + "\n".join(f"  {problem}" for problem in problems))
    return study, others


def overlay(variant: Variant) -> dict[str, Any]:
    """Return what a variant sets, as one tree to lay over a recipe; the order of its keys does not matter."""
    return tree_of(variant.set.items())


def _disagreements(study: Study) -> Iterator[str]:
    names = [variant.name for variant in study.all_variants()]
    if not names:
        yield "variants: there are none. Add a [[variants]] table with a name, or a [grid]."
        return
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"variants: {name!r} is the name of {names.count(name)} variants. Names must differ."
    if study.reference not in names:
        near = difflib.get_close_matches(study.reference, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
        yield f"reference: {study.reference!r} is no variant; {hint}"
    if len(set(study.seeds)) < len(study.seeds):
        yield f"seeds: {list(study.seeds)} names a seed twice; it would be the same run."
    for variant in study.all_variants():
        yield from (f"variant {variant.name!r}: {problem} Leave it out." for problem in _decided(overlay(variant)))


def _decided(tree: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a tree of recipe keys says that the study decides for all runs alike."""
    for key in _keys(tree):
        if key in ("name", "seed", "train.budget", "train.samples") or key.startswith("train.budget."):
            yield f"{key} is for the study to decide, so that runs compare."


def _keys(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")


def _grid_name(chosen: Mapping[str, Any]) -> str:
    """Name a combination by the last words of its keys: `d_model=128 layers=0.0.1.1`."""
    words = " ".join(f"{key.rpartition('.')[2]}={_short(value)}" for key, value in chosen.items())
    if len(words) <= LONGEST_NAME:
        return words
    told_apart = hashlib.sha256(words.encode()).hexdigest()[:6]
    return f"{words[: LONGEST_NAME - 7]} {told_apart}"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ".".join(map(_short, value))
    return "/".join(map(_short, value.values())) if isinstance(value, Mapping) else str(value)
