"""A task that a person wrote, in one Python file. The file is run, with all that its author may do, and that is said.

What the person's code returns is checked where it comes back, so that a slip in it is one line with its place and not
a run that learns nothing.
"""

import importlib.util
import math
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

from smidgen.errors import ConfigError, DataError, SmidgenError
from smidgen.tasks.base import Example, Grade, default_reward, worked_prompt
from smidgen.tasks.files import Files, shown
from smidgen.tokenizers.chat import Message

NEEDED = ("examples", "grade")
"""What a task must have; `training_examples` to be trained on, `prompt`, `reward` and `few_shot` if it likes."""


@dataclass(frozen=True)
class OwnTask:
    """A person's task with what it leaves out filled in, and its results checked."""

    name: str
    """The name of its file."""
    path: Path
    """The file."""
    inner: Any
    """The person's object."""

    def examples(self) -> Iterator[Example]:
        """Yield the person's test set."""
        return self._checked("examples")

    def training_examples(self, seed: int) -> Iterator[Example]:
        """Yield the person's training examples, again if they end. Raises DataError if there are none."""
        if not self._has("training_examples"):
            raise DataError(f"{self.path}: the task has no training_examples(seed), so it cannot be trained on.")
        for epoch in count(seed):
            examples = self._checked("training_examples", epoch)
            first = next(examples, None)
            if first is None:
                raise DataError(f"{self.path}: training_examples({epoch}) is empty.")
            yield first
            yield from examples

    def prompt(self, example: Example) -> list[Message]:
        """Return the person's prompt, text or messages; the question itself if the task has none."""
        asked = self._run("prompt", example) if self._has("prompt") else example.question
        return self._messages("prompt", [Message("user", asked)] if isinstance(asked, str) else asked)

    def grade(self, example: Example, answer: str) -> Grade:
        """Return the person's grade; a number counts as strict and lenient score, and the form as kept."""
        grade = self._run("grade", example, answer)
        if not isinstance(grade, Grade):
            value = self._number("grade", grade, "a number from 0 to 1 or a Grade")
            return Grade(value, value, True)
        strict = self._number("grade", grade.strict, "a strict score from 0 to 1")
        lenient = self._number("grade", grade.lenient, "a lenient score from 0 to 1")
        return Grade(strict, lenient, bool(grade.formatted))

    def reward(self, example: Example, answer: str) -> float:
        """Return the person's reward; the strict score if the task has none."""
        if not self._has("reward"):
            return default_reward(self.grade(example, answer))
        return self._number("reward", self._run("reward", example, answer), "a number from 0 to 1")

    def few_shot(self, example: Example, k: int) -> list[Message]:
        """Return the prompt with `k` worked training examples in front."""
        if self._has("few_shot"):
            return self._messages("few_shot", self._run("few_shot", example, k))
        if k and not self._has("training_examples"):
            told = f"{self.path}: the task has neither few_shot(example, k) nor training_examples(seed)"
            raise DataError(f"{told}, so there are no worked examples to show.")
        return worked_prompt(self, example, k) if k else self.prompt(example)

    def _has(self, method: str) -> bool:
        return callable(getattr(self.inner, method, None))

    def _run(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self.inner, method)(*arguments)
        except SmidgenError:
            raise
        except Exception as error:  # a person's code, and may raise anything
            raise DataError(f"{self.path}: {method}() failed: {describe(error, self.path)}") from None

    def _checked(self, method: str, *arguments: Any) -> Iterator[Example]:
        try:
            for example in getattr(self.inner, method)(*arguments):
                if not isinstance(example, Example):
                    wanted = "an Example(id, question, answer)"
                    raise DataError(f"{self.path}: {method}() gave {shown(example)}, not {wanted}.")
                yield example
        except SmidgenError:
            raise
        except Exception as error:  # a person's code, and may raise anything
            raise DataError(f"{self.path}: {method}() failed: {describe(error, self.path)}") from None

    def _messages(self, method: str, asked: Any) -> list[Message]:
        if isinstance(asked, list) and asked and all(isinstance(message, Message) for message in asked):
            return asked
        raise DataError(f"{self.path}: {method}() returned {shown(asked)}, neither text nor a list of Message.")

    def _number(self, method: str, value: Any, wanted: str) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if isinstance(value, str) or not 0 <= number <= 1:  # NaN is in no range
            raise DataError(f"{self.path}: {method}() returned {shown(value)}, not {wanted}.")
        return number


def load_own(path: Path, files: Files) -> OwnTask:
    """Run a person's Python file and return its task: `task`, or its only class with `examples` and `grade`.

    Raises ConfigError if the file is missing, fails, or holds no task.
    """
    if not path.is_file():
        raise ConfigError(f"--task {path}: no such file.")
    files.say(f"Running {path}: a task file is Python code and may do all that you may.")
    module = _run_file(path)
    inner = vars(module)["task"] if "task" in vars(module) else _only_class(module, path)
    inner = _construct(inner, path) if isinstance(inner, type) else inner
    if missing := [name for name in NEEDED if not callable(getattr(inner, name, None))]:
        raise ConfigError(f"{path}: its task has no {missing[0]}(). A task needs {' and '.join(NEEDED)}.")
    return OwnTask(path.stem, path, inner)


def describe(error: BaseException, path: Path) -> str:
    """Return what an error says and the line of the person's file it came from, on one line."""
    frames = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path.absolute()
    ]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1] if frames else None
    said = (error.msg if isinstance(error, SyntaxError) else str(error)).strip().partition("\n")[0]
    return f"{type(error).__name__}{': ' * bool(said)}{said}{f' (line {line})' if line else ''}."


def _run_file(path: Path) -> ModuleType:
    name = f"smidgen_own_task_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: cannot be run as Python.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up by its name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigError(f"{path}: cannot be run: {describe(error, path)}") from None
    return module


def _only_class(module: ModuleType, path: Path) -> type:
    written = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and {*NEEDED} <= {*dir(value)}
    ]
    if len(written) != 1:
        found = f"{len(written)} classes with them" if written else "no class with them"
        raise ConfigError(
            f"{path}: defines no `task`, and {found}. Write task = ..., an object with {' and '.join(NEEDED)}."
        )
    return written[0]


def _construct(cls: Callable[[], Any], path: Path) -> Any:
    try:
        return cls()
    except Exception as error:  # a module of a person's own, and may raise anything
        raise ConfigError(f"{path}: the task cannot be made without arguments: {describe(error, path)}") from None
