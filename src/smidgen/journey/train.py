"""The journey of `smidgen train`, in the order it happens. Each step is a room below, or a file beside this one."""

import dataclasses
import functools
from contextlib import ExitStack
from typing import Any

import torch

from smidgen.checkpoint import load_training_state, save_training_state
from smidgen.data.stream import PackedStream
from smidgen.errors import ConfigError
from smidgen.journey.begin import Begun, begin_together
from smidgen.journey.clock import Clock
from smidgen.journey.finish import finish, write_pages
from smidgen.journey.layout import lay_out
from smidgen.journey.request import Request
from smidgen.journey.screen import Screen
from smidgen.journey.stopping import stop_quietly
from smidgen.journey.tensorboard import open_tensorboard
from smidgen.journey.watching import hooks
from smidgen.models import Model
from smidgen.runs import MetricsLog, RunDirectory
from smidgen.runtime import Runtime, choose_dtype, close_runtime, open_runtime
from smidgen.training import Outside, Progress, fit
from smidgen.training.config import TimeBudget, TrainConfig
from smidgen.training.interrupts import stop_on_signals
from smidgen.training.objectives.build import BuiltObjective, build_objective
from smidgen.training.outside import Saved
from smidgen.training.preflight import check_before_training, describe
from smidgen.training.schedule import resolve_dropout


def train(request: Request, screen: Screen, clock: Clock) -> RunDirectory | None:
    """Do what was asked, or go on with it; return the run's directory, or None if none was begun.

    Every process of a `torchrun` comes here; the first one prepares, speaks and writes for all. SIGINT and SIGTERM end
    it at any time, with one line on how to go on.
    """
    runtime = open_runtime(device=request.device)
    voice = screen if runtime.is_first else Screen(quiet=True)
    run: RunDirectory | None = None

    def how_to_go_on() -> str:
        if run is None:
            return "Stopped while preparing: nothing was begun. The same command begins again."
        return f"Stopped. Go on with the same command, or: smidgen train {run.path}"

    try:
        with stop_quietly(voice.say, how_to_go_on), ExitStack() as held:
            begun = begin_together(request, runtime, voice, clock, held)
            if isinstance(begun, Begun):
                run = begun.run
                _learn_and_finish(begun, runtime, voice, clock)
            elif begun is not None:
                run = begun
                _show_finished(run, runtime, voice)
    finally:
        close_runtime()
    return run


def _show_finished(run: RunDirectory, runtime: Runtime, screen: Screen) -> None:
    if runtime.is_first and not run.report.is_file():
        write_pages(run)  # it was stopped between its figures and the pages made from them
    screen.say(f"{run.path} is finished. Talk with it: smidgen chat {run.path}; or use another --name.")


def _learn_and_finish(begun: Begun, runtime: Runtime, screen: Screen, clock: Clock) -> None:
    if clock.total_seconds is None and begun.total_seconds is not None:  # said by the command that began it
        clock = dataclasses.replace(clock, total_seconds=begun.total_seconds)
    progress = _learn(begun, runtime, screen)
    if progress.ended == "interrupted":
        path = begun.run.path
        screen.say(f"Stopped at {progress.share:.0%}. Go on with the same command, or: smidgen train {path}")
    elif runtime.is_first:
        finish(begun, progress, runtime, screen, clock)


def _settle(begun: Begun, config: TrainConfig, model: Model) -> tuple[BuiltObjective, TrainConfig, list[str]]:
    """Make the objective, decide the dropout that was left open, and return them with what to say of it."""
    objective, notes = build_objective(config.objective, model, begun.material.tokenizer, begun.recipe.seed)
    dropout, note = resolve_dropout(config.dropout, begun.resolved.get("readings"))
    return objective, config.model_copy(update={"dropout": dropout}), notes + ([note] if note else [])


def _check_clock(config: TrainConfig, runtime: Runtime) -> None:
    budget = config.budget
    if isinstance(budget, TimeBudget) and budget.clock == "processor" and runtime.device.type != "cpu":
        raise ConfigError(f"train.budget.clock processor counts a CPU; on {runtime.device.type} use wall.")


def _learn(begun: Begun, runtime: Runtime, screen: Screen) -> Progress:
    """Train what was begun until its budget is used or someone asks to stop."""
    recipe, material, run = begun.recipe, begun.material, begun.run
    config = recipe.train
    if begun.training_seconds is not None:
        config = config.model_copy(update={"budget": TimeBudget(seconds=begun.training_seconds)})
    _check_clock(config, runtime)
    runtime = dataclasses.replace(runtime, dtype=choose_dtype(config.precision, runtime.device))
    torch.manual_seed(recipe.seed)
    model = begun.model.to(runtime.device)
    stream = PackedStream(
        material.shards.train, material.tokenizer, lay_out(config, runtime), recipe.seed, config.answer_weight
    )
    objective, config, notes = _settle(begun, config, model)
    saved = [load_training_state(run.checkpoints)]
    state = saved[0]
    if state is None and runtime.is_first:
        seen = check_before_training(model, stream.batch(0), objective, material.tokenizer, runtime)
        for line in (*describe(seen), *notes):
            screen.say(line)
    elif state is not None and state.note:
        screen.say(state.note)
    log = MetricsLog(run.metrics, state.step if state else 0) if runtime.is_first else None

    def load() -> Saved | None:
        newest = saved.pop() if saved else load_training_state(run.checkpoints)
        return None if newest is None else (newest.step, newest.tensors, newest.meta)

    def tell(record: dict[str, Any]) -> None:
        if log is not None:
            log.append(record)
        if record["kind"] == "note":
            screen.say(record["text"])

    def watch_repetition(record: dict[str, Any]) -> None:
        note = stream.repetition_note(record["step"])
        if note is not None and runtime.is_first:
            tell({"kind": "note", "step": record["step"], "text": note})

    shown = [open_tensorboard(run.path / "tensorboard")] if config.tensorboard and runtime.is_first else []
    with stop_on_signals() as should_stop:
        outside = Outside(
            save_state=functools.partial(save_training_state, run.checkpoints),
            load_state=load,
            log=tell,
            hooks=hooks(begun, runtime, tell) if runtime.is_first else (),
            should_stop=should_stop,
            flops_per_symbol=begun.resolved["model"]["flops_per_symbol"],
            peak_flops=(begun.resolved["peak_flops"] or 0.0) * runtime.world,
            on_record=[screen.show_progress, watch_repetition, *shown],
            checkpoint_seconds=config.checkpoint_seconds,
            checkpoint_steps=config.checkpoint_steps,
            is_first=runtime.is_first,
        )
        try:
            batches_from = objective.over(functools.partial(stream.batches_from, prefetch=2), runtime.rank)
            return fit(model, batches_from, objective, config, runtime, outside)
        finally:
            screen.end_progress()
