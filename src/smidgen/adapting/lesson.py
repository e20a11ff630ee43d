"""What every way of learning is given and gives back: the seam between a method and the journey around it."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from smidgen.adapting.config import Adaptation
from smidgen.adapting.examine import Exam, Questions
from smidgen.checkpoint import load_training_state, save_training_state
from smidgen.data.batch import Batch
from smidgen.data.supervised import Talk, read_talks
from smidgen.errors import ConfigError, DataError
from smidgen.journey.screen import Screen
from smidgen.models import Model
from smidgen.runs import RunDirectory
from smidgen.runtime import Runtime
from smidgen.surgery.adapter import Adapter
from smidgen.tasks import Task
from smidgen.tokenizers.base import Tokenizer
from smidgen.tokenizers.chat import Message
from smidgen.training import Outside, fit
from smidgen.training.config import Budget
from smidgen.training.fine_tuning import fine_tuning_config
from smidgen.training.objectives.build import ObjectiveConfig, build_objective
from smidgen.training.outside import Saved

SPEAK_SECONDS = 15.0
"""Between two lines of progress."""


@dataclass(frozen=True)
class Lesson:
    """Everything a method needs."""

    asked: Adaptation
    model: Model
    """The base, with the adapter attached."""
    adapter: Adapter
    tokenizer: Tokenizer
    exam: Exam
    """What the model was asked before and will be after."""
    material: Any
    """What the method gathered before anybody was asked anything; of what type is its own affair."""
    budget: Budget
    """What is left of the time, or what was asked for."""
    run: RunDirectory
    runtime: Runtime
    screen: Screen
    tell: Callable[[dict[str, Any]], None]
    """Takes records of the metrics log."""
    should_stop: Callable[[], bool]

    @property
    def task(self) -> Task:
        """The task whose questions are learned from. Raises ConfigError if it is a game, which has none."""
        return task_of(self.asked, self.exam)

    @property
    def is_new(self) -> bool:
        """Whether nothing was learned before: no state to go on from."""
        return load_training_state(self.run.checkpoints) is None

    def speaker(self) -> Callable[[str], None]:
        """Return what says a line now and then, however often it is called."""
        said = [0.0]

        def speak(line: str) -> None:
            if time.monotonic() - said[0] >= SPEAK_SECONDS:
                said[0] = time.monotonic()
                self.screen.say(line)

        return speak


@dataclass(frozen=True)
class Learned:
    """How the learning went; what was learned is in the adapter."""

    ended: str
    """budget, settled or interrupted."""
    steps: int
    share: float
    """Used share of the budget."""
    seconds: float
    symbols: int = 0
    """Symbols trained on; of a search, none."""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to go on with."""
        return self.ended != "interrupted"


def fit_lesson(
    lesson: Lesson,
    batches_from: Callable[[int], Iterator[Sequence[Batch]]],
    objective: ObjectiveConfig,
    learning_rate: float | None,
    on_record: Sequence[Callable[[dict[str, Any]], None]] = (),
) -> Learned:
    """Let the one training loop learn from batches."""
    asked, run = lesson.asked, lesson.run
    config = fine_tuning_config(asked.adapter.type, objective, lesson.budget, learning_rate)
    config = config.model_copy(update={"recompute": asked.recompute})
    built, notes = build_objective(objective, lesson.model, lesson.tokenizer, asked.seed)
    for note in notes:
        lesson.screen.say(note)

    def load() -> Saved | None:
        newest = load_training_state(run.checkpoints)
        return None if newest is None else (newest.step, newest.tensors, newest.meta)

    outside = Outside(
        save_state=functools.partial(save_training_state, run.checkpoints),
        load_state=load,
        log=lesson.tell,
        should_stop=lesson.should_stop,
        on_record=on_record,
        checkpoint_seconds=config.checkpoint_seconds,
    )
    progress = fit(lesson.model, built.over(batches_from), built, config, lesson.runtime, outside)
    return Learned(progress.ended, progress.step, progress.share, progress.seconds, progress.symbols)


def task_of(asked: Adaptation, exam: Exam) -> Task:
    """Return the task whose questions are learned from. Raises ConfigError if it is a game, which has none."""
    if not isinstance(exam, Questions):
        raise ConfigError(f"task {asked.task}: is a game, which asks no questions. Learn it by selfplay.")
    return exam.task


def talks_of(asked: Adaptation, exam: Exam, data: Path | None, pool: int) -> list[Talk]:
    """Return conversations to learn from: those of a file, or of `pool` training examples of the task.

    They are as often as the task draws them: of 10,000 sums 1,746 are different, and each of those once would be mostly
    the hard ones (46% right of the test instead of 51%, 840 numbers). A task that comes to its end begins again, with
    the same ids: there it is left. Raises DataError if there are none.
    """
    if data is not None:
        return read_talks(data)
    task, talks = task_of(asked, exam), list[Talk]()
    met: set[tuple[str, Talk]] = set()
    for example in islice(task.training_examples(asked.seed), pool):
        talk = (*task.prompt(example), Message("assistant", example.answer))
        if (example.id, talk) in met:
            break
        met.add((example.id, talk))
        talks.append(talk)
    if not talks:
        raise DataError(f"task {task.name}: has no examples to learn from.")
    return talks


@contextmanager
def as_it_was(adapter: Adapter, state: Mapping[str, Tensor]) -> Iterator[None]:
    """Within this context an adapter has the tensors of an earlier `state`, of which the caller has copies."""
    now = {name: tensor.clone() for name, tensor in adapter.state().items()}
    adapter.load_state(state)
    try:
        yield
    finally:
        adapter.load_state(now)
