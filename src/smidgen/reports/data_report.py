"""The page of a prepared corpus: what went in, what every step kept, changed and dropped, and what came out.

Reads the plain values of counts.json; computes nothing but their form, so the same counts give the same page.
"""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from smidgen.reports.flow import Stretch, draw_bars, draw_flow, draw_lengths
from smidgen.reports.pages import inlined, open_templates
from smidgen.reports.quantities import count, number, share, size
from smidgen.reports.records import show_controls

Record = Mapping[str, Any]

_REASONS_TOLD = 3
_LANGUAGES = 14
_FACT = 400
"""Characters that are told of how a source was made, of each fact: a list of prompts can be long."""


def render_data_report(counts: Record) -> str:
    """Return the counts of a pipeline as one HTML page with nothing to fetch."""
    names = ("report.css", "study.css", "data_report.css")
    page = (
        open_templates()
        .get_template("data_report.html")
        .render(
            name=counts["name"],
            style=inlined(names),
            heading=data_heading(counts),
            tiles=_tiles(counts),
            flow=Markup(draw_flow(flow_of(counts))),
            lengths=Markup(draw_lengths(counts["read"]["lengths"], counts["cleaned"]["lengths"])),
            languages=Markup(draw_bars(languages_of(counts))),
            sources=source_rows(counts),
            source_columns=SOURCE_COLUMNS,
            made=[(source["name"], _made(source["made_by"])) for source in counts["sources"] if source.get("made_by")],
            steps=[_step(step) for step in counts["steps"]],
            clusters=[_cluster(step) for step in counts["steps"] if step.get("cluster_sizes")],
            notes=_notes(counts),
        )
    )
    return show_controls(page)


def data_heading(counts: Record) -> str:
    """Return in a sentence what became of the text."""
    read, cleaned = _total(counts["read"]), _total(counts["cleaned"])
    of = f" ({share(cleaned[1] / read[1])})" if read[1] else ""
    return (
        f"{read[0]:,} documents, {size(read[1])} of text, were read from {counts['files']:,} files; "
        f"{cleaned[0]:,} documents, {size(cleaned[1])}{of}, are left. "
        f"They are {count(_symbols(counts))} symbols of a vocabulary of {counts['tokenizer']['vocab_size']:,}."
    )


def flow_of(counts: Record) -> list[Stretch]:
    """Return the stretches of the way from the files to the last step."""
    stretches, came = [], 0
    for step in counts["steps"]:
        documents, left = step["kept"]
        gone = 0 if not stretches else came - left
        stretches.append(Stretch(step["name"], documents, left, max(0, gone), _lost(step, gone)))
        came = left
    return stretches


def languages_of(counts: Record) -> list[tuple[str, int, bool]]:
    """Return documents by language, as far as a language step told them apart; the kept ones as one bar."""
    for step in counts["steps"]:
        if (step["config"] or {}).get("type") == "language":
            found = {reason.partition(":")[2]: amount[0] for reason, amount in step["dropped"].items()}
            gone = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
            more = sum(times for _, times in gone[_LANGUAGES:])
            bars = [(", ".join(step["config"]["keep"]), step["kept"][0], True)]
            bars += [(name, times, False) for name, times in gone[:_LANGUAGES]]
            return bars + ([(f"{len(gone) - _LANGUAGES} others", more, False)] if more else [])
    return []


SOURCE_COLUMNS = ("source", "licence", "read", "kept", "symbols", "share", "epochs", "bytes per symbol")


def source_rows(counts: Record) -> list[list[str]]:
    """Return the cells of the table of sources."""
    whole, rows = max(1, _symbols(counts)), []
    for source in counts["sources"]:
        read = counts["read"]["sources"].get(source["name"], [0, 0])
        # Two of a document's symbols are its boundaries, which stand for no bytes and are counted all the same.
        seen = source["text_bytes"] * source["epochs"] if source["epochs"] else source["text_bytes"]
        rows.append(
            [
                source["name"],
                source["license"],
                f"{read[0]:,} documents, {size(read[1])}",
                f"{source['documents']:,} documents, {size(source['text_bytes'])}",
                count(source["symbols"]),
                share(source["symbols"] / whole),
                number(source["epochs"]),
                f"{seen / source['symbols']:.2f}" if source["symbols"] else "–",
            ]
        )
    return rows


def _made(told: Record, within: str = "") -> list[tuple[str, str]]:
    """Return how a source was made, each fact by its name; those in tables by the names of both."""
    facts: list[tuple[str, str]] = []
    for name, value in told.items():
        called = f"{within}{name.replace('_', ' ')}"
        if isinstance(value, dict):
            facts += _made(value, f"{called}, ")
        elif value not in (None, "", []):
            text = _plain(value)
            facts.append((called, text if len(text) <= _FACT else text[:_FACT] + "…"))
    return facts


def _tiles(counts: Record) -> list[tuple[str, str, str]]:
    train, held_out, packing = counts["train"], counts["validation"], counts["packing"]
    per_symbol = train["bytes"] / max(1, train["symbols"])
    shards = f"{train['shards']} shard{'s' if train['shards'] != 1 else ''}"
    return [
        (count(train["symbols"]), "symbols to train on", f"{train['documents']:,} documents in {shards}"),
        (count(held_out["symbols"]), "symbols to validate", f"{held_out['documents']:,} documents"),
        (f"{per_symbol:.2f}", "bytes per symbol", f"{counts['tokenizer']['type']}, training text"),
        (share(packing["fill"]), "of a row is used", f"best-fit packing, {packing['seq_len']} symbols"),
    ]


def _lost(step: Record, gone: int) -> str:
    """Say what left at a step: documents by the most frequent reasons, and what was cut out of others."""
    dropped = sorted(step["dropped"].items(), key=lambda pair: (-pair[1][0], pair[0]))
    documents = sum(amount[0] for _, amount in dropped)
    what = "records" if step["config"] is None else "documents"
    told = []
    if documents:
        reasons = [f"{_bare(reason)} {amount[0]:,}" for reason, amount in dropped[:_REASONS_TOLD]]
        reasons += ["…"] if len(dropped) > _REASONS_TOLD else []
        only = _bare(dropped[0][0]) if len(dropped) == 1 else ""
        # Of a step with one reason the number is said already; `exact` and `near` call theirs `document`.
        why = "" if only == "document" else f": {only or ', '.join(reasons)}"
        told.append(f"{documents:,} {what if documents > 1 else what[:-1]}{why}")
    cut = gone - sum(amount[1] for _, amount in dropped)
    if step["config"] is not None and cut > 0:
        told.append(f"{size(cut)} cut out of others")
    return "; ".join(told)


def _step(step: Record) -> dict[str, Any]:
    """Return what the page tells of a step."""
    reasons = sorted(step["dropped"].items(), key=lambda pair: (-pair[1][0], pair[0]))
    changes = sorted(step["changed"].items(), key=lambda pair: (-pair[1][0], pair[0]))
    config = {key: value for key, value in (step["config"] or {}).items() if key != "type"}
    return {
        "name": step["name"],
        "kept": f"{step['kept'][0]:,} documents, {size(step['kept'][1])}",
        "settings": ", ".join(f"{key} = {_plain(value)}" for key, value in config.items()),
        "changes": [f"{_bare(name)}: {times:,} in {documents:,} documents" for name, (documents, times) in changes],
        "reasons": [
            {
                "name": _bare(reason),
                "amount": f"{documents:,}" + (f", {size(lost)}" if lost else ""),
                "samples": step["samples"].get(reason, []),
            }
            for reason, (documents, lost) in reasons
        ],
    }


def _cluster(step: Record) -> dict[str, Any]:
    sizes = sorted(((int(members), times) for members, times in step["cluster_sizes"].items()), reverse=True)
    told = [f"{times:,} of {members}" for members, times in reversed(sizes[-6:])]
    larger = sum(times for _, times in sizes[:-6])
    return {
        "name": step["name"],
        "sizes": ", ".join(reversed(told)) + (f", {larger:,} larger" if larger else ""),
        "examples": [cluster for cluster in step["clusters"] if len(cluster["shown"]) > 1],
    }


def _notes(counts: Record) -> list[str]:
    passed = counts["passed_over"]
    kinds = ", ".join(f"{times} {suffix}" for suffix, times in passed.items())
    return ([f"Files of other formats were passed over: {kinds}."] if passed else []) + list(counts["notes"])


def _symbols(counts: Record) -> int:
    return counts["train"]["symbols"] + counts["validation"]["symbols"]


def _total(stream: Record) -> tuple[int, int]:
    amounts = list(stream["sources"].values())
    return sum(amount[0] for amount in amounts), sum(amount[1] for amount in amounts)


def _bare(reason: str) -> str:
    """Return a reason without the name of its step, and in words."""
    return reason.partition(":")[2].replace("_", " ") or reason


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
