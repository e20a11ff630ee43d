"""Answers in text on disk, so that a killed evaluation asks nothing twice; `kept.py` does the same for likelihoods.

One file for each model, task and protocol; a line is whole or it is not there, and damaged ones are asked again.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smidgen import __version__
from smidgen.errors import RunError
from smidgen.evaluation.asking import Answer, Prompt
from smidgen.evaluation.kept import conditions_key


class KeptTexts:
    """A `KeptAnswers` in a JSONL file: an answer is found again by the question's id, its symbols and its options."""

    def __init__(self, path: Path) -> None:
        """Read what is there. Raises RunError if the file cannot be read or written."""
        self.path = path
        self.dropped = 0
        """Lines that were damaged."""
        self._answers: dict[str, Answer] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes() if path.exists() else b""
            if content and not content.endswith(b"\n"):
                with path.open("ab") as file:  # what is torn must not take the next line with it
                    file.write(b"\n")
        except OSError as error:
            raise RunError(f"{path}: answers cannot be kept there ({error.strerror}).") from None
        for line in content.splitlines():
            try:
                fields = json.loads(line)
                key = fields.pop("key")
                self._answers[key] = Answer(**fields)
            except (ValueError, TypeError, AttributeError, KeyError):
                self.dropped += 1

    def find_answer(self, prompt: Prompt) -> Answer | None:
        """Return what was answered before, to exactly this prompt with exactly these options."""
        return self._answers.get(_key(prompt))

    def keep_answer(self, prompt: Prompt, answer: Answer) -> None:
        """Add one answer. Raises RunError if the disk does not take it."""
        line = json.dumps({"key": _key(prompt), **asdict(answer)}) + "\n"
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)  # closed at once: what is written outlives a process that is killed
        except OSError as error:
            raise RunError(f"{self.path}: answers cannot be kept there ({error.strerror}).") from None


def open_texts(directory: Path, model: str, task: str, protocol: Mapping[str, Any]) -> KeptTexts:
    """Open what a model, named by its fingerprint, answered to a task under a protocol."""
    key = conditions_key({"model": model, "task": task, "smidgen": __version__, **protocol})
    plain = "".join(c if c.isalnum() or c in "._-" else "_" for c in Path(task).name)
    return KeptTexts(directory / model / f"{plain}-{key}.jsonl")


def _key(prompt: Prompt) -> str:
    asked = {"ids": prompt.ids, "options": prompt.options.model_dump(mode="json"), "shorten": prompt.may_shorten}
    return f"{prompt.item} {conditions_key(asked)}"
