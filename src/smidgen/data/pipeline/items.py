"""What the reading of a file is asked for and what it yields: records, and everything in it that is none."""

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smidgen.data.cleaning.step import Record

_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?([\w.:-]{2,40})""", re.IGNORECASE)
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_MEANT = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030"}
"""What pages that say so are written in: the quotation marks of Windows are control characters in Latin-1. Source:
WHATWG Encoding Standard, section 4.2."""


@dataclass(frozen=True)
class Split:
    """What one worker reads at a time: a file, or a range of its bytes."""

    source: str
    license: str
    path: str
    """Where the file is, on this machine or behind an address."""
    name: str
    """The file's name below its source, with `/` between folders: the beginning of its documents' ids."""
    start: int = 0
    end: int | None = None
    """Where the range ends; None: with the file."""
    text_field: str = "text"
    messages_field: str = "messages"

    @property
    def place(self) -> str:
        """The beginning of the ids of its documents."""
        return f"{self.source}/{self.name}"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in a file that is no document."""

    reason: str
    """Short and the same for all its kind."""
    where: str
    detail: str = ""
    times: int = 1
    """How many records it is, as far as the file tells."""


@dataclass(frozen=True, slots=True)
class Mended:
    """Something in a file that was put right before any step saw it."""

    what: str
    times: int = 1


Item = Record | Fault | Mended


def record_of(fields: Mapping[str, Any], place: str, split: Split) -> Record | Fault:
    """Return the document that one row of a file is, or why it is none."""
    text = fields.get(split.text_field)
    if isinstance(text, str):
        return Record(place, text, split.source, split.license) if text.strip() else Fault("empty text", place)
    if text is not None:
        return Fault("text is not a string", place, repr(text)[:40])
    if split.text_field in fields:
        return Fault("empty text", place, "null")
    if split.messages_field in fields:
        return Fault("conversation", place, "a pipeline cleans text; train on conversations as they are")
    return Fault("no text field", place, "has: " + ", ".join(map(str, fields))[:60])


def page_of(data: bytes, charset: str | None, place: str, split: Split) -> Record | Fault:
    """Return a web page as a document, markup and all: taking the text out of it is a step's work.

    A byte-order mark counts most, then `charset`, which came with the page, then the page's own word, then UTF-8.
    """
    mark, encoding = next((known for known in _MARKS if data.startswith(known[0])), (b"", ""))
    if not mark and charset is None and (told := _CHARSET.search(data[:4096])):
        own = told[1].decode()
        charset = "utf-8" if own.lower().startswith("utf-16") else own  # or these words could not be read
    try:
        encoding = encoding or codecs.lookup(charset or "utf-8").name
        text = data.removeprefix(mark).decode(_MEANT.get(encoding, encoding), "replace")
    except (LookupError, UnicodeError):  # a charset nobody knows, or one that is no encoding of pages
        text = data.decode("utf-8", "replace")
    return Record(place, text, split.source, split.license) if text.strip() else Fault("empty text", place)
