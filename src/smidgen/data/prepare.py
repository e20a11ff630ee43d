"""Documents to token shards: deduplicated, split, sampled to a budget, encoded on all cores, whole or not at all.

A preparation lives in a folder named after everything that decides it (source, tokenizer, options), so asking for the
same again only opens it. Memory holds one batch of documents and 100 bytes for each document seen, never the corpus.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated

from pydantic import Field

from smidgen.config import Config
from smidgen.data.dedup import ExactDedup
from smidgen.data.documents import Document
from smidgen.data.passages import cut_text
from smidgen.data.shards import FORMAT, MANIFEST, Manifest, ShardWriter, TokenShards
from smidgen.data.split import FEW_DOCUMENTS, Side, Splitter, plan_split
from smidgen.errors import DataError
from smidgen.runs import atomic_write
from smidgen.tokenizers.base import Tokenizer
from smidgen.tokenizers.bytes import text_bytes
from smidgen.tokenizers.chat import encode_chat

_PROBE_CHARACTERS = 64 << 20
_BATCH_CHARACTERS = 2 << 20
_PIECE_CHARACTERS = 1 << 18
"""A longer text is encoded in pieces cut at paragraphs: both cores work on one book, and no word is 30 MB long."""
_OVERSHOOT = 1.25
"""The size of a packed corpus is an estimate; past this multiple of the budget preparation stops."""


class PrepareConfig(Config):
    """How documents become shards."""

    validation_fraction: Annotated[float, Field(gt=0, le=0.5)] | None = None
    """Share of the documents never trained on; None: 0.5 MB of text, but 0.5% at least and 10% at most."""
    max_symbols: Annotated[int, Field(ge=1)] | None = None
    """Take an evenly spread sample of about this many symbols; None: everything."""
    shard_symbols: Annotated[int, Field(ge=1)] = 64 << 20
    """Symbols after which a new file is begun."""


@dataclass
class _Intake:
    """The documents on their way: distinct, counted, the first of them looked at before any is placed."""

    documents: Iterable[Document]
    dedup: ExactDedup = field(default_factory=ExactDedup)
    read: int = 0
    text_bytes: int = 0

    def distinct(self) -> Iterator[tuple[Document, bytes]]:
        for document in self.documents:
            content = document.content_bytes()
            document_hash = hashlib.blake2b(content, digest_size=16).digest()
            self.read += 1
            if self.dedup.is_new(document_hash):
                self.text_bytes += len(content)
                yield document, document_hash


def prepare(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    folder: Path,
    source: str,
    config: PrepareConfig | None = None,
    total_bytes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TokenShards:
    """Write the documents as shards into a subfolder of `folder`, or open the one that is there already.

    `source` is the fingerprint of the documents. `total_bytes`, about how many bytes of text they hold, is what makes a
    sample of `max_symbols` an even one; without it the first documents are taken until the budget is full (right for
    generated text). `progress` is called now and then with symbols written and bytes of text read.
    Raises DataError if the text cannot be read, is too little, or the shards cannot be written; nothing is left then.
    """
    config = config or PrepareConfig()
    decided_by = (str(FORMAT), source, tokenizer.fingerprint(), str(tokenizer.chat_template), config.model_dump_json())
    key = hashlib.sha256("\0".join(decided_by).encode()).hexdigest()[:16]
    finished = folder / key
    if (finished / MANIFEST).is_file():
        return TokenShards(finished)
    intake = _Intake(documents)
    staging = folder / f".{key}.{os.getpid()}.partial"
    try:
        _sweep(folder, key)
        staging.mkdir(parents=True)
        manifest = _write(intake, tokenizer, staging, source, config, total_bytes, progress)
        atomic_write(staging / MANIFEST, manifest.model_dump_json(indent=1))
        shutil.rmtree(finished, ignore_errors=True)  # whatever lies there has no manifest
        staging.rename(finished)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{folder}: the token shards cannot be written ({reason}). Free some space there.") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return TokenShards(finished)


def _sweep(folder: Path, key: str) -> None:
    """Remove what processes that were killed left of this same preparation."""
    for left in folder.glob(f".{key}.*.partial"):
        try:
            os.kill(int(left.name.split(".")[-2]), 0)
        except ProcessLookupError:
            shutil.rmtree(left, ignore_errors=True)
        except PermissionError:
            pass  # alive, and somebody else's


def _write(
    intake: _Intake,
    tokenizer: Tokenizer,
    staging: Path,
    source: str,
    config: PrepareConfig,
    total_bytes: int | None,
    progress: Callable[[int, int], None] | None,
) -> Manifest:
    arriving = intake.distinct()
    first = list(_probe(arriving))
    splitter, budget = _plan([document for document, _ in first], tokenizer, config, total_bytes)
    placed = (p for document, digest in chain(first, arriving) for p in splitter.place(document, digest))
    dtype = "<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4"
    writers: dict[Side, ShardWriter] = {
        side: ShardWriter(staging, side, dtype, config.shard_symbols) for side in ("train", "validation")
    }
    stopped = False
    for batch in _batches(placed):
        for side, ids, size in _encode(batch, tokenizer):
            writers[side].add(ids, size)
        written = sum(writer.symbols for writer in writers.values())
        if progress:
            progress(written, intake.text_bytes)
        # The document settled for validation is among the first, but in degenerate text not before the budget is full.
        if budget is not None and written >= budget and all(writer.symbols for writer in writers.values()):
            stopped = True
            break
    for side, writer in writers.items():
        writer.close()
        if not writer.symbols:
            raise DataError(f"the text is too little or too repetitive: nothing was left for the {side} side.")
    return Manifest(
        dtype=dtype,
        vocab_size=tokenizer.vocab_size,
        tokenizer=tokenizer.fingerprint(),
        source=source,
        documents_read=intake.read,
        duplicates=intake.dedup.duplicates,
        text_bytes_read=intake.text_bytes,
        validation_fraction=splitter.validation_fraction,
        keep_fraction=splitter.keep_fraction,
        notes=_notes(intake, splitter, stopped),
        train=writers["train"].shards,
        validation=writers["validation"].shards,
    )


def _probe(arriving: Iterator[tuple[Document, bytes]]) -> Iterator[tuple[Document, bytes]]:
    """Yield the first documents: 64 of them, or 64 Mi characters, whichever is less."""
    characters = 0
    for number, (document, digest) in enumerate(arriving, start=1):
        yield document, digest
        characters += len(document.text)
        if number >= FEW_DOCUMENTS or characters >= _PROBE_CHARACTERS:
            return


def _plan(
    first: list[Document], tokenizer: Tokenizer, config: PrepareConfig, total_bytes: int | None
) -> tuple[Splitter, float | None]:
    """Return how documents are placed, and after how many symbols to stop at the latest."""
    keep, budget, kept_bytes = 1.0, None, total_bytes
    if config.max_symbols is not None:
        samples = [document.text[:20_000] for document in first if document.text]
        symbols = sum(map(len, tokenizer.encode_batch(samples)))
        bytes_per_symbol = sum(len(text_bytes(text)) for text in samples) / symbols if symbols else 4.0
        wanted_bytes = int(config.max_symbols * bytes_per_symbol)
        keep = min(1.0, wanted_bytes / total_bytes) if total_bytes else 1.0
        budget = config.max_symbols * (_OVERSHOOT if total_bytes else 1.0)
        kept_bytes = min(wanted_bytes, total_bytes or wanted_bytes)
    fraction = config.validation_fraction
    if fraction is None:
        fraction = min(max(5e5 / kept_bytes, 0.005), 0.1) if kept_bytes else 0.01
    return plan_split(first, fraction, keep), budget


def _batches(placed: Iterable[tuple[Document, Side]]) -> Iterator[list[tuple[Document, Side]]]:
    batch: list[tuple[Document, Side]] = []
    characters = 0
    for document, side in placed:
        batch.append((document, side))
        characters += len(document.text) + sum(len(message.content) for message in document.messages)
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _encode(batch: list[tuple[Document, Side]], tokenizer: Tokenizer) -> Iterator[tuple[Side, list[int], int]]:
    """Yield the side, the symbols with both boundaries, and the bytes of text of each document."""
    # Cutting would put the prefix of a sentencepiece vocabulary before every piece.
    limit = _PIECE_CHARACTERS if not tokenizer.text_prefix else 1 << 62
    pieces = [list(cut_text(document.text, limit)) for document, _ in batch]
    encoded = iter(tokenizer.encode_batch([piece for parts in pieces for piece in parts]))
    sizes = tokenizer.symbol_bytes() if any(document.messages for document, _ in batch) else []
    eot = tokenizer.eot_id
    for (document, side), parts in zip(batch, pieces, strict=True):
        ids = [eot]
        if document.messages:
            ids += encode_chat(tokenizer, document.messages)
            ids = ids[1:] if ids[1:2] == [eot] else ids  # a template that itself begins the document
            size = sum(sizes[number] for number in ids)
        else:
            for _ in parts:
                ids += next(encoded)
            size = len(text_bytes(document.text))
        ids.append(eot)
        yield side, ids, size


def _notes(intake: _Intake, splitter: Splitter, stopped: bool) -> list[str]:
    notes = []
    if intake.dedup.duplicates:
        notes.append(f"Left out {intake.dedup.duplicates:,} of {intake.read:,} documents: exact duplicates of others.")
    if splitter.passage_characters:
        notes.append(
            f"Few documents (under {FEW_DOCUMENTS}): to validate, passages of up to {splitter.passage_characters:,} "
            "characters were taken out of them, so training and validation share documents."
        )
    if splitter.keep_fraction < 1:
        notes.append(f"Took an evenly spread sample of {splitter.keep_fraction:.1%} of the text, as the budget asks.")
    if stopped:
        notes.append(f"Stopped after {intake.read:,} documents, when the budget of symbols was full.")
    return notes
