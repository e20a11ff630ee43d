"""Prompts in, answers out, through the engine; an answer that is kept is not asked for again.

What a prompt means and whether an answer is right is the caller's business (see `runner`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from smidgen.inference import Engine, SamplingParams
from smidgen.inference import Sequence as Answering

Progress = Callable[[int, int], None]
"""Is told how many answers are there, and of how many."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One thing to answer."""

    item: str
    """The id of the question."""
    ids: tuple[int, ...]
    """Its symbols."""
    options: SamplingParams
    """How to answer it."""
    may_shorten: bool = False
    """If it does not fit the context: whether it loses its beginning, as few-shot ones do; else it is not asked."""
    prefix: str = ""
    """What every answer begins with that nobody said: of a chat template, `answer_prefix`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a prompt."""

    text: str
    """Up to a stop text or symbol; empty if the prompt was not asked. Kept as it came, returned without the prefix."""
    asked: bool = True
    """Whether the prompt fitted the context."""
    ended: bool = True
    """Whether it came to its end; False where it was cut at the longest allowed."""
    shortened: int = 0
    """Symbols cut off the beginning of the prompt."""


class KeptAnswers(Protocol):
    """What remembers answers between runs."""

    def find_answer(self, prompt: Prompt) -> Answer | None:
        """Return what was answered before, to exactly this prompt with exactly these options."""
        ...

    def keep_answer(self, prompt: Prompt, answer: Answer) -> None:
        """Take a new answer."""
        ...


class NothingKept:
    """Remembers nothing: every prompt is asked."""

    def find_answer(self, prompt: Prompt) -> Answer | None:
        """Return None."""
        return None

    def keep_answer(self, prompt: Prompt, answer: Answer) -> None:
        """Let go of it."""


def ask(
    engine: Engine, prompts: Sequence[Prompt], kept: KeptAnswers | None = None, progress: Progress | None = None
) -> list[Answer]:
    """Return the answers to prompts, in their order; prompts that begin alike had better stand together."""
    kept, tell = kept or NothingKept(), progress or (lambda done, total: None)
    answers: dict[int, Answer] = {}
    waiting: dict[Answering, tuple[int, int]] = {}
    for number, prompt in enumerate(prompts):
        ids, found = _fit(prompt, engine.max_len), kept.find_answer(prompt)
        if found is not None:
            answers[number] = found
        elif len(ids) >= engine.max_len:
            answers[number] = Answer("", asked=False)
        else:
            waiting[engine.add(ids, prompt.options)] = number, len(prompt.ids) - len(ids)
    tell(len(answers), len(prompts))
    while waiting:
        ended = [answering for answering in engine.step() if answering in waiting and answering.done is not None]
        for answering in ended:
            number, shortened = waiting.pop(answering)
            answers[number] = Answer(answering.text, ended=answering.done == "stop", shortened=shortened)
            kept.keep_answer(prompts[number], answers[number])
        if ended:
            tell(len(answers), len(prompts))
    told = ((prompt, answers[number]) for number, prompt in enumerate(prompts))
    return [replace(answer, text=answer.text.removeprefix(prompt.prefix)) for prompt, answer in told]


def _fit(prompt: Prompt, max_len: int) -> tuple[int, ...]:
    """Return a prompt that leaves room for its answer, though never less than half of the context for itself."""
    room = max_len - min(prompt.options.max_symbols, max_len // 2)
    return prompt.ids[-room:] if prompt.may_shorten else prompt.ids
