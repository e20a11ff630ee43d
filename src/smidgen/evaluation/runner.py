"""Tasks put to a model through the engine: every score with its interval, and beside it what costs nothing.

Strict, lenient and format rate stand together, because a gain in one alone is often only a gain in form. Prompts come
from the task, symbols from the engine; this file asks, grades and counts. Tasks of conversations (`tasks.Task`) and of
plain text to go on with (`tasks.completion`) differ in how a prompt becomes symbols, and in nothing else.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from typing import Any

from smidgen.errors import ConfigError, DataError
from smidgen.evaluation.asking import Answer, KeptAnswers, Progress, Prompt, ask
from smidgen.evaluation.contexts import encode_context
from smidgen.evaluation.intervals import Estimate, estimate_share
from smidgen.evaluation.passes import Sampled, estimate_passes
from smidgen.inference import Engine, SamplingParams
from smidgen.tasks.base import Example, Grade, Task
from smidgen.tasks.completion import CompletionItem, CompletionTask
from smidgen.tasks.question import Measure, QuestionTask
from smidgen.tokenizers.base import Tokenizer
from smidgen.tokenizers.chat import answer_prefix, encode_chat

_ANSWER_SYMBOLS = 48
"""Least room for an answer: the longest right one of the village has 12 words; what babbles on is cut and counted."""
_ANSWER_SLACK = 16
"""Symbols an answer may be longer than the longest right one, as with a few words before it."""
_MOST_COUNTED = 100_000
"""Examples counted beyond those asked, to say `n of N`: a task of one's own may go on for ever."""


@dataclass(frozen=True)
class Item:
    """One example, asked and graded."""

    example: Example
    answer: str
    """What the model said; empty if the prompt did not fit its context."""
    grade: Grade
    asked: bool
    """Whether the prompt fitted."""
    cut: bool
    """Whether the answer was still going on when it reached the longest allowed."""
    shortened: int = 0
    """Symbols of the prompt's beginning that did not fit."""
    sampled: tuple[Grade, ...] = ()
    """Grades of the sampled answers, where some were asked for."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `metrics.json`."""
        grades = {"strict": self.grade.strict, "lenient": self.grade.lenient, "formatted": self.grade.formatted}
        told = {"id": self.example.id, "kind": self.example.kind, "prompt": self.example.question}
        return told | {"answer": self.answer, "expected": self.example.answer} | grades


@dataclass(frozen=True)
class KindResult:
    """The score of one kind of example."""

    kind: str
    strict: Estimate
    lenient: Estimate
    chance: float
    majority: float


@dataclass(frozen=True)
class TaskResult:
    """The score of a model on a task."""

    name: str
    items: tuple[Item, ...]
    """Every example in the task's order, for paired comparison of two models (`estimate_difference`)."""
    strict: Estimate
    lenient: Estimate
    format: Estimate
    """Share of answers in the asked form, right or wrong."""
    chance: float
    """Mean over the examples of the chance a guess among plausible candidates has."""
    majority: float
    """Strict score of always giving the most frequent right answer of each kind, counted on the other examples."""
    kinds: tuple[KindResult, ...]
    """The kinds with most examples first."""
    options: SamplingParams
    seconds: float
    of: int
    """Examples there are; as many as `items` unless there was a limit."""
    passes: dict[int, Estimate]
    """pass@k, strictly, by k; empty if no answers were sampled."""
    lenient_passes: dict[int, Estimate]
    """The same of the lenient scores."""
    measures: tuple[Measure, ...] = ()
    """What papers report of all answers together, BLEU say; empty for most tasks."""

    @property
    def unasked(self) -> int:
        """Examples whose prompt does not fit the model's context: graded as wrong."""
        return sum(not item.asked for item in self.items)

    @property
    def shortened(self) -> int:
        """Examples whose prompt lost its beginning to the model's context."""
        return sum(item.shortened > 0 for item in self.items)

    @property
    def cut(self) -> int:
        """Answers that reached the longest allowed without ending."""
        return sum(item.cut for item in self.items)

    def as_dict(self, most_items: int = 20) -> dict[str, Any]:
        """Return plain values for `metrics.json`, with items drawn evenly over the task."""
        step = max(1, len(self.items) // max(1, most_items))
        counts = {"n": len(self.items), "of": self.of, "unasked": self.unasked, "shortened": self.shortened}
        return {
            "name": self.name,
            **counts,
            "cut": self.cut,
            "seconds": self.seconds,
            **{name: getattr(self, name).as_dict() for name in ("strict", "lenient", "format")},
            **{f"pass@{k}": estimate.as_dict() for k, estimate in self.passes.items()},
            **{f"lenient pass@{k}": estimate.as_dict() for k, estimate in self.lenient_passes.items()},
            "measures": [asdict(measure) for measure in self.measures],
            "chance": self.chance,
            "majority": self.majority,
            "kinds": [asdict(kind) for kind in self.kinds],
            "items": [item.as_dict() for item in self.items[::step][:most_items]],
            "options": self.options.model_dump(mode="json"),
        }


@dataclass(frozen=True)
class _Asking:
    """A task seen from here: examples, what each is asked by, how an answer is graded."""

    name: str
    examples: Sequence[Example]
    prompts: Sequence[Prompt]
    """Of the greedy answers, or whatever way of answering was asked for."""
    grade: Callable[[int, str], Grade]
    """Of the answer to the example at a place."""
    options: SamplingParams
    of: int


def run_task(
    task: Task,
    engine: Engine,
    limit: int | None = None,
    options: SamplingParams | None = None,
    progress: Progress | None = None,
    kept: KeptAnswers | None = None,
    sampled: Sampled | None = None,
) -> TaskResult:
    """Ask the first `limit` examples of a task (None: all) and grade the answers, greedy unless `options` say else.

    `progress` is called with answered and total. A prompt that does not fit the context is graded as wrong and counted.
    `sampled` asks for more answers to each, for pass@k. Raises DataError if the task has no example.
    """
    every = iter(task.examples())
    examples = list(islice(every, limit))
    _refuse_nothing(task.name, examples)
    tokenizer = _tokenizer_of(engine, task.name)
    options = options or SamplingParams(max_symbols=_room(tokenizer, examples))
    prefix = answer_prefix(tokenizer)
    asked = [tuple(encode_chat(tokenizer, task.prompt(example), add_generation_prompt=True)) for example in examples]
    prompts = [Prompt(example.id, ids, options, prefix=prefix) for example, ids in zip(examples, asked, strict=True)]
    of = len(examples) + sum(1 for _ in islice(every, _MOST_COUNTED))
    asking = _Asking(task.name, examples, prompts, lambda at, text: task.grade(examples[at], text), options, of)
    result = _run(asking, engine, progress, kept, sampled)
    if not isinstance(task, QuestionTask):
        return result
    return replace(result, measures=tuple(task.measures(examples, [item.answer for item in result.items])))


def run_completions(
    task: CompletionTask,
    engine: Engine,
    limit: int | None = None,
    progress: Progress | None = None,
    kept: KeptAnswers | None = None,
    sampled: Sampled | None = None,
) -> TaskResult:
    """Let the model go on with the first `limit` texts of a task (None: all), greedily, and grade what it says.

    A text that does not fit the context loses its beginning, as in the harness, which is counted in `shortened`.
    Raises DataError if the task has no item.
    """
    items: list[CompletionItem] = list(islice(task.items(), limit))
    _refuse_nothing(task.name, items)
    tokenizer = _tokenizer_of(engine, task.name)
    prompts = [
        Prompt(
            item.id,
            tuple(encode_context(tokenizer, item.context)),
            SamplingParams(stop=item.stops, max_symbols=item.max_symbols),
            may_shorten=True,
        )
        for item in items
    ]
    examples, options = [item.example for item in items], prompts[0].options
    asking = _Asking(task.name, examples, prompts, lambda at, text: task.grade(items[at], text), options, task.rows)
    return _run(asking, engine, progress, kept, sampled)


def _refuse_nothing(name: str, examples: Sequence[object]) -> None:
    if not examples:
        raise DataError(f"task {name}: there is no example to ask. Give a limit of at least 1.")


def _tokenizer_of(engine: Engine, name: str) -> Tokenizer:
    if engine.tokenizer is None:
        raise ConfigError(f"task {name}: asking needs an engine with a tokenizer.")
    return engine.tokenizer


def _room(tokenizer: Tokenizer, examples: Sequence[Example]) -> int:
    """Return the room for an answer in symbols of this tokenizer: what the longest right one takes, and some."""
    return max(_ANSWER_SYMBOLS, _ANSWER_SLACK + max(len(tokenizer.encode(example.answer)) for example in examples))


def _run(
    asking: _Asking, engine: Engine, progress: Progress | None, kept: KeptAnswers | None, sampled: Sampled | None
) -> TaskResult:
    """Ask everything, the sampled answers to a question together with the greedy one, and sum up."""
    start = time.perf_counter()
    each = 1 + (sampled.n if sampled else 0)
    prompts = list(chain.from_iterable((prompt, *_resampled(prompt, sampled)) for prompt in asking.prompts))
    answers = ask(engine, prompts, kept, progress)
    seconds = time.perf_counter() - start
    items = []
    for at, example in enumerate(asking.examples):
        first, *more = answers[at * each : (at + 1) * each]
        items.append(_item(example, first, asking.grade(at, first.text), [asking.grade(at, one.text) for one in more]))
    return _sum_up(asking, items, sampled, seconds)


def _resampled(prompt: Prompt, sampled: Sampled | None) -> Iterator[Prompt]:
    """Yield a prompt as often as answers to it are sampled, each with a seed of its own."""
    if sampled is not None:
        for number in range(sampled.n):
            yield replace(prompt, options=sampled.draw(prompt.options, prompt.item, number))


def _item(example: Example, answer: Answer, grade: Grade, sampled: Sequence[Grade]) -> Item:
    cut = answer.asked and not answer.ended
    return Item(example, answer.text, grade, answer.asked, cut, answer.shortened, tuple(sampled))


def _sum_up(asking: _Asking, items: Sequence[Item], sampled: Sampled | None, seconds: float) -> TaskResult:
    by_kind: dict[str, list[int]] = defaultdict(list)
    for at, item in enumerate(items):
        by_kind[item.example.kind].append(at)
    majorities = {kind: _majority_grades(asking, places) for kind, places in by_kind.items()}
    kinds = []
    for kind, places in sorted(by_kind.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        group = [items[at] for at in places]
        strict, lenient = (estimate_share([getattr(item.grade, name) for item in group]) for name in _SCORES)
        chance = _mean([item.example.chance for item in group])
        kinds.append(KindResult(kind, strict, lenient, chance, _mean(majorities[kind])))
    scores = [[[getattr(grade, name) for grade in item.sampled] for item in items] for name in _SCORES]
    passes = [estimate_passes(own, sampled) if sampled else {} for own in scores]
    return TaskResult(
        name=asking.name,
        items=tuple(items),
        strict=estimate_share([item.grade.strict for item in items]),
        lenient=estimate_share([item.grade.lenient for item in items]),
        format=estimate_share([float(item.grade.formatted) for item in items]),
        chance=_mean([item.example.chance for item in items]),
        majority=_mean([grade for grades in majorities.values() for grade in grades]),
        kinds=tuple(kinds),
        options=asking.options,
        seconds=seconds,
        of=asking.of,
        passes=passes[0],
        lenient_passes=passes[1],
    )


_SCORES = ("strict", "lenient")


def _majority_grades(asking: _Asking, places: Sequence[int]) -> list[float]:
    """Grade on every item the most frequent right answer of the other items of its kind; alone in it, it has none.

    Counting the item itself flatters kinds with few items: 16.4% on 500 village questions, where the most frequent
    answers of the training side score 6.6% and those of the other items 5.4%.
    """
    counts = Counter(asking.examples[at].answer for at in places)
    grades = []
    for at in places:
        own = asking.examples[at].answer
        counts[own] -= 1
        answer, times = counts.most_common(1)[0]
        counts[own] += 1
        grades.append(asking.grade(at, answer).strict if times else 0.0)
    return grades


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
