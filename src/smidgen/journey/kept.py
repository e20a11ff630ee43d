"""Answers on disk: one file for each model, task and protocol, to which every scored batch adds one line.

A line is whole or it is not there: a process that is killed loses at most the batch under way. Damaged lines are
dropped and counted, and their items scored again.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smidgen import __version__
from smidgen.errors import RunError
from smidgen.evaluation.kept import Answer, conditions_key
from smidgen.runs import atomic_write
from smidgen.tasks.choice import ChoiceTask


class KeptFile:
    """A `Kept` in a JSONL file."""

    def __init__(self, path: Path) -> None:
        """Read what is there. Raises RunError if the file cannot be read or written."""
        self.path = path
        self.dropped = 0
        """Lines that were damaged."""
        self._answers: dict[str, Answer] = {}
        try:
            lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path}: answers cannot be kept there ({error.strerror}).") from None
        *whole, torn = lines
        self.dropped += bool(torn)
        good = []
        for line in whole:
            try:
                self._answers |= {key: _answer(fields) for key, fields in json.loads(line).items()}
                good.append(line + b"\n")
            except (ValueError, TypeError, AttributeError, KeyError):
                self.dropped += 1
        if self.dropped:
            atomic_write(path, b"".join(good))

    def find(self, key: str) -> Answer | None:
        """Return the answer to an item, if it is kept."""
        return self._answers.get(key)

    def add(self, answers: Mapping[str, Answer]) -> None:
        """Keep the answers of one batch. Raises RunError if the disk does not take them."""
        self._answers |= answers
        line = json.dumps({key: asdict(answer) for key, answer in answers.items()}) + "\n"
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(f"{self.path}: answers cannot be kept there ({error.strerror}).") from None


def open_kept(directory: Path, model: str, task: ChoiceTask, protocol: Mapping[str, Any]) -> KeptFile:
    """Open the answers of a model, named by its fingerprint, to a task; another version of anything is another file."""
    key = conditions_key(
        {"model": model, "task": task.name, "version": task.version, "smidgen": __version__, **protocol}
    )
    return KeptFile(directory / model / f"{task.name}-{task.version}-{key}.jsonl")


def _answer(fields: Mapping[str, Any]) -> Answer:
    nats, greedy, symbols = (tuple(fields[name]) for name in ("nats", "greedy", "symbols"))
    if not len(nats) == len(greedy) == len(symbols) > 0:
        raise ValueError("an answer has as many of each as there were candidates")
    return Answer(tuple(map(float, nats)), tuple(map(bool, greedy)), tuple(map(int, symbols)), int(fields["cut"]))
