"""Answers on disk: one file for each model, task and protocol, to which every answered batch adds one line.

A line is whole or it is not there: a process that is killed loses at most the batch under way. Damaged lines are
dropped and counted, and their items asked again. `KeptLines` is the file; of likelihoods it is what `evaluation.kept`
asks for, `KeptTexts` makes of it what `evaluation.asking` does.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

from smidgen import __version__
from smidgen.errors import RunError
from smidgen.evaluation import asking
from smidgen.evaluation.kept import Answer, conditions_key
from smidgen.runs import atomic_write
from smidgen.tasks.choice import ChoiceTask

A = TypeVar("A", Answer, asking.Answer)

_FORM = 2
"""Of the lines, `{"key": {"field": ...}}`: what was kept in another form is asked again."""


class KeptLines(Generic[A]):
    """Answers by name in a JSONL file, a line for each batch."""

    def __init__(self, path: Path, decode: Callable[[Mapping[str, Any]], A]) -> None:
        """Read what is there; `decode` raises ValueError, TypeError or KeyError for fields that are no answer.

        Raises RunError if the file cannot be read or written.
        """
        self.path = path
        self.dropped = 0
        """Lines that were damaged."""
        self._answers: dict[str, A] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            *whole, torn = path.read_bytes().split(b"\n") if path.exists() else [b""]
        except OSError as error:
            raise self._refusal(error) from None
        self.dropped += bool(torn)
        good = []
        for line in whole:
            try:
                self._answers |= {key: decode(fields) for key, fields in json.loads(line).items()}
                good.append(line + b"\n")
            except (ValueError, TypeError, AttributeError, KeyError):
                self.dropped += 1
        if self.dropped:
            atomic_write(path, b"".join(good))  # or they would be counted at every later run

    def find(self, key: str) -> A | None:
        """Return an answer by its name, if it is kept."""
        return self._answers.get(key)

    def add(self, answers: Mapping[str, A]) -> None:
        """Keep the answers of one batch. Raises RunError if the disk does not take them."""
        self._answers |= answers
        line = json.dumps({key: asdict(answer) for key, answer in answers.items()}) + "\n"
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(line.encode())  # in one call, so that two processes never write into each other's lines
        except OSError as error:
            raise self._refusal(error) from None

    def _refusal(self, error: OSError) -> RunError:
        return RunError(f"{self.path}: answers cannot be kept there ({error.strerror}).")


class KeptTexts:
    """A `KeptAnswers`: an answer in text is found again by the question's id, its symbols and its options."""

    def __init__(self, lines: KeptLines[asking.Answer]) -> None:
        """Take the file."""
        self.lines = lines

    @property
    def dropped(self) -> int:
        """Lines that were damaged."""
        return self.lines.dropped

    def find_answer(self, prompt: asking.Prompt) -> asking.Answer | None:
        """Return what was answered before, to exactly this prompt with exactly these options."""
        return self.lines.find(_prompt_key(prompt))

    def keep_answer(self, prompt: asking.Prompt, answer: asking.Answer) -> None:
        """Add one answer. Raises RunError if the disk does not take it."""
        self.lines.add({_prompt_key(prompt): answer})


def open_kept(directory: Path, model: str, task: ChoiceTask, protocol: Mapping[str, Any]) -> KeptLines[Answer]:
    """Open the likelihoods of a model, named by its fingerprint; another version of anything is another file."""
    key = _conditions(model, task.name, {"version": task.version, **protocol})
    return KeptLines(directory / model / f"{task.name}-{task.version}-{key}.jsonl", decode_likelihoods)


def open_texts(directory: Path, model: str, task: str, protocol: Mapping[str, Any]) -> KeptTexts:
    """Open what a model, named by its fingerprint, answered to a task under a protocol."""
    plain = "".join(c if c.isalnum() or c in "._-" else "_" for c in Path(task).name)
    path = directory / model / f"{plain}-{_conditions(model, task, protocol)}.jsonl"
    return KeptTexts(KeptLines(path, decode_text))


def decode_likelihoods(fields: Mapping[str, Any]) -> Answer:
    """Return the answer that fields stand for. Raises ValueError, TypeError or KeyError if they are none."""
    nats, greedy, symbols = (tuple(fields[name]) for name in ("nats", "greedy", "symbols"))
    if not len(nats) == len(greedy) == len(symbols) > 0:
        raise ValueError("an answer has as many of each as there were candidates")
    return Answer(tuple(map(float, nats)), tuple(map(bool, greedy)), tuple(map(int, symbols)), int(fields["cut"]))


def decode_text(fields: Mapping[str, Any]) -> asking.Answer:
    """Return the answer that fields stand for. Raises ValueError or TypeError if they are none."""
    answer = asking.Answer(**fields)
    kinds = (str, bool, bool, int)
    values = (answer.text, answer.asked, answer.ended, answer.shortened)
    if any(type(value) is not kind for value, kind in zip(values, kinds, strict=True)) or answer.shortened < 0:
        raise ValueError("an answer is a text, two yes or no and a count")
    return answer


def _conditions(model: str, task: str, others: Mapping[str, Any]) -> str:
    return conditions_key({"model": model, "task": task, "smidgen": __version__, "form": _FORM, **others})


def _prompt_key(prompt: asking.Prompt) -> str:
    asked = {"ids": prompt.ids, "options": prompt.options.model_dump(mode="json"), "shorten": prompt.may_shorten}
    return f"{prompt.item} {conditions_key(asked)}"
