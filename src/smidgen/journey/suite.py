"""What an evaluation asks: names become tasks whose files are there and whole, before any model is loaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from smidgen.errors import ConfigError, DataError, MissingExtraError
from smidgen.tasks import TASKS, Task, load_task
from smidgen.tasks.choice import ChoiceTask
from smidgen.tasks.completion import CompletionTask
from smidgen.tasks.own import OwnTask
from smidgen.tasks.suite import SUITE, load_suite_task

Asked = ChoiceTask | CompletionTask | Task

IN_CONVERSATION = ("summarization", "translation", "village")
"""What of the whole suite is asked in conversation, behind the harness's own tasks."""
WHOLE = (*SUITE, *IN_CONVERSATION)
"""The whole suite, in the order of its table."""
_MOST_READ = 1_000_000
"""Examples of a task in a Python file; one that has more has no end."""


@dataclass(frozen=True)
class Chosen:
    """What will be asked, and what of the suite will not."""

    tasks: tuple[Asked, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    """Name and reason."""


def choose(
    names: Sequence[str], suite: bool, data: Path | None, limit: int | None, say: Callable[[str], None]
) -> Chosen:
    """Return the tasks that names mean; without a name and with `suite`, the whole suite.

    With `suite` a name is looked for in it first, without it last: `gsm8k` is the harness's five-shot prompt there and
    a question in conversation here. Of the whole suite a set that is missing or broken is skipped, and told now
    and in the end. A task in a Python file is read as far as `limit` will ask it. Raises ConfigError for a name nobody
    knows, DataError for a named task without a whole file.
    """
    if names or not suite:
        named = tuple(_checked(_load(name, suite, data, say), limit) for name in dict.fromkeys(names))
        if len({task.name for task in named}) < len(named):  # their scores would stand for each other
            one = next(task.name for at, task in enumerate(named) if task.name in {t.name for t in named[:at]})
            raise ConfigError(f"two of the tasks are called {one}. Rename one, or give two commands.")
        return Chosen(named)
    tasks, skipped = [], []
    for name in WHOLE:
        try:
            tasks.append(_checked(_load(name, True, data, say), limit))
        except (DataError, MissingExtraError) as error:
            why = str(error).partition("\n")[0].removeprefix(f"task {name}: ")
            say(f"not asked: {name}: {why}")
            skipped.append((name, why.partition(". ")[0]))  # below the table what is missing is enough
    if all(task.name == "village" for task in tasks) and skipped:
        raise DataError(f"no set of the suite is to be had. {skipped[0][0]}: {skipped[0][1]}.")
    return Chosen(tuple(tasks), tuple(skipped))


def refuse_unknown(names: Sequence[str]) -> None:
    """Raise ConfigError for a name that is no task, without reading anything."""
    for name in names:
        plain = name.partition(":")[0]
        if plain not in SUITE and plain not in TASKS and not Path(plain).suffix:
            _load(name, False, None, lambda line: None)


def _load(name: str, suite: bool, data: Path | None, say: Callable[[str], None]) -> Asked:
    in_suite = name in SUITE and (suite or name not in TASKS)
    if in_suite:
        return load_suite_task(name, data, say)
    try:
        return load_task(name, data, say)
    except ConfigError as error:
        known = f" In the suite: {', '.join(SUITE)}."
        raise ConfigError(f"{error}{known if 'is no task' in str(error) else ''}") from None


def _checked(task: Asked, limit: int | None) -> Asked:
    """Return a task after its files were read once. Raises DataError for a row that is none, with its place."""
    if isinstance(task, ChoiceTask | CompletionTask):
        _ = task.rows
    elif isinstance(task, OwnTask):  # whose examples are made one by one: the last may be the broken one
        most = min(limit or _MOST_READ + 1, _MOST_READ + 1)
        if sum(1 for _ in islice(task.examples(), most)) > _MOST_READ:
            raise DataError(f"{task.path}: examples() goes on beyond {_MOST_READ:,}. Say how many: --limit N")
    else:
        next(iter(task.examples()), None)  # of a file that is all of it; what is drawn cannot be broken
    return task
