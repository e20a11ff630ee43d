"""The journey of `smidgen train`, in the order it happens. Each step is a room below, or a file beside this one."""

import dataclasses
import functools
from contextlib import ExitStack
from typing import Any

import torch

from smidgen.checkpoint import load_training_state, save_training_state
from smidgen.data.stream import PackedStream
from smidgen.journey.begin import Begun, begin, join
from smidgen.journey.clock import Clock
from smidgen.journey.finish import finish
from smidgen.journey.layout import lay_out
from smidgen.journey.request import Request
from smidgen.journey.screen import Screen
from smidgen.journey.tensorboard import open_tensorboard
from smidgen.journey.watching import hooks
from smidgen.runs import MetricsLog, RunDirectory
from smidgen.runtime import Runtime, choose_dtype, close_runtime, open_runtime
from smidgen.training import Outside, Progress, fit
from smidgen.training.config import TimeBudget
from smidgen.training.interrupts import stop_on_signals
from smidgen.training.objectives.next_token import next_token
from smidgen.training.outside import Saved
from smidgen.training.preflight import check_before_training, describe


def train(request: Request, screen: Screen, clock: Clock) -> RunDirectory:
    """Do what was asked, or go on with it; return the run's directory.

    Every process of a `torchrun` comes here; the first one prepares, speaks and writes for all.
    """
    runtime = open_runtime(device=request.device)
    voice = screen if runtime.is_first else Screen(quiet=True)
    try:
        with ExitStack() as held:
            own = begin(request, runtime, voice, clock, held) if runtime.is_first else None
            begun = join(own, runtime, voice)
            if isinstance(begun, RunDirectory):
                voice.say(f"{begun.path} is finished. Talk with it: smidgen chat {begun.path}; or use another --name.")
                return begun
            progress = _learn(begun, runtime, voice)
            if progress.ended == "interrupted":
                voice.say(
                    f"Stopped at {progress.share:.0%}. Go on with the same command, or: smidgen train {begun.run.path}"
                )
            elif runtime.is_first:
                finish(begun, progress, runtime, voice, clock)
            return begun.run
    finally:
        close_runtime()


def _learn(begun: Begun, runtime: Runtime, screen: Screen) -> Progress:
    """Train what was begun until its budget is used or someone asks to stop."""
    recipe, material, run = begun.recipe, begun.material, begun.run
    config = recipe.train
    if begun.training_seconds is not None:
        config = config.model_copy(update={"budget": TimeBudget(seconds=begun.training_seconds)})
    runtime = dataclasses.replace(runtime, dtype=choose_dtype(config.precision, runtime.device))
    torch.manual_seed(recipe.seed)
    model = begun.model.to(runtime.device)
    stream = PackedStream(
        material.shards.train, material.tokenizer, lay_out(config, runtime), recipe.seed, config.answer_weight
    )
    saved = [load_training_state(run.checkpoints)]
    state = saved[0]
    if state is None and runtime.is_first:
        seen = check_before_training(model, stream.batch(0), next_token, material.tokenizer, runtime)
        for line in describe(seen):
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
            return fit(model, functools.partial(stream.batches_from, prefetch=2), next_token, config, runtime, outside)
        finally:
            screen.end_progress()
