"""The journey of `smidgen adapt`: measure, attach, learn, measure again, write what came of it."""

import dataclasses
import datetime
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from smidgen.adapting.config import Adaptation
from smidgen.adapting.examine import ADAPTED, BASE, CONTROL, Exam, Examination, Examined, Questions, score_name
from smidgen.adapting.finish import finish, round_numbers
from smidgen.adapting.lesson import Lesson
from smidgen.adapting.methods import METHODS
from smidgen.adapting.request import AdaptRequest, settle
from smidgen.adapting.selfplay import open_games
from smidgen.checkpoint import LoadedModel, load_model, load_training_state
from smidgen.config import load_config
from smidgen.errors import BudgetError, ConfigError, RunError
from smidgen.inference import Engine, prepare_for_decoding
from smidgen.inference.once import held_once
from smidgen.journey.clock import Clock
from smidgen.journey.screen import Screen
from smidgen.journey.stopping import stop_quietly
from smidgen.planning.units import format_time
from smidgen.recipe import differing_keys, format_recipe
from smidgen.runs import MetricsLog, RunDirectory, atomic_write
from smidgen.runtime import Runtime, choose_dtype, close_runtime, describe_hardware, open_runtime
from smidgen.surgery.adapter import Adapter, attach
from smidgen.surgery.config import FullConfig, write_adapter
from smidgen.tasks import load_task
from smidgen.training.config import Budget, TimeBudget
from smidgen.training.interrupts import stop_on_signals

BEFORE_ANYTHING = -1
"""A step that precedes all records: what a run that saved nothing wrote will happen again."""
LEAST_SECONDS = 20.0
"""Of learning, below which there is no point in beginning."""


@dataclass(frozen=True)
class Begun:
    """An adaptation that is ready to go."""

    asked: Adaptation
    run: RunDirectory
    loaded: LoadedModel
    adapter: Adapter
    """Attached to it, and as yet doing nothing."""
    runtime: Runtime
    screen: Screen
    examination: Examination
    material: Any
    """What its method gathered to learn from."""

    def ask(self, who: str, shots: int = 0) -> Examined:
        """Let the model sit the exam, the adapter as it is now."""
        model, screen = self.loaded.model, self.screen

        def engine() -> Engine:
            exam = self.examination.exam
            screen.say(f"Examining the {who} model in {exam.name} ...")
            model.eval()
            return Engine(prepare_for_decoding(model, self.runtime.dtype), self.loaded.tokenizer, max_rows=exam.rows)

        return self.examination.ask(who, engine, shots)


def adapt(request: AdaptRequest, screen: Screen, clock: Clock) -> RunDirectory | None:
    """Do what was asked, or go on with it; return the run's directory, or None if none was begun."""
    run: RunDirectory | None = None

    def how_to_go_on() -> str:
        if run is None or not run.is_started:
            return "Stopped while preparing: nothing was begun. The same command begins again."
        return f"Stopped. Go on with the same command, or: smidgen adapt {run.path}"

    runtime = open_runtime(device=request.device)
    try:
        with stop_quietly(screen.say, how_to_go_on), ExitStack() as held:
            if runtime.world > 1:
                raise ConfigError(f"adapt runs in one process; torchrun started {runtime.world}. Start it without.")
            asked, run = settle(request)
            if run.is_finished:
                _same(asked, request, run)
                screen.say(f"{run.path} is finished: see {run.report}. Use another --name to begin anew.")
                return run
            held.enter_context(run.lock())
            runtime = dataclasses.replace(runtime, dtype=choose_dtype(asked.precision, runtime.device))
            try:
                begun = _begin(asked, request, run, runtime, screen)
            except BaseException:  # whatever it was, Ctrl-C included: a run that never began must leave nothing
                run.discard()
                raise
            if begun.asked.base_bits is not None:
                screen.say(f"The base {begun.adapter.base_hash} is held in {begun.asked.base_bits} bits.")
                held.enter_context(held_once(begun.loaded.model, runtime.dtype, begun.asked.base_bits))
            _measure_and_learn(begun, clock)
    finally:
        close_runtime()
    return run


def _begin(asked: Adaptation, request: AdaptRequest, run: RunDirectory, runtime: Runtime, screen: Screen) -> Begun:
    """Load what is needed and write what was asked. Raises RunError if another adaptation was begun here."""
    goes_on = run.is_started
    if goes_on:
        asked = _same(asked, request, run)
    questions = None if asked.game is not None else load_task(asked.task, asked.data, screen.say)
    screen.say(f"Loading {asked.base}, and preparing {write_adapter(asked.adapter)} ...")
    loaded = load_model(asked.base, torch.float32 if isinstance(asked.adapter, FullConfig) else runtime.dtype)
    for note in loaded.notes:
        screen.say(note)
    loaded.model.to(runtime.device)
    loaded.model.compute_dtype = runtime.dtype
    exam: Exam
    if questions is None:
        exam = open_games(asked, loaded, screen.say)
    else:
        exam = Questions(questions, asked.test_examples, asked.test_symbols)
    material = METHODS[asked.by.type].gather(asked, asked.by, exam, loaded.tokenizer)
    adapter = attach(loaded.model, asked.adapter)
    if goes_on:
        screen.say(f"Going on with {run.path}.")
    else:
        facts = {
            "name": asked.name,
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "recipe": asked.model_dump(mode="json"),
            "hardware": describe_hardware(),
        }
        run.write_resolved(facts)
        atomic_write(run.recipe, format_recipe(asked, f"How {run.path.name} was adapted. Change a copy, not this."))
    examination = Examination(run.path / "examined.json", exam)
    return Begun(asked, run, loaded, adapter, runtime, screen, examination, material)


def _same(asked: Adaptation, request: AdaptRequest, run: RunDirectory) -> Adaptation:
    before = load_config(run.recipe, Adaptation)
    differing = differing_keys(before.model_dump(mode="json"), asked.model_dump(mode="json"))
    if differing:
        raise RunError(
            f"{run.path}: was begun otherwise; it differs in {', '.join(differing[:4])}. "
            f"Go on as it began with: smidgen adapt {run.path}; or use another --name."
        )
    return before


def _measure_and_learn(begun: Begun, clock: Clock) -> None:
    """Ask the base, which the adapter leaves as it is before it learns; let it learn; ask again."""
    asked, run, screen, adapter = begun.asked, begun.run, begun.screen, begun.adapter
    base = begun.ask(BASE)
    _tell(begun, base)
    missing = begun.examination.exam.why_no_control(asked.shots) if asked.shots else None
    if missing is not None:
        screen.say(f"  No control, which shows {asked.shots} worked examples (shots=0 asks for none): {missing}")
    elif asked.shots:
        _tell(begun, begun.ask(CONTROL, asked.shots))
    screen.say(f"{adapter.n_parameters:,} numbers will learn, by {asked.by.type}: {write_adapter(adapter.config)}.")
    if adapter.n_directions < adapter.n_parameters:
        screen.say(
            f"Only {adapter.n_directions:,} of them say something of their own: see docs/adapters.md, The ladder."
        )
    state = load_training_state(run.checkpoints)
    log = MetricsLog(run.metrics, state.step if state else BEFORE_ANYTHING)

    def tell(record: dict[str, Any]) -> None:
        log.append(record)
        if record["kind"] == "note":
            screen.say(record["text"])

    with stop_on_signals() as should_stop:
        lesson = Lesson(
            asked,
            begun.loaded.model,
            adapter,
            begun.loaded.tokenizer,
            begun.examination.exam,
            begun.material,
            _budget(begun, clock, base.figures["seconds"]),
            run,
            begun.runtime,
            screen,
            tell,
            should_stop,
        )
        learned = METHODS[asked.by.type].learn(lesson, asked.by)
    if not learned.is_over:
        screen.say(f"Stopped at {learned.share:.0%}. Go on with the same command, or: smidgen adapt {run.path}")
        return
    screen.say(f"Learned in {learned.steps:,} steps, {format_time(learned.seconds)}.")
    round_numbers(adapter)
    adapted = begun.ask(ADAPTED)
    finish(begun.run, asked, adapter, begun.loaded, learned, begun.examination, adapted, screen)


def _budget(begun: Begun, clock: Clock, seconds_to_ask: float) -> Budget:
    """Return what learning may use: of a time for the whole command, what measuring leaves of it.

    It is settled by the command that begins to learn; one that goes on has what that one had.
    Raises BudgetError if that is next to nothing.
    """
    budget, facts = begun.asked.budget, begun.run.read_resolved()
    if facts.get("learning_seconds") is not None:
        assert isinstance(budget, TimeBudget)  # or the recipe would differ
        return budget.model_copy(update={"seconds": facts["learning_seconds"]})
    if clock.total_seconds is None or not isinstance(budget, TimeBudget):
        return budget
    left = clock.total_seconds - clock.elapsed - 1.2 * seconds_to_ask - 5.0
    if left < LEAST_SECONDS:
        enough = clock.elapsed + 1.2 * seconds_to_ask + 5.0 + 3 * LEAST_SECONDS
        raise BudgetError(
            f"--time {format_time(clock.total_seconds)} is too short: measuring alone takes that. "
            f"Use --time {format_time(enough)}, or measure less with --limit."
        )
    begun.run.write_resolved({**facts, "learning_seconds": left})
    return budget.model_copy(update={"seconds": left})


def _tell(begun: Begun, seen: Examined) -> None:
    """Say how an exam went: the first score of each part with its interval, the others beside it."""
    exam = begun.examination.exam
    for part in exam.parts:
        first, *others = exam.scores
        told = [f"{seen.estimate(score_name(first, part))} {exam.scores[first]}"]
        told += [f"{seen.estimate(score_name(score, part)).value:.1%} {exam.scores[score]}" for score in others]
        begun.screen.say(f"  {score_name(seen.who, part)}: {'; '.join(told)}")
