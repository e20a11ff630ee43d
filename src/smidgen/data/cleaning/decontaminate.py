"""Take the items of evaluation sets out of what will be trained on.

An item is every string of a record, however deep it is nested, and every two strings of it one behind the other, as a
question stands before its answer. It is found by 13 words in a row or, if shorter, whole (see `smidgen.data.ngrams`).
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from smidgen.config import Config
from smidgen.data.cleaning.step import Dropped, Kept, Verdict
from smidgen.data.formats import ReadCounts, reader_of
from smidgen.data.ngrams import LEAST_WORDS, WORDS, NgramIndex
from smidgen.errors import DataError

_MOST_PAIRED = 12
"""Records with more strings than this (tables, conversations) are taken string by string only."""


class DecontaminateConfig(Config):
    """Which evaluation sets, and what happens to their items."""

    type: Literal["decontaminate"] = "decontaminate"
    against: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Files of evaluation items (jsonl, json, csv, parquet, txt; .gz and .zst too), or folders of them."""
    action: Literal["cut", "drop"] = "cut"
    """Cut the paragraph that holds an item, or drop the document."""
    words: Annotated[int, Field(ge=4)] = WORDS
    """So many words of an item in a row are an occurrence. Source: Brown et al. 2020, arXiv 2005.14165, appendix C."""
    least_words: Annotated[int, Field(ge=2)] = LEAST_WORDS
    """Items of fewer words are not looked for."""


class Decontaminate:
    """Cuts paragraphs that hold an evaluation item, or drops their documents."""

    name = "decontaminate"

    def __init__(self, config: DecontaminateConfig) -> None:
        self.config = config

    @cached_property
    def index(self) -> NgramIndex:
        """The items, read with the first document. Raises DataError if a file has none or cannot be read."""
        items = dict.fromkeys(item for path in self.config.against for item in read_items(path))
        return NgramIndex(items, self.config.words, self.config.least_words)

    def __call__(self, text: str) -> Verdict:
        """Return the text without the paragraphs in which an item was found, the line breaks of an item included."""
        found = [(find.start, find.end) for find in self.index.find([text])]
        if not found:
            return Kept(text)
        if self.config.action == "drop":
            start, end = found[0]
            return Dropped("decontaminate:item", " ".join(text[start:end].split())[:120])
        kept, cut = _without(text, found)
        changes = {"decontaminate:paragraph": cut}
        return Kept(kept, changes) if kept.strip() else Dropped("decontaminate:item", "nothing else in it")


def read_items(path: Path) -> Iterator[str]:
    """Yield the items of a file of records, or of every such file in a folder.

    Raises DataError if there is none.
    """
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    found = False
    for file in files:
        reader = reader_of(file)
        if reader is None:
            if file == path:
                raise DataError(f"{path}: evaluation items cannot be read from this kind of file. Use jsonl, csv, txt.")
            continue
        for record in reader(file, ReadCounts()):
            for item in items_of(record.fields):
                found = True
                yield item
    if not found:
        raise DataError(f"{path}: no evaluation items there. Name files, or folders with files, of records with text.")


def items_of(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield the strings of a record and, in the order in which they stand, every two one behind the other."""
    strings = [text for text in dict.fromkeys(_strings(fields)) if text.strip()]
    yield from strings
    if len(strings) <= _MOST_PAIRED:
        for n, first in enumerate(strings):
            yield from (f"{first} {second}" for second in strings[n + 1 :])


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def _without(text: str, found: list[tuple[int, int]]) -> tuple[str, int]:
    """Return the text without the paragraphs that any of the ranges touches, and how many those are."""
    gap = "\n\n" if "\n\n" in text else "\n"
    kept, cut, at = [], 0, 0
    for paragraph in text.split(gap):
        end = at + len(paragraph)
        if any(start < end and stop > at for start, stop in found):
            cut += 1
        else:
            kept.append(paragraph)
        at = end + len(gap)
    return gap.join(kept), cut
