"""What happened to the documents, in numbers that add up whatever the order in which parts were finished.

Samples are those whose ids have the smallest hashes, so that the same ones are shown whoever counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from smidgen.data.cleaning.step import Dropped, Kept, Record, hash64
from smidgen.tokenizers.bytes import text_bytes

SAMPLES = 4
"""Of each reason, so many documents are kept to look at."""
_EXCERPT = 400


@dataclass
class Amount:
    """Documents and their bytes of text."""

    documents: int = 0
    bytes: int = 0

    def add(self, size: int, documents: int = 1) -> None:
        """Count so many bytes of so many documents."""
        self.documents += documents
        self.bytes += size

    def merge(self, other: "Amount") -> None:
        """Add what another has counted."""
        self.add(other.bytes, other.documents)


@dataclass
class StepTally:
    """What one step did, or the reading before the first."""

    kept: Amount = field(default_factory=Amount)
    """What went on, with the bytes it had afterwards."""
    dropped: dict[str, Amount] = field(default_factory=dict)
    """By reason."""
    changed: dict[str, Amount] = field(default_factory=dict)
    """By kind of change: documents, and how often (as `bytes`) it was made in them."""
    samples: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    """By reason, a few of the documents dropped."""

    def drop(self, reason: str, where: str, detail: str, text: str | None, times: int = 1) -> None:
        """Count a document dropped; None for the text of what never was one, or so many of them."""
        size = 0 if text is None else len(text_bytes(text))
        self.dropped.setdefault(reason, Amount()).add(size, times)
        shown = "" if text is None else _excerpt(text)
        self._keep(reason, {"id": where, "detail": _encodable(detail), "text": shown})

    def keep(self, verdict: Kept, size: int) -> None:
        """Count a document that went on with so many bytes."""
        self.kept.add(size)
        for change, times in verdict.changes.items():
            self.change(change, times)

    def change(self, what: str, times: int) -> None:
        """Count something that was changed in a document, so many times."""
        self.changed.setdefault(what, Amount()).add(times)

    def merge(self, other: "StepTally") -> None:
        """Add what another has counted."""
        self.kept.merge(other.kept)
        for mine, theirs in ((self.dropped, other.dropped), (self.changed, other.changed)):
            for name, amount in theirs.items():
                mine.setdefault(name, Amount()).merge(amount)
        for reason, samples in other.samples.items():
            for sample in samples:
                self._keep(reason, sample)

    def _keep(self, reason: str, sample: dict[str, str]) -> None:
        known = self.samples.setdefault(reason, [])
        if len(known) == SAMPLES and _draw(sample) >= _draw(known[-1]):
            return
        known.append(sample)
        known.sort(key=_draw)
        del known[SAMPLES:]


@dataclass
class Stream:
    """The documents that passed one place."""

    sources: dict[str, Amount] = field(default_factory=dict)
    """By the name of their source."""
    lengths: Counter[int] = field(default_factory=Counter)
    """Documents by the power of two below their bytes."""

    def pass_by(self, source: str, size: int) -> None:
        """Count a document of so many bytes."""
        self.sources.setdefault(source, Amount()).add(size)
        self.lengths[max(0, size.bit_length() - 1)] += 1

    def merge(self, other: "Stream") -> None:
        """Add what another has counted."""
        for name, amount in other.sources.items():
            self.sources.setdefault(name, Amount()).merge(amount)
        self.lengths.update(other.lengths)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        lengths = {str(bits): self.lengths[bits] for bits in sorted(self.lengths)}
        return {"sources": _amounts(self.sources), "lengths": lengths}


@dataclass
class Tally:
    """What a piece of work did: its steps by their places, -1 for the reading."""

    steps: dict[int, StepTally] = field(default_factory=dict)
    read: Stream = field(default_factory=Stream)
    """The documents as they were read."""
    cleaned: Stream = field(default_factory=Stream)
    """The documents that all steps left."""
    excerpts: dict[str, dict[str, str]] = field(default_factory=dict)
    """Beginnings of documents that are shown beside their copies, by key."""

    def of(self, place: int) -> StepTally:
        """Return the counts of a step."""
        return self.steps.setdefault(place, StepTally())

    def show(self, record: Record) -> None:
        """Keep the beginning of a document."""
        self.excerpts[f"{record.key:016x}"] = {"id": record.id, "text": _excerpt(record.text)}

    def merge(self, other: "Tally") -> None:
        """Add what another has counted."""
        for place, step in other.steps.items():
            self.of(place).merge(step)
        self.read.merge(other.read)
        self.cleaned.merge(other.cleaned)
        self.excerpts |= other.excerpts

    def as_dict(self) -> dict[str, Any]:
        """Return plain values in an order that only they decide."""
        return {
            "steps": {str(place): _step_dict(self.steps[place]) for place in sorted(self.steps)},
            "read": self.read.as_dict(),
            "cleaned": self.cleaned.as_dict(),
            "excerpts": dict(sorted(self.excerpts.items())),
        }


def tally_from(data: Mapping[str, Any]) -> Tally:
    """Return the tally that `as_dict` told."""
    tally = Tally(read=_stream(data["read"]), cleaned=_stream(data["cleaned"]), excerpts=dict(data["excerpts"]))
    for place, step in data["steps"].items():
        tally.steps[int(place)] = StepTally(
            Amount(*step["kept"]), _read_amounts(step["dropped"]), _read_amounts(step["changed"]), dict(step["samples"])
        )
    return tally


def _stream(data: Mapping[str, Any]) -> Stream:
    lengths = Counter({int(bits): times for bits, times in data["lengths"].items()})
    return Stream(_read_amounts(data["sources"]), lengths)


def merged(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of tallies."""
    whole = Tally()
    for tally in tallies:
        whole.merge(tally)
    return whole


def count_verdict(tally: StepTally, record: Record, verdict: Kept | Dropped, size: int | None = None) -> int:
    """Count what a step said of a document, of so many bytes if that is known; return the bytes that go on."""
    if isinstance(verdict, Dropped):
        tally.drop(verdict.reason, record.id, verdict.detail, record.text)
        return 0
    if size is None or verdict.text is not record.text:  # encoding a text only to count it is a tenth of a pass
        size = len(text_bytes(verdict.text))
    tally.keep(verdict, size)
    return size


def _step_dict(step: StepTally) -> dict[str, Any]:
    return {
        "kept": [step.kept.documents, step.kept.bytes],
        "dropped": _amounts(step.dropped),
        "changed": _amounts(step.changed),
        "samples": {reason: step.samples[reason] for reason in sorted(step.samples)},
    }


def _amounts(amounts: Mapping[str, Amount]) -> dict[str, list[int]]:
    return {name: [amounts[name].documents, amounts[name].bytes] for name in sorted(amounts)}


def _read_amounts(data: Mapping[str, list[int]]) -> dict[str, Amount]:
    return {name: Amount(*amount) for name, amount in data.items()}


def _draw(sample: Mapping[str, str]) -> tuple[int, str]:
    return hash64(sample["id"]), sample["id"]


def _excerpt(text: str) -> str:
    return _encodable(text[:_EXCERPT] + ("…" if len(text) > _EXCERPT else ""))


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
