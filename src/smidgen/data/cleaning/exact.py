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
from smidgen.data.cleaning.ranges import AT_ONCE, count_rows, hash_ranges, place_of, places_of, repeated, within
from smidgen.data.cleaning.step import Columns, Dropped, Kept, Record, Table, Verdict

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

    Deciding looks at the first halves of the digests, a range of them at a time, and at the rest of what is repeated.
    """

    name = "exact"

    def __init__(self, config: ExactConfig) -> None:
        self.config = config

    def collect(self, records: Sequence[Record]) -> Columns:
        """Return each document's key and the digest of its text, sorted by its first half."""
        low_high = digests((record.text for record in records), self.config.compare)
        order = np.argsort(low_high[:, 0], kind="stable")  # of the same texts the first stays first
        low_high = low_high[order]
        return {"key": _keys(records)[order], "low": low_high[:, 0], "high": low_high[:, 1]}

    def decide(self, tables: Sequence[Table]) -> Columns:
        """Return the keys of what is dropped and of what it is the same as, sorted by the first."""
        found = [self._copies(tables, *limits) for limits in hash_ranges(count_rows(tables, "low"), AT_ONCE)]
        return pairs_sorted(*(np.concatenate(side) for side in zip(*found, strict=True)))

    def _copies(self, tables: Sequence[Table], begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the copies in a range of digests, and what each is a copy of."""
        twice = repeated(tables, "low", begin, end)
        columns = {name: [np.zeros(0, np.uint64)] for name in ("key", "low", "high")}
        for table in tables:
            here = within(table["low"], begin, end)
            which, _ = places_of(twice, np.array(table["low"][here]))
            for name, found in columns.items():
                found.append(table[name][here][which])
        key, low, high = (np.concatenate(found) for found in columns.values())
        order = np.lexsort((high, low))  # stable: within a group the first document stays first
        key, low, high = key[order], low[order], high[order]
        begins = np.ones(len(key), dtype=bool)
        begins[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
        owner = key[np.maximum.accumulate(np.where(begins, np.arange(len(key)), 0))]
        return key[~begins], owner[~begins]

    def held(self, rows: int) -> int:
        """Return the bytes that deciding holds: 16 for a digest of a range, 16 for a copy, if one in four is one."""
        return 16 * min(rows, AT_ONCE) + 16 * rows // 4

    def judge(self, decision: Columns) -> Callable[[Record], Verdict]:
        """Return what drops the documents decided on."""
        return drop_listed(decision, "exact:document")


class ExactParts:
    """Cuts paragraphs or lines that stood before, here or in an earlier document.

    Deciding looks at a range of the hashes at a time, and holds all those that are repeated with their owners.
    """

    name = "exact"

    def __init__(self, config: ExactConfig) -> None:
        self.config = config
        self._gap = "\n\n" if config.unit == "paragraph" else "\n"

    def collect(self, records: Sequence[Record]) -> Columns:
        """Return the hash of every part, sorted, and the key of the document it stands in."""
        keys, parts = [], []
        for record in records:
            found = list(dict.fromkeys(self._long(record.text)))
            parts += found
            keys += [record.key] * len(found)
        hashes = digests(parts, self.config.compare)[:, 0]
        order = np.argsort(hashes, kind="stable")  # of the same parts the first stays first
        return {"key": np.array(keys, np.uint64)[order], "hash": hashes[order]}

    def _long(self, text: str) -> Iterable[str]:
        return (part for part in text.split(self._gap) if len(part.strip()) >= self.config.min_characters)

    def decide(self, tables: Sequence[Table]) -> Columns:
        """Return the parts that stand in several documents, sorted, and the document that each may stay in."""
        found = [self._owners(tables, *limits) for limits in hash_ranges(count_rows(tables, "hash"), AT_ONCE)]
        part, owner = (np.concatenate(side) for side in zip(*found, strict=True))
        return {"hash": part, "owner": owner}

    def _owners(self, tables: Sequence[Table], begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the repeated parts of a range of hashes, and the document in which each stands first."""
        several = repeated(tables, "hash", begin, end)
        owner, has_owner = np.zeros(len(several), np.uint64), np.zeros(len(several), dtype=bool)
        for table in tables:
            here = within(table["hash"], begin, end)
            which, place = places_of(several, np.array(table["hash"][here]))
            place, first = np.unique(place, return_index=True)
            new = ~has_owner[place]
            owner[place[new]] = table["key"][here][which[first[new]]]
            has_owner[place] = True
        return several, owner

    def held(self, rows: int) -> int:
        """Return the bytes that deciding holds: 16 for a hash of a range, 32 for a repeated one, if one in ten is."""
        return 16 * min(rows, AT_ONCE) + 32 * rows // 10

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
    """Return what drops every document whose key is listed; every worker holds 16 bytes for each."""
    keys, owners = decision["key"], decision["of"]

    def apply(record: Record) -> Verdict:
        at = place_of(keys, record.key)
        return Kept(record.text) if at is None else Dropped(reason, f"of {int(owners[at]):016x}")

    return apply


def _keys(records: Sequence[Record]) -> np.ndarray:
    return np.array([record.key for record in records], np.uint64)
