"""What the cells of a study show together: figures of every variant, differences to the reference, verdicts.

Everything is computed anew from the cells' records, so that a table exists after every cell and after every crash.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from smidgen.evaluation.intervals import Estimate, estimate_difference
from smidgen.evaluation.paired import Difference, compare_pairs, compare_pooled, pooled_noise, reach_of
from smidgen.recipe import differing_keys
from smidgen.reports.study import render_study_page, render_study_table
from smidgen.runs import atomic_write
from smidgen.study.layout import StudyDirectory, write_json

Record = Mapping[str, Any]

_FIGURES = (
    "parameters",
    "effective_parameters",
    "file_bytes",
    "int8_bytes",
    "seconds",
    "steps",
    "symbols",
    "bytes_per_symbol",
    "text_bytes",
    "bytes_per_second",
    "flops",
    "memory_bytes",
    "epochs",
)


def write_results(directory: StudyDirectory) -> dict[str, Any]:
    """Write results.json, the table and the page from what the cells have recorded so far; return the results."""
    results = collect_results(directory)
    write_json(directory.results, results)
    atomic_write(directory.table, render_study_table(results))
    atomic_write(directory.page, render_study_page(results))
    return results


def collect_results(directory: StudyDirectory) -> dict[str, Any]:
    """Return the results of a study as plain values. Raises RunError if there is no study."""
    plan = directory.read_plan()
    study = plan["study"]
    cells: dict[str, dict[int, Record]] = {variant["name"]: {} for variant in plan["variants"]}
    failed: dict[str, list[dict[str, Any]]] = {name: [] for name in cells}
    for key, cell in plan["cells"].items():
        record = directory.read_record(key)
        if record is None:
            continue
        if record["status"] == "finished":
            cells[cell["variant"]][cell["seed"]] = record
        else:
            failed[cell["variant"]].append({"seed": cell["seed"], "reason": record["reason"]})
    noise = _noise(cells, study["seeds"])
    base = next(variant for variant in plan["variants"] if variant["name"] == study["reference"])
    rows = []
    for number, variant in enumerate(plan["variants"], start=1):
        name = variant["name"]
        row = {key: variant[key] for key in ("name", "note", "group")} | {"number": number, "failed": failed[name]}
        row["changes"] = differing_keys(base["recipe"], variant["recipe"])
        row |= _figures(cells[name])
        row |= _compare(cells[name], cells[study["reference"]], noise, study, name == study["reference"])
        rows.append(row)
    return {
        "study": study,
        "cells": {"planned": len(plan["cells"]), "finished": sum(map(len, cells.values()))},
        "noise": None if noise is None else {"deviation": noise[0], "freedom": noise[1]},
        "variants": rows,
        "notes": _notes(cells, noise, study),
        "hardware": next((record["hardware"] for by_seed in cells.values() for record in by_seed.values()), None),
        "versions": next((record["versions"] for by_seed in cells.values() for record in by_seed.values()), None),
    }


def _figures(by_seed: Mapping[int, Record]) -> dict[str, Any]:
    """Return the means over seeds; of bits per byte, the standard error too."""
    records = [by_seed[seed] for seed in sorted(by_seed)]
    scores = [record["bits_per_byte"] for record in records]
    error = statistics.stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else None
    means = {key: statistics.fmean(r[key] for r in records) if records else None for key in _FIGURES}
    curves = [record["curve"] for record in records if record["curve"]]
    points = min(map(len, curves), default=0)
    return {
        "seeds": sorted(by_seed),
        "scores": scores,
        "bits_per_byte": statistics.fmean(scores) if scores else None,
        "standard_error": error,
        **means,
        "validation_bytes": records[0]["validation"]["bytes"] if records else None,
        "curve": [
            [statistics.fmean(curve[i][0] for curve in curves), statistics.fmean(curve[i][1] for curve in curves)]
            for i in range(points)
        ],
    }


def _noise(cells: Mapping[str, Mapping[int, Record]], seeds: Sequence[int]) -> tuple[float, int] | None:
    """Return what luck adds to one result, pooled over the variants that have every seed."""
    whole = [by_seed for by_seed in cells.values() if set(by_seed) >= set(seeds)]
    return pooled_noise([[by_seed[seed]["bits_per_byte"] for seed in seeds] for by_seed in whole])


def _compare(
    ours: Mapping[int, Record],
    theirs: Mapping[int, Record],
    noise: tuple[float, int] | None,
    study: Record,
    is_reference: bool,
) -> dict[str, Any]:
    """Return the differences to the reference over the seeds both have, and the verdict."""
    seeds = sorted(set(ours) & set(theirs))
    if is_reference:
        return _verdict("reference" if ours else "not run", "")
    if not ours:
        return _verdict("not run", "")
    if not seeds:
        return _verdict("not comparable", "the reference has no run with the same seed yet")
    if len({r["validation"]["digest"] for seed in seeds for r in (ours[seed], theirs[seed])}) > 1:
        return _verdict("not comparable", "measured on another held-out text than the reference")
    pairs = [(ours[seed]["bits_per_byte"], theirs[seed]["bits_per_byte"]) for seed in seeds]
    mine, other = [a for a, _ in pairs], [b for _, b in pairs]
    paired = compare_pairs(mine, other)
    pooled = compare_pooled(mine, other, noise) if noise else None
    documents = _compare_documents([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])
    over_seeds = pooled if study["noise"] == "pooled" else paired
    found = {
        "difference": statistics.fmean(a - b for a, b in pairs),
        "paired": paired.as_dict() if paired else None,
        "pooled": pooled.as_dict() if pooled else None,
        "documents": documents.as_dict() if documents else None,
    }
    return found | _verdict(*judge(over_seeds, documents))


def judge(over_seeds: Difference | None, over_documents: Estimate | None) -> tuple[str, str]:
    """Return better, worse or no difference shown, and why; of bits per byte, less is better.

    Both must leave out 0 on the same side: another training must be expected to say the same, and another text too.
    """
    if over_seeds is None:
        return "no difference shown", "one seed cannot tell a difference from luck; train more seeds"
    if not over_seeds.is_shown:
        few = "; with two seeds only a large difference can be shown" if over_seeds.freedom == 1 else ""
        return "no difference shown", f"within the luck of the seeds{few}"
    sign = math.copysign(1.0, over_seeds.value)
    if over_documents is not None and (
        over_documents.low <= 0 <= over_documents.high or over_documents.value * sign < 0
    ):
        return "no difference shown", "depends on which documents are measured"
    return ("better" if sign < 0 else "worse"), "beyond the luck of the seeds, and of the documents"


def _compare_documents(ours: Sequence[Record], theirs: Sequence[Record]) -> Estimate | None:
    """Return the difference in bits per byte with a paired bootstrap over documents, seeds averaged."""
    sizes = ours[0]["validation"]["document_bytes"]
    if len(sizes) < 2:
        return None
    mean_bits = math.log(2) * sum(sizes) / len(sizes)  # so that the mean over documents is the bits per byte of all

    def per_document(records: Sequence[Record]) -> list[float]:
        nats = zip(*(record["validation"]["document_nats"] for record in records), strict=True)
        return [statistics.fmean(paid) / mean_bits for paid in nats]

    return estimate_difference(per_document(ours), per_document(theirs), seed=0)


def _verdict(word: str, why: str) -> dict[str, Any]:
    return {"verdict": word, "why": why}


def _notes(cells: Mapping[str, Mapping[int, Record]], noise: tuple[float, int] | None, study: Record) -> list[str]:
    """Say what limits the conclusions."""
    records = [record for by_seed in cells.values() for record in by_seed.values()]
    seeds, notes = study["seeds"], []
    if len(seeds) == 1:
        notes.append("One seed: no difference can be told from luck. Give at least two, better three or more.")
    if len(seeds) == 2 and study["noise"] == "own":
        notes.append(
            "Two seeds: a paired test has one degree of freedom, and its interval reaches 12.7 standard errors. "
            "It shows only differences some ten times their own spread; what it does not show may still be there."
        )
    if noise is not None:
        deviation, freedom = noise
        least = reach_of(freedom) * deviation * math.sqrt(2 / len(seeds))
        notes.append(
            f"Luck of a seed, all variants together: {deviation:.4f} bits per byte ({freedom} degrees of freedom). "
            f"If it is alike for all, differences above {least:.4f} are beyond it."
        )
    compared = sum(1 for by_seed in cells.values() if by_seed) - 1
    if compared >= 5 and len(seeds) > 1:
        notes.append(f"{compared} comparisons at 95%: chance alone shows a difference in one of twenty.")
    if len({(record["git_commit"], str(record["versions"])) for record in records}) > 1:
        notes.append("Cells were run by different versions of the code; see cells/ for which.")
    if len({(record["hardware"]["cpu"], record["hardware"]["gpu"], record["jobs"]) for record in records}) > 1:
        notes.append("Cells were run on different machines or beside others: their seconds do not compare.")
    elif any(record["jobs"] > 1 for record in records):
        notes.append("Several cells ran at once and shared the machine: seconds compare within this study alone.")
    return notes
