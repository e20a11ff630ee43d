"""Which runs a study is made of: every variant resolved to a whole recipe, times every seed, in order.

A cell is one run of one variant with one seed. Its name ends in a hash of all that decides it, so a changed variant is
another cell, and changing it back finds the old one.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.config import apply_overrides, merge, read_toml
from smidgen.errors import ConfigError, SmidgenError
from smidgen.journey.material import Source, open_source
from smidgen.recipe import Recipe, VillageData, format_recipe, recipe_from, training_flops
from smidgen.study.config import FlopsBudget, Study, Variant, overlay, read_study


@dataclass(frozen=True)
class Arm:
    """A variant with its whole recipe; name and seed of the recipe are left to its cells."""

    variant: Variant
    recipe: Recipe
    text: str
    """What its prepared text is called: equal for arms that read the same text with the same tokenizer."""
    digest: str
    """Hash of all that decides its runs, save the seed."""

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.variant.name

    def cell(self, seed: int) -> "Cell":
        """Return its run with a seed."""
        key = f"{_slug(self.name)}-{seed}-{self.digest[:8]}"
        return Cell(key, self.name, seed, self.recipe.model_copy(update={"name": key, "seed": seed}), self.text)


@dataclass(frozen=True)
class Cell:
    """One run: a variant with a seed."""

    key: str
    """Its name everywhere: recipe, run, record, log."""
    variant: str
    seed: int
    recipe: Recipe
    text: str


@dataclass(frozen=True)
class Plan:
    """A study with everything resolved."""

    study: Study
    arms: tuple[Arm, ...]

    def chosen(self, only: Sequence[str] = ()) -> list[Arm]:
        """Return the arms of these names; without names, all."""
        return [arm for arm in self.arms if not only or arm.name in only]

    def cells(self, only: Sequence[str] = ()) -> list[Cell]:
        """Return the cells in the order they run: all variants with one seed, then back with the next.

        A machine that grows warm, or busy, slows the whole pass and not one variant; there and back again, each
        variant's seeds lie around the same moment on average, so that even a steady drift cancels in every pair.
        """
        chosen = self.chosen(only)
        passes = [chosen if index % 2 == 0 else chosen[::-1] for index in range(len(self.study.seeds))]
        return [arm.cell(seed) for arms, seed in zip(passes, self.study.seeds, strict=True) for arm in arms]

    @property
    def reference(self) -> Arm:
        """The arm all others are compared with."""
        return next(arm for arm in self.arms if arm.name == self.study.reference)


def plan_study(path: Path, overrides: Iterable[str] = (), quick: bool = False) -> Plan:
    """Read a study and resolve every variant. Raises ConfigError naming the problems of all of them at once."""
    study, recipe_overrides = read_study(path, overrides)
    study = study.quick() if quick else study
    problems: dict[str, list[str]] = defaultdict(list)
    arms, sources = [], dict[str, Source]()
    for variant in study.all_variants():
        try:
            recipe = _resolve(study, variant, path.parent, recipe_overrides)
            source = _source(recipe, sources)
            arms.append(_arm(variant, recipe, source))
            format_recipe(recipe)  # what cannot be written as TOML is known now
        except SmidgenError as error:
            problems[str(error)].append(variant.name)
    for first, second in _twins(arms):
        problems["are told apart by nothing that a file name can hold. Rename one."] += [first, second]
    if problems:
        raise ConfigError(f"{path} is not valid:\n" + "\n".join(_told(problems, len(study.all_variants()))))
    return Plan(study, tuple(arms))


def check_only(plan: Plan, only: Sequence[str]) -> None:
    """Raise ConfigError if a name given to `--only` is no variant."""
    names = [arm.name for arm in plan.arms]
    for name in only:
        if name not in names:
            raise ConfigError(f"--only {name!r} is no variant. Known: {', '.join(names)}.")


def _resolve(study: Study, variant: Variant, folder: Path, overrides: Sequence[str]) -> Recipe:
    path = folder / (variant.recipe or study.recipe)
    base = recipe_from(apply_overrides(read_toml(path), overrides), str(path))
    # Laid over the whole base, its defaults written out, so that one key of a default optimizer can be changed alone.
    recipe = recipe_from(merge(base.model_dump(mode="json", exclude_none=True), overlay(variant)), "its recipe")
    budget: Any = study.budget
    if isinstance(budget, FlopsBudget):
        each = training_flops(recipe)
        budget = {"type": "tokens", "tokens": max(1, round(budget.flops / each))}
    else:
        budget = budget.model_dump()
    data = recipe.model_dump(mode="json", exclude_none=True)
    data["train"]["budget"] = budget
    data["train"]["samples"] = 0  # writing on the way would take more training time from a slower writer
    data |= {"name": "cell", "seed": 0}
    if not isinstance(recipe.data, VillageData):
        data["data"]["path"] = str(recipe.data.path.resolve())
    return recipe_from(data, "its recipe")


def _source(recipe: Recipe, known: dict[str, Source]) -> Source:
    key = recipe.data.model_dump_json()
    if key not in known:
        known[key] = open_source(recipe)
    return known[key]


def _arm(variant: Variant, recipe: Recipe, source: Source) -> Arm:
    text = _hash([recipe.data.model_dump_json(), recipe.tokenizer.model_dump_json(), recipe.start_from or ""])
    return Arm(
        variant, recipe, _hash([text, source.fingerprint])[:16], _hash([recipe.model_dump_json(), source.fingerprint])
    )


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "variant"


def _twins(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    seen: dict[str, str] = {}
    for arm in arms:
        key = arm.cell(0).key
        if key in seen:
            yield seen[key], arm.name
        seen[key] = arm.name


def _told(problems: dict[str, list[str]], variants: int) -> Iterator[str]:
    """Tell each problem once, with the variants that have it."""
    for message, names in problems.items():
        shown = ", ".join(repr(name) for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        who = "every variant" if len(names) == variants > 1 else f"variant{'s' if len(names) > 1 else ''} {shown}"
        first, *rest = message.splitlines()
        lines = [line.strip() for line in rest] if rest and first.endswith("is not valid:") else [message]
        yield from (f"  {who}: {line}" for line in lines)
