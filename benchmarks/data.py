"""Filtering and near-deduplication beside datatrove: the same JSONL, the same rules, two cores, from files to files.

Both sides read the same two files, apply C4's, Gopher's and its repetition rules with the same thresholds, drop near
duplicates by MinHash, and write what is left: we as shuffled token shards (bytes), datatrove as JSONL, uncompressed.
Seconds are those of the whole process, start and imports included; memory is that of all its processes at once (shares
of common pages counted once). The corpus is made when the benchmark runs: documents of `--data`, of which every tenth
gets a copy with 5% of its words replaced and every twentieth an exact one, shuffled. Recall is the share of planted
pairs, of those that pass the filters, of which not both come out. Ours is planned (`NearConfig`), the peer's banding is
its default. Bar: twenty times its speed.

    python -m benchmarks.data [--data DIR] [--megabytes N] [--rounds N] [--quick] [--all-steps]
"""

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import zstandard

from smidgen.data.cleaning.minhash import Near, NearConfig, similarity_after
from smidgen.data.cleaning.quality import C4, C4Config, Gopher, GopherConfig
from smidgen.data.cleaning.repetition import Repetition, RepetitionConfig
from smidgen.data.cleaning.step import Dropped

SEED = 0
CHANGED = 0.05
"""Share of the words replaced in a near copy."""
WORKERS = 2
BAR = 20.0
STEPS = [{"type": "c4"}, {"type": "gopher"}, {"type": "repetition"}, {"type": "near"}]


# -- the corpus --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    folder: Path
    text_bytes: int
    documents: int
    pairs: dict[str, list[tuple[str, str]]]
    """Planted copies: kind, original, copy."""
    texts: dict[str, str]
    """Of every document, by id."""


def read_texts(folder: Path) -> Iterator[str]:
    """Yield documents from all files below a folder, one of each in turn, so that any beginning is a mixture."""
    files = [_rows(path) for path in sorted(folder.rglob("*.jsonl.zst"))]
    while files:
        for rows in list(files):
            found = next(rows, None)
            if found is None:
                files.remove(rows)
            else:
                yield found["text"]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as plain:
        yield from map(json.loads, io.TextIOWrapper(plain, encoding="utf-8"))


def make_corpus(data: Path, folder: Path, size: int) -> Corpus:
    """Write about `size` bytes of text, copies included, as two files of lines."""
    draw, texts, pairs, held = random.Random(SEED), dict[str, str](), {"near": [], "exact": []}, 0
    vocabulary: list[str] = []
    for number, text in enumerate(read_texts(data)):
        name = f"d{number:07d}"
        vocabulary = vocabulary or text.split()
        texts[name] = text
        if number % 10 == 5:
            texts[f"{name}-near"] = replace_words(text, vocabulary, draw)
            pairs["near"].append((name, f"{name}-near"))
        if number % 20 == 8:
            texts[f"{name}-exact"] = text
            pairs["exact"].append((name, f"{name}-exact"))
        held += sum(len(texts[made].encode()) for made in (name, f"{name}-near", f"{name}-exact") if made in texts)
        if held >= size:
            break
    if held < size:
        print(f"{data} has text for {held / 1e6:.0f} MB only", flush=True)
    names = list(texts)
    draw.shuffle(names)
    folder.mkdir(parents=True)
    for half in range(WORKERS):
        with (folder / f"{half}.jsonl").open("w", encoding="utf-8") as file:
            for name in names[half::WORKERS]:
                file.write(json.dumps({"id": name, "text": texts[name]}, ensure_ascii=False) + "\n")
    return Corpus(folder, held, len(texts), pairs, texts)


def replace_words(text: str, vocabulary: list[str], draw: random.Random) -> str:
    """Return the text with 5% of its words replaced; its lines stay."""
    lines = [line.split(" ") for line in text.split("\n")]
    return "\n".join(
        " ".join(draw.choice(vocabulary) if word and draw.random() < CHANGED else word for word in line)
        for line in lines
    )


# -- the two sides, each in a process of its own -----------------------------------------------------------------------


def run_ours(folder: Path, out: Path, all_steps: bool) -> None:
    from smidgen.data.pipeline.conduct import prepare_pipeline
    from smidgen.data.pipeline.definition import PipelineConfig
    from smidgen.data.pipeline.engine import Engine

    plan: dict[str, Any] = {
        "sources": [{"name": "s", "path": str(folder)}],
        "output": {"tokenizer": {"type": "bytes"}},
        "part_bytes": 4 << 20,
    }
    config = PipelineConfig.model_validate(plan if all_steps else plan | {"steps": STEPS})
    prepare_pipeline(config, out, Engine(WORKERS))


def run_peer(folder: Path, out: Path) -> None:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    def run(name: str, tasks: int, *steps: Any) -> None:
        LocalPipelineExecutor(list(steps), tasks=tasks, workers=WORKERS, logging_dir=str(out / "logs" / name)).run()

    config = MinhashConfig()
    lines = "${rank}.jsonl"
    kept, signatures, buckets, removed = (str(out / name) for name in ("kept", "signatures", "buckets", "removed"))
    run(
        "filters",
        WORKERS,
        JsonlReader(str(folder)),
        C4QualityFilter(
            filter_no_terminal_punct=False, min_num_sentences=3, min_words_per_line=-1, filter_curly_bracket=False
        ),
        GopherQualityFilter(),
        GopherRepetitionFilter(),
        JsonlWriter(kept, lines, compression=None),
        MinhashDedupSignature(signatures, config=config),
    )
    run("buckets", config.num_buckets, MinhashDedupBuckets(signatures, buckets, config=config))
    run("clusters", 1, MinhashDedupCluster(buckets, removed, config=config))
    run(
        "result",
        WORKERS,
        JsonlReader(kept),
        MinhashDedupFilter(removed),
        JsonlWriter(str(out / "result"), lines, compression=None),
    )


# -- measuring ---------------------------------------------------------------------------------------------------------


def measure(side: str, corpus: Path, out: Path, all_steps: bool = False) -> dict[str, float]:
    """Run a side to its end on two cores; return its seconds, processor seconds and peak of memory in MB."""
    command = [sys.executable, "-m", "benchmarks.data", "--side", side, "--data", str(corpus), "--out", str(out)]
    started, peak, cpu = time.perf_counter(), 0.0, dict[int, float]()
    process = subprocess.Popen([*command, *["--all-steps"][:all_steps]], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        # Looked at from outside, because a process that a fork server started is never waited for by its starter.
        alive = [process.pid, *_below(process.pid)]
        peak = max(peak, memory_of_all(process.pid))
        cpu |= {one: max(cpu.get(one, 0.0), _cpu_seconds(one)) for one in alive}
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"{side} ended with {process.returncode}")
    return {"seconds": time.perf_counter() - started, "cpu_seconds": sum(cpu.values()), "megabytes": peak}


def memory_of_all(pid: int) -> float:
    """Return the memory of a process and of all it started, in MB, each page divided by those who share it."""
    return sum(map(_memory, [pid, *_below(pid)]))


def _memory(pid: int) -> float:
    told = _read(pid, "smaps_rollup").splitlines()
    return sum(int(line.split()[1]) for line in told if line.startswith("Pss:")) / 1000


def _cpu_seconds(pid: int) -> float:
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:  # it has ended
        return ""


def _below(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [found for child in children for found in (child, *_below(child))]


def ours_out(corpus: Corpus, out: Path) -> Counter[str]:
    """Return the documents that came out, by their text; copies as often as they came."""
    from smidgen.data.shards import TokenShards

    shards = TokenShards(next(out.glob("data/*")))
    return Counter(bytes(ids).decode() for side in (shards.train, shards.validation) for ids in side.documents())


def peer_out(out: Path, folder: str) -> set[str]:
    return {json.loads(line)["id"] for path in (out / folder).glob("*.jsonl") for line in path.open(encoding="utf-8")}


def recalls(corpus: Corpus, ours: Path, peer: Path) -> dict[str, dict[str, list[int]]]:
    """Return for each side and kind of copy: pairs found, pairs that were there to be found."""
    c4, judges = C4(C4Config()), (Gopher(GopherConfig()), Repetition(RepetitionConfig()))
    through, kept, result = ours_out(corpus, ours), peer_out(peer, "kept"), peer_out(peer, "result")

    def cleaned(name: str) -> str | None:
        verdict = c4(corpus.texts[name])
        passes = not isinstance(verdict, Dropped) and not any(isinstance(j(verdict.text), Dropped) for j in judges)
        return verdict.text if passes and not isinstance(verdict, Dropped) else None

    found: dict[str, dict[str, list[int]]] = {side: {} for side in ("ours", "peer")}
    for kind, pairs in corpus.pairs.items():
        texts = [(cleaned(one), cleaned(other)) for one, other in pairs]
        there = [(one, other) for one, other in texts if one is not None and other is not None]
        # Of an exact pair both came out if the text came twice.
        missed = sum(through[one] > 0 and through[other] > (one == other) for one, other in there)
        found["ours"][kind] = [len(there) - missed, len(there)]
        known = [pair for pair in pairs if kept.issuperset(pair)]
        found["peer"][kind] = [sum(not result.issuperset(pair) for pair in known), len(known)]
    return found


def plan() -> str:
    """Return what the banding promises for such copies."""
    config = NearConfig()
    banding, similarity = Near(config).banding, similarity_after(CHANGED, config.ngram)
    return (
        f"{banding.bands} bands of {banding.rows}: candidates with probability {banding.probability(similarity):.4f} "
        f"at {CHANGED:.0%} of words changed (similarity {similarity:.2f}), "
        f"{banding.probability(config.similarity):.4f} at the planned {config.similarity}"
    )


def tell(side: str, runs: list[dict[str, float]], corpus: Corpus, recall: dict[str, list[int]]) -> dict[str, Any]:
    """Print a side's line of the table and return its figures."""
    figures = {name: round(median(run[name] for run in runs), 2) for name in runs[0]}
    speed = corpus.text_bytes / 1e6 / figures["seconds"]
    told = "".join(f"{f'{a}/{b}':>14}" for a, b in recall.values())
    print(
        f"{side:<22}{figures['seconds']:>9.1f}{speed:>8.2f}{figures['cpu_seconds']:>9.1f}{figures['megabytes']:>9.0f}{told}",
        flush=True,
    )
    return {**figures, "megabytes_per_second": round(speed, 3), "recall": recall}


def compare(chosen: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Make the corpus, run both sides in turn, print the table, return the result."""
    from smidgen.runtime import describe_hardware  # brings torch, which neither side waits for

    corpus = make_corpus(chosen.data, scratch / "corpus", int(chosen.megabytes * 1e6))
    print(f"{corpus.text_bytes / 1e6:.1f} MB, {corpus.documents:,} documents; ours plans {plan()}", flush=True)
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "peer": [], "ours, all steps": []}
    for turn in range(chosen.rounds):
        for side in ("ours", "peer"):
            runs[side].append(measure(side, corpus.folder, scratch / f"{side}-{turn}"))
    if chosen.all_steps:
        runs["ours, all steps"].append(measure("ours", corpus.folder, scratch / "all", all_steps=True))
    found = recalls(corpus, scratch / "ours-0", scratch / "peer-0")
    print(f"\n{'':<22}{'seconds':>9}{'MB/s':>8}{'CPU s':>9}{'MB held':>9}{'near found':>14}{'exact found':>14}")
    cases = {side: tell(side, done, corpus, found.get(side, {})) for side, done in runs.items() if done}
    ratio, cpu_ratio = (cases["peer"][name] / cases["ours"][name] for name in ("seconds", "cpu_seconds"))
    print(f"ratio {ratio:.2f}, bar {BAR}; of processor time {cpu_ratio:.2f}")
    return {
        "bench": "data",
        "ratio": round(ratio, 3),
        "cpu_ratio": round(cpu_ratio, 3),
        "ours": cases["ours"]["megabytes_per_second"],
        "peer": cases["peer"]["megabytes_per_second"],
        "unit": f"MB/s end to end over {WORKERS} cores, {corpus.text_bytes / 1e6:.0f} MB; peer datatrove",
        "hardware": describe_hardware(),
        "versions": {name: version(name) for name in ("datatrove", "spacy", "daft", "numpy", "pyarrow")},
        "seed": SEED,
        "cases": cases,
    }


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/text"), help="folder of .jsonl.zst with text")
    parser.add_argument("--megabytes", type=float, help="text to make; default: 100, with --quick 10")
    parser.add_argument("--rounds", type=int, default=1, help="how often each side runs; default: 1")
    parser.add_argument("--quick", action="store_true", help="10 MB: under two minutes")
    parser.add_argument("--all-steps", action="store_true", help="also run every recommended step, without a peer")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=("ours", "peer"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    chosen.megabytes = chosen.megabytes or (10 if chosen.quick else 100)
    return chosen


def main() -> None:
    chosen = options()
    if chosen.side:
        os.sched_setaffinity(0, set(islice(sorted(os.sched_getaffinity(0)), WORKERS)))
        run_peer(chosen.data, chosen.out) if chosen.side == "peer" else run_ours(
            chosen.data, chosen.out, chosen.all_steps
        )
        return
    with tempfile.TemporaryDirectory(prefix="smidgen-bench-") as scratch:
        print(json.dumps(compare(chosen, Path(scratch))))


if __name__ == "__main__":
    main()
