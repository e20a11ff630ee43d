"""Pairs of answers to one prompt, a better and a worse, as batches: two rows a pair, the chosen before the rejected.

Only what follows their common beginning is weighed: before it both rows are the same symbols in the same context, and
cancel exactly. Each pair weighs 1 in all, half of it on either side, so the loop divides by the number of pairs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from smidgen.data.batch import Batch
from smidgen.data.conversations import Conversation, encode_numbered, pad_conversations
from smidgen.data.supervised import ExampleStream, StepLayout, messages_of, opening_of, records_of, told_lengths
from smidgen.errors import DataError
from smidgen.tokenizers.base import Tokenizer
from smidgen.tokenizers.chat import Message


@dataclass(frozen=True)
class Preference:
    """One prompt with two answers; with SPIN, the right one and the model's own."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str


def read_preferences(path: Path) -> list[Preference]:
    """Read `prompt`, `chosen` and `rejected` of every record; a side may be the answer or the whole conversation.

    Conversations end with the answers, and begin alike, with `prompt` where there is one. Raises DataError naming the
    place of a record that lacks a side, and the columns it has, or whose sides answer different things.
    """
    return [_preference(fields, where) for where, fields in records_of(path)]


def _preference(fields: dict[str, object], where: str) -> Preference:
    for name in ("chosen", "rejected"):
        if name not in fields:
            raise DataError(
                f"{where}: has no `{name}`. It needs prompt, chosen and rejected; it has {', '.join(fields)}."
            )
    sides = [fields["chosen"], fields["rejected"]]
    if all(isinstance(side, str) for side in sides):
        if "prompt" not in fields:
            raise DataError(f"{where}: has no `prompt` that its answers answer; it has {', '.join(fields)}.")
        return Preference(opening_of(fields["prompt"], where), str(sides[0]), str(sides[1]))
    chosen, rejected = (messages_of(side, where) for side in sides)
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if side[-1].role != "assistant":
            raise DataError(f"{where}: {name} ends with a message of {side[-1].role!r}; it should end with the answer.")
    if chosen[:-1] != rejected[:-1]:
        raise DataError(f"{where}: chosen and rejected are answers to different conversations: nothing to compare.")
    prompt = opening_of(fields["prompt"], where) if "prompt" in fields else chosen[:-1]
    if chosen[:-1] not in ((), prompt):
        raise DataError(f"{where}: prompt is not what stands before the answers in chosen. Leave it out, or mend it.")
    if not prompt:
        raise DataError(f"{where}: has no `prompt`, and nothing stands before the answers in chosen and rejected.")
    return Preference(prompt, chosen[-1].content, rejected[-1].content)


@dataclass(frozen=True)
class PairSet:
    """Encoded pairs, each with something to prefer, and what the reference makes of them once they are scored."""

    pairs: Sequence[tuple[Conversation, Conversation]]
    padding: int
    note: str
    """How many there are, the longest, and what was left out."""
    reference: Float[Tensor, "N 2"] | None = None
    """The reference's log-probability of the chosen and the rejected answer of each pair."""

    @property
    def lengths(self) -> list[int]:
        """Return the symbols of each pair's longer row."""
        return [max(len(side.ids) for side in pair) for pair in self.pairs]

    def batch(self, chosen: Sequence[int]) -> Batch:
        """Return some pairs as one batch, as wide as the longest row."""
        rows = [side for index in chosen for side in self.pairs[index]]
        batch = pad_conversations(rows, self.padding)  # weighed by pairs, a loss has no bits per byte
        if self.reference is None:
            return batch
        told = {"reference_log_probs": self.reference[list(chosen)].flatten()}
        return replace(batch, extra={**batch.extra, **told})

    def compared_with(self, reference: Float[Tensor, "N 2"]) -> "PairSet":
        """Return the pairs with what the reference makes of them."""
        return replace(self, reference=reference)

    def stream(self, layout: StepLayout, seed: int = 0) -> ExampleStream:
        """Return the pairs as training batches without end; an example of the layout is a pair."""
        return ExampleStream(self.batch, self.lengths, layout, seed, rows=2)


def encode_preferences(tokenizer: Tokenizer, preferences: Iterable[Preference], max_symbols: int) -> PairSet:
    """Encode pairs; those that say the same twice, or are longer than `max_symbols`, are left out, counted and told.

    Raises DataError if none is left; TokenizerError if the tokenizer has no chat template.
    """
    encoded = [_encode(tokenizer, preference, number) for number, preference in enumerate(preferences, start=1)]
    different = [pair for pair in encoded if pair is not None]
    same = len(encoded) - len(different)
    if same and not different:
        raise DataError(f"both answers of all {same} pairs are the same: there is nothing to prefer.")
    lengths = [max(len(side.ids) for side in pair) for pair in different]
    note = told_lengths(lengths, max_symbols, "pairs")
    note += f"; {same} more with the same answer twice are left out" if same else ""
    kept = [pair for pair, length in zip(different, lengths, strict=True) if length <= max_symbols]
    return PairSet(kept, tokenizer.eot_id, note)


def _encode(tokenizer: Tokenizer, preference: Preference, number: int) -> tuple[Conversation, Conversation] | None:
    chosen, rejected = (
        encode_numbered(tokenizer, [*preference.prompt, Message("assistant", answer)], f"pair {number}")
        for answer in (preference.chosen, preference.rejected)
    )
    if chosen.ids == rejected.ids:
        return None
    differ = (one != other for one, other in zip(chosen.ids, rejected.ids, strict=False))
    first = next((place for place, different in enumerate(differ) if different), 0)
    sides = [_weigh(side, first) for side in (chosen, rejected)]
    return sides[0], sides[1]


def _weigh(side: Conversation, first: int) -> Conversation:
    """Give what is taught from `first` on a weight of 1/2 in all."""
    taught = [float(weight > 0 and place >= first) for place, weight in enumerate(side.weights)]
    total = 2 * sum(taught)
    return Conversation(side.ids, [weight / total for weight in taught])
