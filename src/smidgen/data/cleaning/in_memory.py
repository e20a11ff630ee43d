"""Steps run one after the other over documents in memory: what every executor must equal, and enough for a small set.

Counts what each step kept, changed and dropped, and why; keeps the first few of each reason to look at.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from smidgen.data.cleaning.step import CorpusStep, Dropped, Record, Step, Verdict

SAMPLES = 5
_EXCERPT = 300


@dataclass
class StepCounts:
    """What one step did."""

    name: str
    documents: int = 0
    """Documents that came."""
    kept: int = 0
    text_bytes: int = 0
    """Bytes of text that go on."""
    seconds: float = 0.0
    """Processor time it took."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Documents dropped, by reason."""
    changes: Counter[str] = field(default_factory=Counter)
    """What was changed in those kept, by kind."""
    samples: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    """The first documents dropped for each reason: id, detail, beginning of the text."""


@dataclass(frozen=True)
class Cleaned:
    """What came through, and what did not."""

    records: list[Record]
    dropped: dict[str, Dropped]
    """Why each document that is gone was dropped, by id."""
    changed: dict[str, Counter[str]]
    """What was changed in each document, dropped later or not, by id."""
    steps: list[StepCounts]


def clean_in_memory(records: Iterable[Record], steps: Sequence[Step | CorpusStep], part: int = 1000) -> Cleaned:
    """Return the documents after all steps; a step over the whole corpus sees it in parts of so many documents."""
    now, counts = list(records), list[StepCounts]()
    dropped, changed = dict[str, Dropped](), dict[str, Counter[str]]()
    for step in steps:
        count, through, started = StepCounts(step.name, len(now)), list[Record](), time.process_time()
        judge = _judge(step, now, part)
        for record in now:
            verdict = judge(record)
            if isinstance(verdict, Dropped):
                dropped[record.id] = verdict
                count.reasons[verdict.reason] += 1
                samples = count.samples.setdefault(verdict.reason, [])
                if len(samples) < SAMPLES:
                    samples.append((record.id, verdict.detail, record.text[:_EXCERPT]))
                continue
            if verdict.changes:
                count.changes.update(verdict.changes)
                changed.setdefault(record.id, Counter()).update(verdict.changes)
            count.text_bytes += len(verdict.text.encode("utf-8", "replace"))
            through.append(replace(record, text=verdict.text))
        count.kept, now, count.seconds = len(through), through, time.process_time() - started
        counts.append(count)
    return Cleaned(now, dropped, changed, counts)


def _judge(step: Step | CorpusStep, records: Sequence[Record], part: int) -> Callable[[Record], Verdict]:
    if isinstance(step, CorpusStep):
        return step.judge(step.decide([step.collect(records[at : at + part]) for at in range(0, len(records), part)]))
    return lambda record: step(record.text)
