"""How the steps of a pipeline stand in a row, and what they are called.

A step that needs the whole corpus first cuts the row: everything before it is one pass over the parts, its decision is
taken between, and its judgment opens the next pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smidgen.data.cleaning.exact import ExactConfig
from smidgen.data.cleaning.step import CorpusStep
from smidgen.data.cleaning.steps import build_step


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


def held_by(config: Any, rows: int) -> int:
    """Return the bytes of memory that a step over the whole corpus takes to decide, from tables of so many rows."""
    step = build_step(config)
    assert isinstance(step, CorpusStep)
    return step.held(rows)


def step_names(configs: Sequence[Any]) -> list[str]:
    """Return what each step is called in counts and the report: its type, numbered where it comes twice."""
    names: list[str] = []
    for config in configs:
        told = f"{config.type} ({config.unit})" if isinstance(config, ExactConfig) else config.type
        times = sum(name.partition(" #")[0] == told for name in names)
        names.append(f"{told} #{times + 1}" if times else told)
    return names
