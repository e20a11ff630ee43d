"""A file or a folder as a stream of documents, with everything that was passed over counted and told.

Folders are read recursively in sorted order; hidden files are left out. `text` (or the field asked for) is a document,
`messages` (a list of {"role", "content"}) a conversation. Cleaning, filtering and near-duplicates are other rooms.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smidgen.config import Config
from smidgen.data.compression import packing_ratio
from smidgen.data.documents import Document
from smidgen.data.formats import READERS, ReadCounts, Record, read_parquet, reader_of
from smidgen.errors import DataError
from smidgen.tokenizers.chat import Message

PROVENANCE = "provenance.json"
"""Says how the text beside it was made (`smidgen data synthesize`), and is no text itself."""


class ReadConfig(Config):
    """How records become documents."""

    text_field: str = "text"
    """Field or column that holds the text."""
    messages_field: str = "messages"
    """Field that holds a conversation; looked at where the text field is absent."""


READ_WHOLE_BYTES = 2 << 30
"""Most bytes of files that are read for a fingerprint: two seconds, for which a run or study goes on when
its folder was copied anew."""


class Corpus:
    """The documents of a file or folder; iterate as often as you like, each time from the start.

    Raises DataError at once if the path does not exist or holds nothing readable.
    """

    def __init__(self, path: Path, config: ReadConfig | None = None) -> None:
        self.path = Path(path)
        self.config = config or ReadConfig()
        self._unsupported: Counter[str] = Counter()
        self.files = tuple(self._find_files())
        self.counts = ReadCounts(unsupported=self._unsupported)
        """Counts of the latest iteration."""

    def __iter__(self) -> Iterator[Document]:
        """Yield every document that has a visible character."""
        self.counts = counts = ReadCounts(unsupported=self._unsupported)
        for path in self.files:
            reader = reader_of(path)
            assert reader is not None
            counts.files += 1
            for record in reader(path, counts):
                document = self._document(record, path)
                if document is None:
                    counts.empty_documents += 1
                    continue
                counts.documents += 1
                counts.text_bytes += len(document.text) if document.text.isascii() else len(document.content_bytes())
                yield document
        if not counts.documents:
            raise DataError(f"{self.path}: holds no text: {counts.files} readable files, all of them empty.")

    def notes(self) -> list[str]:
        """Return one line for each thing passed over or changed in the latest iteration, for the caller to print."""
        counts, lines = self.counts, []
        if counts.unsupported:
            lines.append(
                f"Passed over {counts.unsupported.total()} files of other formats: {_kinds(counts.unsupported)}."
            )
        if counts.empty_documents:
            lines.append(f"Left out {counts.empty_documents:,} empty documents.")
        if counts.replaced_bytes:
            lines.append(f"Replaced {counts.replaced_bytes:,} bytes that are not UTF-8 with U+FFFD.")
        return lines

    def fingerprint(self) -> str:
        """Return a hash of file names, what is in them, and reading options: the same for a copy, elsewhere or later.

        Of more than `READ_WHOLE_BYTES`, sizes and modification times stand for what is in the files.
        Raises DataError if a file cannot be read.
        """
        digest = hashlib.blake2b(self.config.model_dump_json().encode(), digest_size=32)
        whole = sum(path.stat().st_size for path in self.files) <= READ_WHOLE_BYTES
        for path in self.files:
            status = path.stat()
            name = os.fsencode(path.relative_to(self.path) if path != self.path else path.name)
            digest.update(b"%s\0%d\0" % (name, status.st_size))
            if not whole:
                digest.update(b"%d\0" % status.st_mtime_ns)
                continue
            try:
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "blake2b").digest())
            except OSError as error:
                raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from None
        return digest.hexdigest()

    def estimate_text_bytes(self) -> int:
        """Estimate the bytes of text from file sizes and, for packed files, how eight beginnings unpack.

        Plain JSON and CSV count whole, so the estimate is some percent high for records with many fields.
        """
        packed = {path for path in self.files if path.suffix.lower() in (".gz", ".zst")}
        beginnings = sorted(packed)[:: max(1, len(packed) // 8)]
        ratio = sum(map(packing_ratio, beginnings)) / max(1, len(beginnings))
        # Snappy-packed English in parquet's default pages unpacks to about twice its size.
        scales = (ratio if path in packed else 2.0 if reader_of(path) is read_parquet else 1.0 for path in self.files)
        return int(sum(scale * path.stat().st_size for scale, path in zip(scales, self.files, strict=True)))

    def _find_files(self) -> Iterator[Path]:
        if not self.path.exists():
            raise DataError(f"{self.path}: no such file or folder.")
        if self.path.is_dir():
            found = False
            for path in walk_files(self.path):
                if path.name == PROVENANCE:
                    continue
                if reader_of(path) is None:
                    self._unsupported[path.suffix.lower() or "without suffix"] += 1
                else:
                    found = True
                    yield path
            if not found:
                raise DataError(f"{self.path}: no readable file in it{self._seen()}. Readable: {_readable()}.")
        elif reader_of(self.path) is None:
            raise DataError(f"{self.path}: not a format I can read. Readable: {_readable()}.")
        else:
            yield self.path

    def _seen(self) -> str:
        return f" (it has {_kinds(self._unsupported)})" if self._unsupported else " (it is empty)"

    def _document(self, record: Record, path: Path) -> Document | None:
        """Return the document of a record, or None if it is empty."""
        place = path.parent / record.where
        text = record.fields.get(self.config.text_field)
        messages = record.fields.get(self.config.messages_field)
        if isinstance(text, str):
            return Document(text=text, source=record.where) if text.strip() else None
        if text is None and messages is not None:
            turns = _messages(messages, self.config.messages_field, place)
            return Document(messages=turns, source=record.where) if turns else None
        if self.config.text_field in record.fields:
            if text is None:
                return None
            shown = repr(text) if len(repr(text)) < 40 else repr(text)[:40] + "..."
            raise DataError(f"{place}: field '{self.config.text_field}' must be a string, not {shown}.")
        if self.config.messages_field in record.fields:
            return None
        names = ", ".join(map(str, record.fields)) or "no fields"
        raise DataError(
            f"{place}: no field '{self.config.text_field}'; it has: {names}. Name the one that holds the text."
        )


def _messages(value: Any, field: str, place: Path) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise DataError(f"{place}: field '{field}' must be a list of messages.")
    for turn in value:
        if not (isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)):
            raise DataError(f'{place}: each of \'{field}\' must be {{"role": "...", "content": "..."}}.')
    return tuple(Message(turn["role"], turn["content"]) for turn in value)


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in sorted order, hidden ones left out, each real folder entered once."""
    entered: set[str] = set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}).")

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(parent)
        if real in entered:  # a symlink back up, or a second way to the same folder
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def _kinds(suffixes: Counter[str]) -> str:
    """Return the five most frequent suffixes with their counts."""
    return ", ".join(
        f"{n} {suffix}" for suffix, n in sorted(suffixes.items(), key=lambda kind: (-kind[1], kind[0]))[:5]
    )


def _readable() -> str:
    return " ".join(sorted(READERS)) + ", plain or .gz or .zst"
