"""Which documents are trained on, which validate, and which are left out of a sample, decided by their content.

A document's hash decides, so it keeps its side whatever its place, its file, or what is added to the corpus. Split and
sample read different halves of the hash: a sample holds the same share of validation as the whole.

Few documents (under 64) would make a lumpy split, and one document none. They are then cut at paragraphs into passages
of some 4,000 characters; each passage goes to the side its own hash says, and neighbours on the same side are joined
again, so that training text stays long. The price, stated in a note: both sides come from the same documents.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from smidgen.data.documents import Document
from smidgen.data.passages import cut_text
from smidgen.errors import DataError

Side = Literal["train", "validation"]

FEW_DOCUMENTS = 64
_PASSAGE_CHARACTERS = (200, 4_000)
_SAMPLE_CHARACTERS = 1 << 16
"""Longer documents are sampled in pieces of this size, or one book would be all or nothing."""


def split_of(document_hash: bytes, validation_fraction: float) -> Side:
    """Return the side of a document, by the first half of its 16-byte hash."""
    return "validation" if _unit(document_hash[:8]) < validation_fraction else "train"


def is_sampled(document_hash: bytes, keep_fraction: float) -> bool:
    """Return whether a document belongs to a sample of this share, by the second half of its hash."""
    return _unit(document_hash[8:]) < keep_fraction


def _unit(half: bytes) -> float:
    return int.from_bytes(half, "big") / 2**64


@dataclass(frozen=True)
class Splitter:
    """Places documents: each becomes one or more (document, side), or nothing if the sample leaves it out."""

    validation_fraction: float
    keep_fraction: float = 1.0
    passage_characters: int | None = None
    """Cut documents into passages of this size and place those; None: documents stay whole."""
    forced: Mapping[bytes, Side] = field(default_factory=dict)
    """Hashes whose side is settled, so that neither side is empty."""

    def place(self, document: Document, document_hash: bytes) -> Iterator[tuple[Document, Side]]:
        """Yield what becomes of one document."""
        limit = self.passage_characters or (_SAMPLE_CHARACTERS if self.keep_fraction < 1 else len(document.text))
        if document.messages or len(document.text) <= limit:
            if self._is_kept(document_hash):
                yield document, self._side(document_hash)
            return
        joined: list[str] = []
        joined_side: Side | None = None
        for passage in cut_text(document.text, limit):
            passage_hash = Document(text=passage).hash()
            side = self._side(passage_hash if self.passage_characters else document_hash)
            kept_side = side if document_hash in self.forced or self._is_kept(passage_hash) else None
            if kept_side != joined_side:
                if joined and joined_side:
                    yield Document(text="".join(joined), source=document.source), joined_side
                joined, joined_side = [], kept_side
            joined.append(passage)
        if joined and joined_side:
            yield Document(text="".join(joined), source=document.source), joined_side

    def _side(self, content_hash: bytes) -> Side:
        return self.forced.get(content_hash) or split_of(content_hash, self.validation_fraction)

    def _is_kept(self, content_hash: bytes) -> bool:
        return content_hash in self.forced or is_sampled(content_hash, self.keep_fraction)


def plan_split(first: Sequence[Document], validation_fraction: float, keep_fraction: float) -> Splitter:
    """Return the splitter for a corpus that begins with these documents (all of it, if under 64).

    The first documents settle what chance must not: the one of smallest hash validates, another trains.
    Raises DataError if there are not two passages to tell apart.
    """
    passage = None
    if len(first) < FEW_DOCUMENTS:
        smallest, largest = _PASSAGE_CHARACTERS
        largest = 4 * largest if keep_fraction < 1 else largest  # a sample of small passages is all beginnings and ends
        passage = min(max(sum(len(d.text) for d in first) // FEW_DOCUMENTS, smallest), largest)
    hashes = sorted(set(_hashes(first, passage)))
    if len(hashes) < 2:
        raise DataError(
            f"there is too little text to train on and to validate: {sum(len(d.text) for d in first):,} characters "
            f"in {len(first)} distinct documents. Give at least a few pages."
        )
    trained = min(hashes[1:], key=lambda content_hash: content_hash[8:])
    return Splitter(validation_fraction, keep_fraction, passage, {hashes[0]: "validation", trained: "train"})


def _hashes(documents: Iterable[Document], passage_characters: int | None) -> Iterator[bytes]:
    for document in documents:
        if passage_characters is None or document.messages or len(document.text) <= passage_characters:
            yield document.hash()
        else:
            yield from (Document(text=passage).hash() for passage in cut_text(document.text, passage_characters))
