"""The same text twice: whole documents, paragraphs or lines, to the letter or up to white space and case.

Of documents that are the same the first one stays; paragraphs and lines that stood before, in this document or in an
earlier one, are cut. Texts that differ in a few words are for `minhash.py`, and lines that stand in very many documents
for `boilerplate.py`.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from smidgen.config import Config
from smidgen.data.cleaning.quality import join_lines
from smidgen.data.cleaning.step import Columns, Dropped, Kept, Record, Verdict

Compare = Literal["exactly", "spaces", "case"]


class ExactConfig(Config):
    """What counts as the same, and in which unit."""

    type: Literal["exact"] = "exact"
    unit: Literal["document", "paragraph", "line"] = "document"
    """What is compared; paragraphs are set apart by blank lines."""
    compare: Compare = "case"
    """`exactly`; or whatever the white space (`spaces`); or whatever white space and case (`case`)."""
    min_characters: Annotated[int, Field(ge=1)] = 60
    """Shorter paragraphs and lines may stand as often as they like: headings do."""


def digests(texts: Iterable[str], compare: Compare) -> np.ndarray:
    """Return 16 bytes for each text, as two columns of 64 bits; no two of 10^10 different texts share theirs."""
    found = b"".join(hashlib.blake2b(_normal(text, compare), digest_size=16).digest() for text in texts)
    return np.frombuffer(found, "<u8").reshape(-1, 2)


def _normal(text: str, compare: Compare) -> bytes:
    if compare != "exactly":
        text = " ".join(text.split())
    if compare == "case":
        text = text.casefold()
    return text.encode("utf-8", "surrogatepass")


class ExactDocuments:
    """Drops documents that are the same as an earlier one.

    Memory to decide: 24 bytes a document, twice that while sorting.
    """

    name = "exact"

    def __init__(self, config: ExactConfig) -> None:
        self.config = config

    def collect(self, records: Sequence[Record]) -> Columns:
        """Return each document's key and the digest of its text."""
        low_high = digests((record.text for record in records), self.config.compare)
        return {"key": _keys(records), "low": low_high[:, 0], "high": low_high[:, 1]}

    def decide(self, tables: Iterable[Columns]) -> Columns:
        """Return the keys of what is dropped and of what it is the same as, sorted by the first."""
        columns = stacked(tables, ("key", "low", "high"))
        order = np.lexsort((columns["high"], columns["low"]))  # stable: within a group the first document stays first
        key, low, high = (columns[name][order] for name in ("key", "low", "high"))
        begins = np.ones(len(key), dtype=bool)
        begins[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
        owner = key[np.maximum.accumulate(np.where(begins, np.arange(len(key)), 0))]
        return pairs_sorted(key[~begins], owner[~begins])

    def judge(self, decision: Columns) -> Callable[[Record], Verdict]:
        """Return what drops the documents decided on."""
        return drop_listed(decision, "exact:document")


class ExactParts:
    """Cuts paragraphs or lines that stood before, here or in an earlier document.

    Memory to decide: 16 bytes for each paragraph or line that is long enough, three times that while sorting.
    """

    name = "exact"

    def __init__(self, config: ExactConfig) -> None:
        self.config = config
        self._gap = "\n\n" if config.unit == "paragraph" else "\n"

    def collect(self, records: Sequence[Record]) -> Columns:
        """Return the digest of every part, and the key of the document it stands in."""
        keys, parts = [], []
        for record in records:
            found = list(dict.fromkeys(self._long(record.text)))
            parts += found
            keys += [record.key] * len(found)
        return {"key": np.array(keys, np.uint64), "hash": digests(parts, self.config.compare)[:, 0]}

    def _long(self, text: str) -> Iterable[str]:
        return (part for part in text.split(self._gap) if len(part.strip()) >= self.config.min_characters)

    def decide(self, tables: Iterable[Columns]) -> Columns:
        """Return the parts that stand in several documents, sorted, and the document that each may stay in."""
        columns = stacked(tables, ("key", "hash"))
        order = np.argsort(columns["hash"], kind="stable")
        key, part = columns["key"][order], columns["hash"][order]
        begins = np.flatnonzero(np.append(True, part[1:] != part[:-1])[: len(part)])
        several = np.diff(np.append(begins, len(part))) > 1
        return {"hash": part[begins[several]], "owner": key[begins[several]]}

    def judge(self, decision: Columns) -> Callable[[Record], Verdict]:
        """Return what cuts the parts decided on, and every part that a document repeats."""

        def apply(record: Record) -> Verdict:
            parts = record.text.split(self._gap)
            long = [n for n, part in enumerate(parts) if len(part.strip()) >= self.config.min_characters]
            if not long:
                return Kept(record.text)
            hashes = digests((parts[n] for n in long), self.config.compare)[:, 0]
            owner = looked_up(decision["hash"], decision["owner"], hashes, np.uint64(record.key))
            first = np.zeros(len(long), dtype=bool)
            first[np.unique(hashes, return_index=True)[1]] = True
            cut = {n for n, stays in zip(long, (owner == np.uint64(record.key)) & first, strict=True) if not stays}
            if not cut:
                return Kept(record.text)
            kept = [part for n, part in enumerate(parts) if n not in cut]
            text = join_lines(self._gap.join(kept).split("\n"))
            changes = {f"exact:{self.config.unit}": len(cut)}
            return Kept(text, changes) if text.strip() else Dropped(f"exact:every_{self.config.unit}", f"{len(cut)}")

        return apply


def stacked(tables: Iterable[Columns], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the tables one below the other; of none, empty columns."""
    parts = list(tables)
    return {name: np.concatenate([part[name] for part in parts] or [np.zeros(0, np.uint64)]) for name in names}


def pairs_sorted(key: np.ndarray, owner: np.ndarray) -> Columns:
    """Return keys to drop, and what each is a copy of, in the order that `drop_listed` looks them up in."""
    order = np.argsort(key, kind="stable")
    return {"key": key[order], "of": owner[order]}


def looked_up(keys: np.ndarray, values: np.ndarray, asked: np.ndarray, otherwise: np.uint64) -> np.ndarray:
    """Return the value of each key that is asked for, of those that are not in the sorted keys `otherwise`."""
    if not len(keys):
        return np.full(len(asked), otherwise)
    at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[at] == asked, values[at], otherwise)


def drop_listed(decision: Columns, reason: str) -> Callable[[Record], Verdict]:
    """Return what drops every document whose key is listed."""
    listed = dict(zip(decision["key"].tolist(), decision["of"].tolist(), strict=True))

    def apply(record: Record) -> Verdict:
        of = listed.get(record.key)
        return Kept(record.text) if of is None else Dropped(reason, f"of {of:016x}")

    return apply


def _keys(records: Sequence[Record]) -> np.ndarray:
    return np.array([record.key for record in records], np.uint64)
