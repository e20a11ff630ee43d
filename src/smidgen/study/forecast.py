"""What a study will cost before it runs: the table of `--dry-run`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from smidgen.journey.clock import Clock
from smidgen.models.stats import count_parameters, weight_bytes
from smidgen.planning.corpus import symbol_bytes_of
from smidgen.planning.machine import MachineFacts
from smidgen.planning.units import format_bytes, format_count, format_time
from smidgen.recipe import training_flops
from smidgen.study.layout import StudyDirectory
from smidgen.study.plan import Arm, Plan
from smidgen.training.config import TimeBudget, TokenBudget

_UTILISATION = 0.25
"""Share of the measured matrix peak that training reaches: 0.2 to 0.4 at 3M to 40M parameters (LOG.md, 2026-11)."""
_AROUND_SECONDS = 10.0
"""Starting a process, loading, samples, the report: on two cores, besides the end that grows with the run."""

COLUMNS = ("variant", "parameters", "shipped", "symbols", "text", "FLOPs/byte", "a run", "done")


@dataclass(frozen=True)
class Forecast:
    """A row of the table, and the seconds of all its runs that are still to do."""

    row: tuple[str, ...]
    seconds: float


def forecast(
    plan: Plan, directory: StudyDirectory, only: Sequence[str], measure: Callable[[], MachineFacts]
) -> list[Forecast]:
    """Return what each variant will cost; `measure` is called only where the budget is not a time."""
    peak = None if isinstance(plan.study.budget, TimeBudget) else measure().matmul_flops * _UTILISATION
    return [_forecast(arm, plan, directory, peak) for arm in plan.chosen(only)]


def _forecast(arm: Arm, plan: Plan, directory: StudyDirectory, speed: float | None) -> Forecast:
    recipe, budget = arm.recipe, arm.recipe.train.budget
    flops = training_flops(recipe)
    width = symbol_bytes_of(recipe.tokenizer.vocab_size)
    if isinstance(budget, TimeBudget):
        seconds, symbols = budget.seconds, None
    else:
        symbols = budget.tokens if isinstance(budget, TokenBudget) else budget.steps * recipe.train.batch_tokens
        seconds = symbols * flops / (speed or 1.0)
    whole = seconds + _AROUND_SECONDS + Clock().seconds_to_end(seconds)
    cells = [arm.cell(seed) for seed in plan.study.seeds]
    ships = recipe.model.model_copy(update={"heads": recipe.model.heads.shipped()})
    done = sum(1 for cell in cells if (directory.read_record(cell.key) or {}).get("status") == "finished")
    row = (
        arm.name,
        format_count(count_parameters(ships).total),
        format_bytes(weight_bytes(ships, "bf16")),
        format_count(symbols) if symbols else "by time",
        format_bytes(symbols * width) if symbols else "by time",
        format_count(flops / width),
        format_time(whole),
        f"{done}/{len(cells)}",
    )
    return Forecast(row, whole * (len(cells) - done))
