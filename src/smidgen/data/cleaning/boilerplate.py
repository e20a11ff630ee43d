"""Lines that stand in many documents are the page's, not the text's: menus, notices, footers, invitations.

They are cut wherever they stand. Headings stand in many documents too, and are text: a short line without a sentence or
a separator in it stays. What is in one page only, however empty, is for the quality rules.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from smidgen.config import Config
from smidgen.data.cleaning.exact import digests
from smidgen.data.cleaning.quality import join_lines
from smidgen.data.cleaning.ranges import count_rows, hash_ranges, within
from smidgen.data.cleaning.step import Columns, Dropped, Kept, Record, Table, Verdict


class BoilerplateConfig(Config):
    """When a line is boilerplate."""

    type: Literal["boilerplate"] = "boilerplate"
    min_documents: Annotated[int, Field(ge=2)] = 10
    """In so many documents a line stands by no accident: copies of one page are fewer once duplicates are gone. (CCNet,
    Wenzek et al. 2019, arXiv 1911.00359, cuts a line that comes twice in a shard, and headings with it.)"""
    min_words: Annotated[int, Field(ge=1)] = 4
    """A line of fewer words, without a mark that headings do not have, is a heading."""
    max_characters: Annotated[int, Field(ge=20)] = 400
    """A longer line is a paragraph, and paragraphs that repeat are for exact deduplication."""


_AT_ONCE = 1 << 23
"""Different lines of a part that are in memory together, about."""
_MARKS = re.compile(r"[|»›>©®!?*@_{}\[\]:]|  |\d{4}\b.*\d|[.!?]$")
"""What menus, notices and footers are put together with, and headings are not."""
_NUMBERS = re.compile(r"\d+")


class Boilerplate:
    """Cuts lines that stand in many documents, numbers in them aside ("Views: 1,204").

    Deciding counts the lines of a range of hashes at a time.
    """

    name = "boilerplate"

    def __init__(self, config: BoilerplateConfig) -> None:
        self.config = config

    def _candidate(self, line: str) -> bool:
        return len(line) <= self.config.max_characters and (
            len(line.split()) >= self.config.min_words or bool(_MARKS.search(line))
        )

    def _hashes(self, lines: Iterable[str]) -> np.ndarray:
        return digests((_NUMBERS.sub("0", line) for line in lines), "case")[:, 0]

    def collect(self, records: Sequence[Record]) -> Columns:
        """Return the lines of this part that may be boilerplate, and in how many of its documents each stands."""
        hashes = [self._hashes(self._lines(record.text)) for record in records]
        different = [np.unique(found) for found in hashes]
        line, count = np.unique(np.concatenate(different or [np.zeros(0, np.uint64)]), return_counts=True)
        return {"line": line, "count": count.astype(np.uint32)}

    def _lines(self, text: str) -> list[str]:
        return [line for line in map(str.strip, text.split("\n")) if line and self._candidate(line)]

    def decide(self, tables: Sequence[Table]) -> Columns:
        """Return the lines that are boilerplate, sorted, and in how many documents each stands."""
        found = [self._often(tables, *limits) for limits in hash_ranges(count_rows(tables, "line"), _AT_ONCE)]
        line, count = (np.concatenate(side) for side in zip(*found, strict=True))
        return {"line": line, "count": count}

    def _often(self, tables: Sequence[Table], begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the lines of a range of hashes that stand in enough documents, sorted, and in how many."""
        lines, counts = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint32)]
        for table in tables:
            here = within(table["line"], begin, end)
            lines.append(table["line"][here])
            counts.append(table["count"][here])
        line, count = np.concatenate(lines), np.concatenate(counts)
        del lines, counts
        order = np.argsort(line)
        line, count = line[order], count[order].astype(np.int64)
        begins = np.flatnonzero(np.append(True, line[1:] != line[:-1])[: len(line)])
        total = np.add.reduceat(count, begins) if len(line) else count
        often = total >= self.config.min_documents
        return line[begins[often]], total[often]

    def held(self, rows: int) -> int:
        """Return the bytes that deciding holds: 48 for a line of a range."""
        return 48 * min(rows, _AT_ONCE)

    def judge(self, decision: Columns) -> Callable[[Record], Verdict]:
        """Return what cuts those lines; a document of nothing else is dropped."""
        boilerplate = frozenset(decision["line"].tolist())

        def apply(record: Record) -> Verdict:
            lines = record.text.split("\n")
            asked = [n for n, line in enumerate(lines) if line.strip() and self._candidate(line.strip())]
            hashes = self._hashes(lines[n].strip() for n in asked).tolist()
            cut = {n for n, line in zip(asked, hashes, strict=True) if line in boilerplate}
            if not cut:
                return Kept(record.text)
            text = join_lines([line for n, line in enumerate(lines) if n not in cut])
            if not text:
                return Dropped("boilerplate:only", f"{len(cut)} lines")
            return Kept(text, {"boilerplate:line": len(cut)})

        return apply
