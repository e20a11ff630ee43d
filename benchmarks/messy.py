"""The cleaning steps on a slice whose faults are labelled: what each step finds, what it lets through, what it takes.

`--data` names a folder with `messy.jsonl.zst` ({id, text, source}) and `labels.jsonl.gz` ({id, label, of, inserted,
items, ...}); `--against` the evaluation files whose items were put in. One process, documents in memory, the steps in
the order that is recommended, with their published thresholds. The table tells for every label how many documents were
dropped, for what, and how many of those that should be mended were; the bars of the project stand beside it.

    python -m benchmarks.messy --data DIR [--against DIR ...] [--without STEP ...] [--show LABEL] [--quick]
"""

import argparse
import gzip
import io
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from smidgen.data.cleaning.decontaminate import DecontaminateConfig
from smidgen.data.cleaning.in_memory import Cleaned, clean_in_memory
from smidgen.data.cleaning.repair import LOST
from smidgen.data.cleaning.step import Record
from smidgen.data.cleaning.steps import RECOMMENDED, StepConfig, build_step
from smidgen.runtime import describe_hardware, keep_large_blocks

DROPPED, MENDED = "dropped", "mended"


@dataclass(frozen=True)
class Bar:
    """What is asked of a label."""

    what: str
    least: float
    labels: tuple[str, ...]
    count: str
    """`dropped`, or `mended`: a document that was dropped is not mended."""


BARS = (
    Bar("exact duplicates, recall", 1.0, ("exact_duplicate", "whitespace_duplicate"), DROPPED),
    Bar("near-duplicates, recall", 0.95, ("near_duplicate",), DROPPED),
    Bar("other languages, recall", 0.98, ("non_english",), DROPPED),
    Bar("garbage, recall", 0.98, ("garbage",), DROPPED),
    Bar("boilerplate only, recall", 0.95, ("boilerplate_only",), DROPPED),
    Bar("repetition, recall", 0.95, ("repetition",), DROPPED),
    Bar("contamination, recall", 1.0, ("eval_contamination",), MENDED),
    Bar("inserted boilerplate, mended", 0.9, ("boilerplate_added",), MENDED),
    Bar("personal data, mended", 0.9, ("pii",), MENDED),
    Bar("mojibake, mended", 0.9, ("mojibake",), MENDED),
)
ALSO_MENDED = ("offensive", "mixed_language", "html_markup")
"""Labels without a bar whose documents should come out mended."""
COPIES = ("exact_duplicate", "whitespace_duplicate", "near_duplicate")


@dataclass(frozen=True)
class Slice:
    records: list[Record]
    labels: dict[str, dict[str, Any]]
    """By document id."""


def read_slice(folder: Path, quick: bool) -> Slice:
    """Read the slice, or of every label the first fifth with the originals of its copies."""
    with gzip.open(folder / "labels.jsonl.gz", "rt", encoding="utf-8") as file:
        labels = {label["id"]: label for label in map(json.loads, file)}
    records = [Record(row["id"], row["text"], row["source"]) for row in _rows(folder / "messy.jsonl.zst")]
    if quick:
        wanted = {name for name in labels if int(name[1:]) % 5 == 0 and labels[name]["label"] != "too_long"}
        wanted |= {labels[name]["of"] for name in wanted if "of" in labels[name]}
        records = [record for record in records if record.id in wanted]
    return Slice(records, {record.id: labels[record.id] for record in records})


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as plain:
        yield from map(json.loads, io.TextIOWrapper(plain, encoding="utf-8"))


def steps_of(against: Sequence[Path], without: Sequence[str]) -> list[StepConfig]:
    """Return the recommended steps; with evaluation files, decontamination before personal data."""
    extra = [DecontaminateConfig(against=tuple(against))] if against else []
    return [config for config in (*RECOMMENDED[:-1], *extra, RECOMMENDED[-1]) if config.type not in without]


def copies_found(slice_: Slice, cleaned: Cleaned) -> dict[str, int]:
    """Return, by label, the groups of a copy and its original of which not both went through."""
    through = {record.id for record in cleaned.records}
    found: Counter[str] = Counter()
    for name, label in slice_.labels.items():
        if label["label"] in COPIES:
            found[label["label"]] += not (name in through and label["of"] in through)
    return found


def is_mended(label: dict[str, Any], text: str) -> bool:
    """Return whether what was put in is gone, and no broken character is left."""
    if label["label"] == "mojibake":
        from ftfy.badness import is_bad

        return not is_bad(text) and LOST not in text
    if label["label"] == "html_markup":
        return not re.search(r"</?[a-z]+[^<>]*>|&[a-z]+;", text)
    inserted = label["items"] if label["label"] == "pii" else label.get("inserted", [])
    spaced = " ".join(text.split())
    return not any(" ".join(piece.split()) in spaced for piece in inserted)


def false_drops(slice_: Slice, cleaned: Cleaned) -> dict[str, str]:
    """Return the clean documents that were dropped though no copy of them went through, and why."""
    through = {record.id for record in cleaned.records}
    copies: dict[str, list[str]] = defaultdict(list)
    for name, label in slice_.labels.items():
        if label["label"] in COPIES:
            copies[label["of"]].append(name)
    return {
        name: cleaned.dropped[name].reason
        for name, label in slice_.labels.items()
        if label["label"] == "clean" and name not in through and not any(copy in through for copy in copies[name])
    }


def precision_of_copies(slice_: Slice, cleaned: Cleaned) -> tuple[float, int]:
    """Return the share of documents dropped as copies whose named original is one, and how many were dropped."""
    group = {name: label.get("of", name) for name, label in slice_.labels.items()}
    by_key = {f"of {record.key:016x}": record.id for record in slice_.records}
    listed = [name for name, drop in cleaned.dropped.items() if drop.reason in ("exact:document", "near:document")]
    right = sum(group[name] == group[by_key[cleaned.dropped[name].detail]] for name in listed)
    return right / max(1, len(listed)), len(listed)


def table(slice_: Slice, cleaned: Cleaned) -> list[str]:
    """Return a line for every label: documents, dropped, mended, the commonest reasons."""
    final = {record.id: record.text for record in cleaned.records}
    by_label: dict[str, list[str]] = defaultdict(list)
    for name, label in slice_.labels.items():
        by_label[label["label"]].append(name)
    lines = [f"{'label':22}{'documents':>10}{'dropped':>9}{'mended':>8}  reasons"]
    for label, names in sorted(by_label.items(), key=lambda item: -len(item[1])):
        gone = [name for name in names if name in cleaned.dropped]
        mended = sum(is_mended(slice_.labels[name], final[name]) for name in names if name in final)
        asked = any(label in bar.labels and bar.count == MENDED for bar in BARS) or label in ALSO_MENDED
        reasons = Counter(cleaned.dropped[name].reason for name in gone).most_common(4)
        told = ", ".join(f"{reason} {count}" for reason, count in reasons)
        lines.append(f"{label:22}{len(names):10}{len(gone):9}{mended if asked else '-':>8}  {told}")
    return lines


def measured(slice_: Slice, cleaned: Cleaned) -> list[tuple[Bar, float, int]]:
    """Return each bar with what was reached and of how many documents."""
    final, copies = {record.id: record.text for record in cleaned.records}, copies_found(slice_, cleaned)
    found = []
    for bar in BARS:
        names = [name for name, label in slice_.labels.items() if label["label"] in bar.labels]
        if bar.count == MENDED:
            hits = sum(name in final and is_mended(slice_.labels[name], final[name]) for name in names)
        elif set(bar.labels) <= set(COPIES):
            hits = sum(copies[label] for label in bar.labels)
        else:
            hits = sum(name in cleaned.dropped for name in names)
        found.append((bar, hits / max(1, len(names)), len(names)))
    precision, listed = precision_of_copies(slice_, cleaned)
    found.append((Bar("near-duplicates, precision", 0.98, COPIES, DROPPED), precision, listed))
    clean = sum(label["label"] == "clean" for label in slice_.labels.values())
    kept = 1 - len(false_drops(slice_, cleaned)) / clean
    found.append((Bar("clean documents, kept", 0.99, ("clean",), MENDED), kept, clean))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled slice")
    parser.add_argument("--against", type=Path, nargs="*", default=[], help="evaluation files or folders")
    parser.add_argument("--without", nargs="*", default=[], help="steps to leave out, to see what others find")
    parser.add_argument("--show", help="print what was dropped, and what was not mended, of this label")
    parser.add_argument("--quick", action="store_true", help="a fifth of the documents")
    options = parser.parse_args()
    keep_large_blocks()
    slice_ = read_slice(options.data, options.quick)
    steps = [build_step(config) for config in steps_of(options.against, options.without)]
    started = time.perf_counter()
    cleaned = clean_in_memory(slice_.records, steps)
    seconds = time.perf_counter() - started
    megabytes = sum(len(record.text.encode("utf-8", "replace")) for record in slice_.records) / 1e6
    print("\n".join(table(slice_, cleaned)))
    print(f"\n{'step':16}{'documents':>10}{'kept':>8}{'seconds':>9}  changes")
    for count in cleaned.steps:
        changes = ", ".join(f"{what} {times}" for what, times in count.changes.most_common(4))
        print(f"{count.name:16}{count.documents:10}{count.kept:8}{count.seconds:9.2f}  {changes}")
    print(f"\n{'bar':32}{'asked':>8}{'reached':>9}{'of':>6}")
    results = measured(slice_, cleaned)
    for bar, reached, of in results:
        print(f"{bar.what:32}{bar.least:8.1%}{reached:9.2%}{of:6}  {'' if reached >= bar.least else 'MISSED'}")
    false = false_drops(slice_, cleaned)
    print("clean documents dropped:", ", ".join(f"{why} {n}" for why, n in Counter(false.values()).most_common()))
    touched = Counter(
        what for name, row in slice_.labels.items() if row["label"] == "clean" for what in cleaned.changed.get(name, ())
    )
    print("clean documents changed:", ", ".join(f"{what} {n}" for what, n in touched.most_common()))
    if options.show:
        show(slice_, cleaned, options.show)
    print(
        json.dumps(
            {
                "bench": "messy",
                "ratio": min(reached / bar.least for bar, reached, _ in results),
                "ours": {bar.what: round(reached, 4) for bar, reached, _ in results},
                "peer": {bar.what: bar.least for bar, _, _ in results},
                "unit": "share of documents; peer is the bar",
                "megabytes_per_second": round(megabytes / seconds, 2),
                "hardware": describe_hardware(),
                "seed": 0,
            }
        )
    )


def show(slice_: Slice, cleaned: Cleaned, label: str) -> None:
    """Print every document of a label that was dropped, and what is left of those that were not mended."""
    final, original = ({record.id: record.text for record in records} for records in (cleaned.records, slice_.records))
    for name in (name for name, row in slice_.labels.items() if row["label"] == label):
        if name in cleaned.dropped:
            print(name, cleaned.dropped[name], repr(original[name][:200]))
        elif not is_mended(slice_.labels[name], final[name]):
            print(
                name,
                "not mended",
                cleaned.changed.get(name),
                {k: v for k, v in slice_.labels[name].items() if k not in ("id", "label")},
            )


if __name__ == "__main__":
    main()
