"""Which objectives there are, what each asks of a model, and how one is made ready for a run."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from smidgen.data.batch import Batch
from smidgen.errors import ConfigError, TokenizerError
from smidgen.models import Model, ModelConfig
from smidgen.tokenizers.base import Tokenizer
from smidgen.training.objectives import LossSum, Objective
from smidgen.training.objectives.cross_entropy import CrossEntropy, cross_entropy_sums
from smidgen.training.objectives.early_exit import EarlyExit, EarlyExitConfig
from smidgen.training.objectives.fill_in_the_middle import FillInTheMiddleConfig, rearrange
from smidgen.training.objectives.masked import MaskedConfig, mask_rows, masked
from smidgen.training.objectives.multi_token import MultiToken, MultiTokenConfig
from smidgen.training.objectives.next_latent import NextLatent, NextLatentConfig
from smidgen.training.objectives.next_token import NextToken, NextTokenConfig, next_token
from smidgen.training.objectives.policy import Policy, PolicyConfig, weigh_answers
from smidgen.training.objectives.preference import Preference, PreferenceConfig

ObjectiveConfig = Annotated[
    NextTokenConfig
    | MultiTokenConfig
    | MaskedConfig
    | FillInTheMiddleConfig
    | NextLatentConfig
    | EarlyExitConfig
    | PolicyConfig
    | PreferenceConfig,
    Field(discriminator="type"),
]
"""The union of objectives, told apart by `type`."""

Change = Callable[[Batch, np.random.Generator], Batch]
"""What an objective does to a batch on the CPU, before the model sees it."""

LOSSES: dict[str, Callable[[Any], Objective]] = {
    "next_token": NextToken,
    "multi_token": MultiToken,
    "masked": lambda config: masked,
    "fill_in_the_middle": lambda config: next_token,
    "next_latent": NextLatent,
    "early_exit": EarlyExit,
    "policy": Policy,
    "preference": Preference,
}
"""The loss of each objective, made from its config."""

CHANGES: dict[str, Callable[[Any, Tokenizer], Change]] = {
    "masked": mask_rows,
    "fill_in_the_middle": rearrange,
    "policy": weigh_answers,
}
"""The change of batches of those that have one."""

BEYOND_TEXT = {"policy": "answers and what they earned", "preference": "pairs of answers"}
"""What objectives read that no packed text holds; such batches are made by `smidgen adapt`."""

HEADS = {"multi_token": "future", "early_exit": "exit", "next_latent": "thought"}
"""The head of the model that an objective trains."""

UNABLE = {
    ("masked", "bytepatch"): "its patches must not see the symbols they predict",
    ("early_exit", "bytepatch"): "its trunk runs once a patch, so there is nothing to leave",
}
"""Objectives that a type of model cannot do, and why."""


def find_mismatch(objective: ObjectiveConfig, model: ModelConfig, trained_before: bool = False) -> str | None:
    """Return in one line why a model cannot be trained by an objective, or None.

    Heads that nothing would train are one such reason, unless the model was `trained_before`.
    """
    if (objective.type, model.type) in UNABLE:
        return (
            f"train.objective {objective.type} cannot train a {model.type} model: {UNABLE[objective.type, model.type]}."
        )
    wanted, heads = HEADS.get(objective.type), dict(model.heads)
    if wanted is not None and heads[wanted] is None:
        return (
            f"train.objective {objective.type} trains model.heads.{wanted}, which this model lacks. "
            f"Add a table [model.heads.{wanted}], or choose another objective."
        )
    idle = [(name, kind) for kind, name in HEADS.items() if heads[name] is not None and name != wanted]
    if idle and not trained_before:
        name, kind = idle[0]
        return (
            f"model.heads.{name} is trained by train.objective {kind}, not by {objective.type}: choose it, or drop it."
        )
    return _find_wrong_weights(objective, model)


def find_unreadable(objective: ObjectiveConfig) -> str | None:
    """Return in one line why an objective cannot learn from packed text, or None."""
    wanted = BEYOND_TEXT.get(objective.type)
    if wanted is None:
        return None
    return f"train.objective {objective.type} learns from {wanted}, not from text. Use it in: smidgen adapt."


def _find_wrong_weights(objective: ObjectiveConfig, model: ModelConfig) -> str | None:
    weights = objective.weights if isinstance(objective, MultiTokenConfig | EarlyExitConfig) else None
    if weights is None:
        return None
    future, leaves = model.heads.future, model.heads.exit
    if isinstance(objective, MultiTokenConfig):
        wanted, what = future.n if future else 0, "future heads"
    else:
        depths = len(model.stack.layers)
        wanted, what = len(range(leaves.every, depths, leaves.every)) + 1 if leaves else 0, "exits, the end included"
    if len(weights) == wanted:
        return None
    return f"train.objective.weights has {len(weights)} numbers for {wanted} {what}."


@dataclass(frozen=True)
class BuiltObjective:
    """An objective ready for a run: a loss, and what happens to batches before it."""

    loss: Objective
    change: Change | None = None
    seed: int = 0

    def __call__(self, model: Model, batch: Batch, sums: CrossEntropy = cross_entropy_sums) -> LossSum:
        """Return the summed loss of a batch."""
        return self.loss(model, batch, sums)

    def over(
        self, batches_from: Callable[[int], Iterator[Sequence[Batch]]], rank: int = 0
    ) -> Callable[[int], Iterator[Sequence[Batch]]]:
        """Return the batches of a stream as this objective wants them.

        What is drawn is a function of seed, step, rank and micro-batch, so that a resumed run draws the same.
        """
        change = self.change
        if change is None:
            return batches_from

        def changed_from(step: int) -> Iterator[Sequence[Batch]]:
            for at, micros in enumerate(batches_from(step), start=step):
                keys = ([self.seed, at, rank, micro] for micro in range(len(micros)))
                yield [change(batch, np.random.default_rng(key)) for batch, key in zip(micros, keys, strict=True)]

        return changed_from


def build_objective(
    config: ObjectiveConfig, model: Model, tokenizer: Tokenizer, seed: int = 0
) -> tuple[BuiltObjective, list[str]]:
    """Make an objective for a model and freeze heads that it does not train; return it with notes to print.

    Raises ConfigError if this model or this vocabulary cannot do it.
    """
    mismatch = find_mismatch(config, model.config, trained_before=True)
    if mismatch is not None:
        raise ConfigError(mismatch)
    notes = []
    for name in ("future", "exit"):  # a thought is part of the way and always learns
        if HEADS.get(config.type) != name and dict(model.config.heads)[name] is not None:
            getattr(model.heads, name).requires_grad_(False)
            notes.append(f"model.heads.{name} stays as it is: train.objective {config.type} does not train it.")
    try:
        make_change = CHANGES.get(config.type)
        change = make_change(config, tokenizer) if make_change else None
    except TokenizerError as error:
        raise ConfigError(f"train.objective {config.type} needs a reserved symbol: {error}") from None
    return BuiltObjective(LOSSES[config.type](config), change, seed), notes
