"""Fine-tuning on conversations: read from files, encoded with the chat mask, packed where a model can branch.

Packed rows of pretraining attend across documents, which costs 0.0002 bits there (techniques.md, Data), but an example
would learn to look for its answer in another: here each is a branch of its own, and sees itself alone. For models that
cannot branch it is one to a row, those of a step sorted and each micro-batch as wide as its longest.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.data.batch import Batch
from smidgen.data.conversations import Conversation, encode_numbered, pack_conversations, pad_conversations
from smidgen.data.formats import ReadCounts, reader_of
from smidgen.data.scored import ScoredBytes
from smidgen.data.stream import EpochOrder
from smidgen.errors import ConfigError, DataError
from smidgen.tokenizers.base import Tokenizer
from smidgen.tokenizers.chat import Message

Talk = tuple[Message, ...]

ASKED_AND_ANSWERED = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("instruction", "output"),
    ("input", "output"),
)
"""Columns that hold a question and its answer, where there is no `messages`."""


def read_talks(path: Path) -> list[Talk]:
    """Read conversations from jsonl, json, csv or parquet, packed or not: `messages`, or a question and its answer.

    Raises DataError naming the place of a record that has neither, and the columns it has.
    """
    return [talk_of(fields, where) for where, fields in records_of(path)]


def records_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, fields) of every record. Raises DataError if there is none, or the file holds plain text."""
    reader = reader_of(path)
    if not path.is_file() or reader is None:
        raise DataError(f"{path}: is no file of records. Give a .jsonl, .json, .csv or .parquet file.")
    found = False
    for record in reader(path, ReadCounts()):
        found = True
        yield f"{path.parent / record.where}", record.fields
    if not found:
        raise DataError(f"{path}: holds no records.")


def talk_of(fields: dict[str, Any], where: str) -> Talk:
    """Return the conversation of a record. Raises DataError if there is none in it."""
    if "messages" in fields:
        return messages_of(fields["messages"], where)
    for asked, answered in ASKED_AND_ANSWERED:
        if asked in fields and answered in fields:
            return (*opening_of(fields[asked], where), Message("assistant", text_of(fields[answered], answered, where)))
    pairs = ", ".join(" and ".join(pair) for pair in ASKED_AND_ANSWERED)
    raise DataError(f"{where}: has no conversation. It needs `messages`, or {pairs}; it has {', '.join(fields)}.")


def messages_of(value: Any, where: str) -> Talk:
    """Return a list of {"role", "content"} as messages. Raises DataError for anything else."""
    entries = value if isinstance(value, list) else []
    talk = [
        Message(entry["role"], entry["content"])
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("role"), str) and isinstance(entry.get("content"), str)
    ]
    if not talk or len(talk) != len(entries):
        raise DataError(f'{where}: messages must be a list like [{{"role": "user", "content": "..."}}].')
    return tuple(talk)


def opening_of(value: Any, where: str) -> Talk:
    """Return what is asked: messages as they are, a text as one message of the user."""
    return messages_of(value, where) if isinstance(value, list) else (Message("user", text_of(value, "prompt", where)),)


def text_of(value: Any, name: str, where: str) -> str:
    """Return a field that must be text. Raises DataError if it is not."""
    if isinstance(value, str):
        return value
    raise DataError(f"{where}: {name} is {type(value).__name__}, not text.")


@dataclass(frozen=True)
class ExampleSet:
    """Encoded examples, each of which teaches something and fits a row."""

    examples: Sequence[Conversation]
    padding: int
    scored: ScoredBytes
    note: str
    """How many there are, the longest, and what was left out."""

    @property
    def lengths(self) -> list[int]:
        """Return the symbols of each row."""
        return [len(example.ids) for example in self.examples]

    def batch(self, chosen: Sequence[int]) -> Batch:
        """Return some examples as one batch, as wide as the longest."""
        return pad_conversations([self.examples[index] for index in chosen], self.padding, self.scored)

    def packed(self, chosen: Sequence[int]) -> Batch:
        """Return some examples as one row, none of which sees another: for models that `can_branch`."""
        return pack_conversations([self.examples[index] for index in chosen], self.scored)


def encode_examples(tokenizer: Tokenizer, talks: Iterable[Sequence[Message]], max_symbols: int) -> ExampleSet:
    """Encode conversations; those longer than `max_symbols` are left out, counted and told.

    Raises DataError if one teaches nothing, or if none fits; TokenizerError if the tokenizer has no chat template.
    """
    encoded = [encode_numbered(tokenizer, talk, f"example {number}") for number, talk in enumerate(talks, start=1)]
    kept = [example for example in encoded if len(example.ids) <= max_symbols]
    note = told_lengths([len(example.ids) for example in encoded], max_symbols, "examples")
    return ExampleSet(kept, tokenizer.eot_id, ScoredBytes(tokenizer), note)


def told_lengths(lengths: Sequence[int], max_symbols: int, what: str) -> str:
    """Return in one line how long things are and how many do not fit. Raises DataError if none does."""
    if not lengths:
        raise DataError(f"there are no {what} to learn from.")
    fitting, longest = sum(length <= max_symbols for length in lengths), max(lengths)
    if not fitting:
        raise DataError(
            f"all {len(lengths)} {what} are longer than {max_symbols} symbols; the shortest has {min(lengths)}, "
            f"the longest {longest}. Allow more, or shorten them."
        )
    left_out = len(lengths) - fitting
    told = f"{len(lengths)} {what}, the longest of {longest} symbols"
    return told + (f"; {left_out} of more than {max_symbols} are left out" if left_out else "")


@dataclass(frozen=True)
class StepLayout:
    """How the examples of a step are laid out over micro-batches and ranks."""

    examples: int
    """Examples of a step, over all ranks."""
    micro_symbols: int = 8192
    """Most symbols of one forward, padding included; an example longer than that goes alone."""
    rank: int = 0
    """Which of the processes this one is."""
    world: int = 1
    """How many processes share the step."""


class ExampleStream:
    """Micro-batches of whole examples without end; which they are is a function of seed, step and rank alone."""

    def __init__(
        self,
        batch_of: Callable[[Sequence[int]], Batch],
        lengths: Sequence[int],
        layout: StepLayout,
        seed: int = 0,
        rows: int = 1,
        packed: bool = False,
    ) -> None:
        """Take what makes a batch of some examples, of `rows` rows each, and the symbols of their longest row.

        Those that are `packed` take no more symbols than they have.
        """
        if layout.examples < layout.world:
            raise ConfigError(f"a step of {layout.examples} examples leaves some of {layout.world} processes idle.")
        self.layout = layout
        self._batch_of, self._lengths, self._rows, self._packed = batch_of, lengths, rows, packed
        self._order = EpochOrder(len(lengths), seed)

    def step(self, number: int) -> list[Batch]:
        """Return the micro-batches of a step for this rank, the longest examples first."""
        return [self._batch_of(micro) for micro in self._micros(number)]

    def _micros(self, number: int) -> list[list[int]]:
        layout = self.layout
        chosen = self._order.at(number * layout.examples, layout.examples).tolist()
        chosen.sort(key=lambda index: -self._lengths[index])  # stable: equals as they were drawn
        micros: list[list[int]] = []
        width = taken = 0
        for index in chosen[layout.rank :: layout.world]:
            length = self._lengths[index]
            wanted = taken + length if self._packed else self._rows * (len(micros[-1]) + 1) * width if micros else 0
            if not micros or wanted > layout.micro_symbols:
                micros.append([])
                width, taken = length, 0
            micros[-1].append(index)
            taken += length
        return micros

    def batches_from(self, step: int) -> Iterator[Sequence[Batch]]:
        """Yield the micro-batches of this step, then of every step after it."""
        while True:
            yield self.step(step)
            step += 1

    def epochs_at(self, step: int) -> float:
        """Return how many times the examples have been read when this many steps are done."""
        return step * self.layout.examples / len(self._lengths)

    def fill(self, step: int) -> float:
        """Return the share of a step's symbols on this rank that are no padding, as if all rows of one were as long."""
        widths = [[self._lengths[index] - 1 for index in micro] for micro in self._micros(step)]
        return sum(map(sum, widths)) / sum(max(width) * len(width) for width in widths)
