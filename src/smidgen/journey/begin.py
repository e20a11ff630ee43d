"""The first half of the journey: settle the request, prepare the text, make the model. Writes the run's first files.

A run is begun when its recipe stands; whatever fails before leaves nothing behind.
"""

import dataclasses
import datetime
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from smidgen.checkpoint import load_model
from smidgen.errors import RunError
from smidgen.journey.clock import Clock
from smidgen.journey.material import Material, make_material, open_material, open_source
from smidgen.journey.request import Request, Settled, settle
from smidgen.journey.screen import Screen
from smidgen.models import Model, build_model
from smidgen.models.llama import LlamaConfig
from smidgen.models.stats import count_parameters, kv_bytes_per_symbol
from smidgen.planning.machine import MachineFacts, seconds_per_step
from smidgen.planning.measure import measure_machine, remembered_machine
from smidgen.planning.render import render_plan
from smidgen.planning.units import format_bytes, parse_time
from smidgen.recipe import Recipe, VillageData, format_recipe, load_recipe, recipe_from, training_flops
from smidgen.runs import RunDirectory, atomic_write
from smidgen.runtime import Runtime, describe_hardware, hear_first, tell_others
from smidgen.training.config import StepBudget, TimeBudget, TokenBudget

_QUICK_SHARE = 0.02
"""Share of the training time spent on measuring held-out text on the way."""
_QUICK_SYMBOLS = (4_096, 262_144)
_USUAL_MFU = 0.3
"""Of a training step on two cores at 10M parameters: 0.34 (measured.md)."""


@dataclass(frozen=True)
class Begun:
    """A run that is ready to be trained."""

    run: RunDirectory
    recipe: Recipe
    material: Material
    model: Model
    resolved: dict[str, Any]
    """What resolved.json says."""

    @property
    def total_seconds(self) -> float | None:
        """Seconds of the whole command that began the run, if it was given a time."""
        asked = self.resolved["asked"]["time"]
        return None if asked is None else parse_time(asked)

    @property
    def training_seconds(self) -> float | None:
        """Seconds of training of a run that was given a whole time; None: the recipe's budget says it all."""
        return self.resolved["training_seconds"]


def begin(request: Request, runtime: Runtime, screen: Screen, clock: Clock, held: ExitStack) -> Begun | RunDirectory:
    """Prepare a run, or open the one that goes on; one that is finished is only returned. The lock goes to `held`."""
    settled = settle(request, lambda: measure_machine(runtime))
    run = settled.run
    if run.is_finished:
        return run
    held.enter_context(run.lock())
    if run.is_started:
        screen.say(f"Going on with {run.path}.")
        begun = open_begun(run, screen)
        begun.material.shards.verify()  # other symbols would be another run: bit for bit is the promise
        return begun
    if settled.plan is not None:
        screen.say(render_plan(settled.plan))
        if request.steps is not None:
            screen.say(f"--steps {request.steps} stands in place of the planned budget.")
    try:
        return _start(request, settled, runtime, screen, clock)
    except BaseException:  # whatever it was, Ctrl-C included: a run that never began must leave nothing
        run.discard()
        raise


def begin_together(
    request: Request, runtime: Runtime, screen: Screen, clock: Clock, held: ExitStack
) -> Begun | RunDirectory | None:
    """Let the first process begin and give every other one what it began; None where it could not."""
    if runtime.is_first:
        begun = None
        try:
            begun = begin(request, runtime, screen, clock, held)
        finally:
            path = begun.path if isinstance(begun, RunDirectory) else begun.run.path if begun else ""
            tell_others(runtime, str(path))
        return begun
    path = hear_first(runtime)
    if not path:
        return None
    run = RunDirectory(path)
    return run if run.is_finished else open_begun(run, screen)


def open_begun(run: RunDirectory, screen: Screen) -> Begun:
    """Open a run that was begun. Raises RunError if its text is gone and cannot be had again."""
    recipe, resolved = load_recipe(run.recipe), run.read_resolved()
    if run.has_data:
        material = open_material(run)
    else:
        source = open_source(recipe)
        if source.fingerprint != resolved["data"]["hash"]:
            raise RunError(f"{run.path}: its text has changed since it began. Start anew with another --name.")
        material = make_material(recipe, source, run, screen, None)
    return Begun(run, recipe, material, _make_model(recipe), resolved)


def _start(request: Request, settled: Settled, runtime: Runtime, screen: Screen, clock: Clock) -> Begun:
    """Make everything a run needs, and write its recipe last."""
    run, recipe = settled.run, settled.recipe
    run.discard_parts()
    source = open_source(recipe)
    if request.shared is not None:
        run.adopt_text(RunDirectory(request.shared.text))
    start = settled.start or (load_model(recipe.start_from, dtype=torch.float32) if recipe.start_from else None)
    screen.say(f"Preparing {_source_name(recipe)} ...")
    material = make_material(recipe, source, run, screen, start.tokenizer if start else None)
    if start is None:
        recipe = _with_vocabulary(recipe, material.tokenizer.vocab_size)
    model = start.model if start else _make_model(recipe)
    seconds = None if clock.total_seconds is None else clock.training_seconds()
    facts = _facts(request, dataclasses.replace(settled, recipe=recipe), material, runtime, seconds)
    run.write_resolved(facts)
    atomic_write(
        run.recipe, format_recipe(recipe, f"What {run.path.name} was trained by. Change a copy, not this file.")
    )
    return Begun(run, recipe, material, model, run.read_resolved())


def _make_model(recipe: Recipe) -> Model:
    if recipe.start_from is not None:
        return load_model(recipe.start_from, dtype=torch.float32).model
    return build_model(recipe.model, recipe.seed)


def _with_vocabulary(recipe: Recipe, vocab_size: int) -> Recipe:
    """Return the recipe with the vocabulary the text really gave: a model of unused symbols would say them."""
    if vocab_size == recipe.model.vocab_size:
        return recipe
    data = recipe.model_dump(mode="json", exclude_none=True)
    data["model"]["vocab_size"] = data["tokenizer"]["vocab_size"] = vocab_size
    return recipe_from(data, "the recipe with the vocabulary of the text")


def _source_name(recipe: Recipe) -> str:
    data = recipe.data
    if isinstance(data, VillageData):
        return f"{format_bytes(data.text_bytes)} of the village"
    return str(data.path)


def _facts(
    request: Request, settled: Settled, material: Material, runtime: Runtime, training_seconds: float | None
) -> dict[str, Any]:
    """Return what resolved.json is to say of a run that begins."""
    recipe, plan = settled.recipe, settled.plan
    machine = remembered_machine(runtime)
    budget = recipe.train.budget
    seconds = training_seconds or (budget.seconds if isinstance(budget, TimeBudget) else None)
    return {
        "name": recipe.name,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "asked": request.identity(),
        "training_seconds": training_seconds,
        "validation_bytes": request.shared.curve_bytes if request.shared else None,
        "readings": _readings(recipe, machine, seconds, material),
        "validation_symbols": _quick_symbols(recipe, machine, seconds),
        "peak_flops": machine.matmul_flops if machine else None,
        "recipe": recipe.model_dump(mode="json"),
        "plan": plan.as_dict() if plan else None,
        "data": material.facts(),
        "model": {
            "parameters": count_parameters(recipe.model).total,
            "flops_per_symbol": training_flops(recipe),
            "kv_bytes_per_symbol": kv_bytes_per_symbol(recipe.model),
        },
        "hardware": describe_hardware(),
        "processes": runtime.world,
    }


def _readings(recipe: Recipe, machine: MachineFacts | None, seconds: float | None, material: Material) -> float | None:
    """Return about how many times the run will read its data, settled once; None if this machine's speed is unknown."""
    train = recipe.train
    if isinstance(train.budget, StepBudget):
        symbols = train.budget.steps * train.batch_tokens
    elif isinstance(train.budget, TokenBudget):
        symbols = train.budget.tokens
    elif machine is not None and seconds is not None:
        symbols = seconds / _step_seconds(recipe, machine) * train.batch_tokens
    else:
        return None
    return round(symbols / max(1, material.shards.train.symbols), 2)


def _step_seconds(recipe: Recipe, machine: MachineFacts) -> float:
    train = recipe.train
    if not isinstance(recipe.model, LlamaConfig):  # whose steps nobody has taken apart yet: by operations alone
        flops = training_flops(recipe)
        return train.batch_tokens * flops / (_USUAL_MFU * machine.matmul_flops)
    rows = min(16, train.batch_tokens // train.seq_len)
    return seconds_per_step(recipe.model, machine, train.batch_tokens, train.seq_len, rows, compiled=False)


def _quick_symbols(recipe: Recipe, machine: MachineFacts | None, seconds: float | None) -> int:
    """Return how many held-out symbols are scored each time on the way; settled once: one curve, one measure."""
    least, most = _QUICK_SYMBOLS
    if machine is None or seconds is None:
        return 4 * least
    train = recipe.train
    forward = 3 * train.batch_tokens / _step_seconds(recipe, machine)  # a backward costs two forwards
    return round(min(max(_QUICK_SHARE * seconds / train.evaluations * forward, least), most))
