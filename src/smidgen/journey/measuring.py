"""One model, asked task after task; what comes of each is a record for `evals.json` and a line for every item."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from smidgen.checkpoint import LoadedModel
from smidgen.evaluation.bits_per_byte import Measured
from smidgen.evaluation.choices import run_choices
from smidgen.evaluation.contamination import ItemText, texts_of_choices, texts_of_examples
from smidgen.evaluation.intervals import Estimate
from smidgen.evaluation.kept import conditions_key, item_key
from smidgen.evaluation.likelihood import Scorer
from smidgen.evaluation.passes import Sampled
from smidgen.evaluation.runner import TaskResult, run_completions, run_task
from smidgen.inference import Engine, prepare_for_decoding
from smidgen.journey.kept import open_kept, open_texts
from smidgen.journey.suite import Asked
from smidgen.models.stats import kv_bytes_per_symbol
from smidgen.runtime import cache_home
from smidgen.tasks.choice import ChoiceTask
from smidgen.tasks.completion import CompletionTask
from smidgen.tasks.suite import SUITE

OWN_VERSION = "1.0"
"""Of the tasks asked in conversation: raised when a prompt or a grader changes, so that old numbers stand apart."""
OWN_PROMPTS = "Smidgen"
"""Whose prompts those are; without a word of it they are the harness's."""
BITS_VERSION = "1.0"
"""Of the measure of bits per byte."""
_MOST_ROWS = 64
"""Rows of the engine where they are cheap: of 11 M parameters, 16 take 18% longer (prompts of 256, answers of 64)."""
_ROW_MEMORY = 1 << 29
"""Bytes of keys and values of all rows together, of prompts as long as GSM8K's with five worked problems."""
_ROW_SYMBOLS = 1536

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Outcome:
    """What came of one task."""

    row: dict[str, Any]
    """The task's entry in a record of `evals.json`."""
    lines: list[dict[str, Any]]
    """One for each item: {"id", "hash", "score", "scores", ...}."""
    texts: Sequence[ItemText] = ()
    """What is looked for in training text."""
    dropped: int = 0
    """Kept answers that were damaged and asked again."""


class Measuring:
    """A model with what it takes to ask it anything; weights are laid out once, for likelihoods and answers alike."""

    def __init__(self, loaded: LoadedModel, identity: str, limit: int | None, sampled: Sampled | None) -> None:
        """Take a model, the name its answers are kept under, and how much is to be asked."""
        self.loaded, self.identity, self.limit, self.sampled = loaded, identity, limit, sampled

    def measure(self, task: Asked, tell: Tell) -> Outcome:
        """Ask one task. Raises SmidgenError for what cannot be asked of this model."""
        if isinstance(task, ChoiceTask):
            return self._choices(task, tell)
        kept = open_texts(_kept_at(), self.identity, task.name, self._spoken_under)
        if isinstance(task, CompletionTask):
            result = run_completions(task, self.engine, self.limit, tell, kept, self.sampled)
            told = {"version": task.version, "of": task.published, "rows": task.rows, "notes": list(task.notes)}
        else:
            result = run_task(task, self.engine, self.limit, None, tell, kept, self.sampled)
            name = f"{task.name}:chat" if task.name in SUITE else task.name  # not the harness's task of that name
            told = {"name": name, "version": OWN_VERSION, "of": result.of, "rows": result.of, "notes": []}
            told["prompts"] = OWN_PROMPTS
        row = text_row(result) | told | {"limit": self.limit}
        texts = texts_of_examples(item.example for item in result.items)
        return Outcome(row, list(_text_lines(result)), texts, kept.dropped)

    @property
    def protocol(self) -> dict[str, Any]:
        """How everything was asked."""
        return dict(self.scorer.protocol)

    @cached_property
    def scorer(self) -> Scorer:
        """What finds likelihoods."""
        return Scorer(self._prepared, self.loaded.tokenizer)

    @cached_property
    def engine(self) -> Engine:
        """What generates."""
        config = self.loaded.model.config
        row = kv_bytes_per_symbol(config) * min(config.max_seq_len, _ROW_SYMBOLS)
        rows = max(1, min(_MOST_ROWS, _ROW_MEMORY // max(1, row)))
        return Engine(self._prepared, self.loaded.tokenizer, max_rows=rows)

    @cached_property
    def _prepared(self) -> Any:
        return prepare_for_decoding(self.loaded.model)

    @property
    def _spoken_under(self) -> Mapping[str, Any]:
        return {"context": self.engine.max_len, "precision": self.scorer.protocol["precision"]}

    def _choices(self, task: ChoiceTask, tell: Tell) -> Outcome:
        kept = open_kept(_kept_at(), self.identity, task, self.scorer.protocol)
        result = run_choices(task, self.scorer, limit=self.limit, kept=kept, progress=tell)
        items = {item.id: item for item in task.items()}
        lines = [{**line, "hash": item_key(items[line["id"]]).rpartition(" ")[2]} for line in result.rows()]
        asked = [items[line["id"]] for line in lines]
        return Outcome(result.as_dict(), lines, texts_of_choices(asked), kept.dropped)


def _kept_at() -> Path:
    return cache_home() / "answers"


def text_row(result: TaskResult) -> dict[str, Any]:
    """Return the entry of a task that was answered in text: strict is its metric, the others stand beside it."""
    strict, n = result.strict, len(result.items)
    metrics: dict[str, Any] = {"strict": strict.as_dict(), "lenient": result.lenient.as_dict()}
    metrics |= {"format": result.format.as_dict()}
    metrics |= {f"pass@{k}": estimate.as_dict() for k, estimate in result.passes.items()}
    metrics |= {f"lenient pass@{k}": estimate.as_dict() for k, estimate in result.lenient_passes.items()}
    metrics |= {measure.name: {"value": measure.value, "how": measure.how} for measure in result.measures}
    return {
        "name": result.name,
        "metric": "strict",
        **_interval(strict),
        "n": n,
        "chance": result.chance,
        "majority": result.majority,
        "corrected": (strict.value - result.chance) / (1 - result.chance) if result.chance < 1 else None,
        "metrics": metrics,
        "cut": result.shortened,
        "unfit": result.unasked,
        "unended": result.cut,
        "kinds": {kind.kind: kind.strict.as_dict() for kind in result.kinds} if len(result.kinds) > 1 else {},
        "options": result.options.model_dump(mode="json"),
        "contamination": None,
    }


def _text_lines(result: TaskResult) -> Iterator[dict[str, Any]]:
    for item in result.items:
        scores = {"strict": item.grade.strict, "lenient": item.grade.lenient, "format": float(item.grade.formatted)}
        yield {
            "id": item.example.id,
            "kind": item.example.kind,
            "hash": conditions_key({"question": item.example.question, "answer": item.example.answer}),
            "score": item.grade.strict,
            "scores": scores,
            "answer": item.answer,
            "sampled": [grade.strict for grade in item.sampled],
        }


def bits_outcome(measured: Measured, name: str, digests: Sequence[str], precision: str) -> Outcome:
    """Return the entry of a text that was scored; `digests` name its documents, so that two texts are never paired."""
    value, error = measured.bits_per_byte, measured.standard_error
    reach = 1.96 * error if error is not None else None
    row = {
        "name": f"bits_per_byte:{name}",
        "version": BITS_VERSION,
        "metric": "bits_per_byte",
        "value": value,
        "low": None if reach is None else value - reach,
        "high": None if reach is None else value + reach,
        "n": measured.documents,
        "of": None,
        "limit": None,
        "chance": None,
        "corrected": None,
        "metrics": measured.as_dict(),
        "protocol": measured.protocol.model_dump() | {"precision": precision},
        "cut": 0,
        "contamination": None,
    }
    per_document = zip(measured.document_nats, measured.document_bytes, digests, strict=True)
    lines = [
        {"id": f"{number}", "hash": digest, "score": nats / n_bytes / math.log(2), "weight": n_bytes}
        for number, (nats, n_bytes, digest) in enumerate(per_document)
    ]
    return Outcome(row, lines)


def _interval(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
