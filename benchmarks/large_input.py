"""More text than there is memory: twenty gigabytes through a pipeline, in the four that it says will do.

The text is made when the benchmark runs and goes when it ends: a document is a function of the seed and its number,
sentences of `--data` drawn at random, so no two are alike but for the planted ones: of every twenty documents one is
written again word for word, and one with 5% of its words replaced, in another file as often as not. `smidgen data
prepare` with `--memory` then cleans it by C4's, Gopher's and its repetition rules, drops exact and near duplicates,
encodes what is left as bytes and writes shuffled shards. Told is how long that took, how much memory all of its
processes held at once (each page divided by those who share it), and how many of the planted copies went. Bar: the
memory it was given.

    python -m benchmarks.large_input [--gigabytes 20] [--memory 4] [--data DIR] [--out DIR] [--quick]
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import zstandard

from benchmarks.data import SEED, WORKERS, memory_of_all, read_texts, replace_words
from smidgen.seeds import derive_seed

POOL = 200_000
"""Sentences that documents are made of."""
SENTENCES = 30
PLANTED = 20
"""Documents of which the last two are copies, one word for word, of earlier ones."""
FILE_DOCUMENTS = 60_000
"""Documents of a file: 220 MB."""
PIPELINE = """name = "large"
[[sources]]
name = "made"
path = {path}
[[steps]]
type = "c4"
[[steps]]
type = "gopher"
[[steps]]
type = "repetition"
[[steps]]
type = "exact"
[[steps]]
type = "near"
[output]
tokenizer = {{ type = "bytes" }}
"""


# -- the text ----------------------------------------------------------------------------------------------------------


@cache
def sentences(data: Path) -> list[str]:
    """Return the sentences of the first documents, without what a rule would drop them for."""
    found: dict[str, None] = {}
    for text in read_texts(data):
        for sentence in re.findall(r"[A-Z][^.!?{}\n]{40,200}[.!?]", text):
            found[sentence] = None
        if len(found) >= POOL:
            break
    return list(islice(found, POOL))


def make_text(data: Path, number: int) -> str:
    """Return a document: lines of five sentences, or the copy of an earlier document."""
    pool, turn = sentences(data), number % PLANTED
    if turn >= PLANTED - 2:
        draw = random.Random(derive_seed(SEED, number))
        original = draw.randrange(number - turn + 1)
        while original % PLANTED >= PLANTED - 2:
            original = draw.randrange(number - turn + 1)
        text = make_text(data, original)
        return text if turn == PLANTED - 2 else replace_words(text, pool[0].split(), draw)
    drawn = random.Random(derive_seed(SEED, number)).choices(pool, k=SENTENCES)
    return "\n".join(" ".join(drawn[at : at + 5]) for at in range(0, SENTENCES, 5))


def write_file(data: Path, path: Path, first: int, documents: int) -> tuple[int, int]:
    """Write a file of documents from a number on; return its bytes of text, and of file."""
    size = 0
    with path.open("wb") as file, zstandard.ZstdCompressor(1).stream_writer(file) as packed:
        for number in range(first, first + documents):
            text = make_text(data, number)
            size += len(text.encode())
            packed.write(json.dumps({"id": f"{number}", "text": text}, ensure_ascii=False).encode() + b"\n")
    return size, path.stat().st_size


def make_input(data: Path, folder: Path, size: int) -> tuple[int, int, int]:
    """Write about `size` bytes of text; return how many documents, bytes of text and bytes of file it is."""
    folder.mkdir(parents=True)
    mean = sum(len(make_text(data, number).encode()) for number in range(1000)) / 1000
    documents = max(PLANTED, int(size / mean))
    starts = range(0, documents, FILE_DOCUMENTS)
    with ProcessPoolExecutor(WORKERS) as pool:
        made = [
            pool.submit(
                write_file, data, folder / f"{start:08d}.jsonl.zst", start, min(FILE_DOCUMENTS, documents - start)
            )
            for start in starts
        ]
        sizes = [done.result() for done in made]
    return documents, sum(text for text, _ in sizes), sum(packed for _, packed in sizes)


# -- measuring ---------------------------------------------------------------------------------------------------------


def measure(pipeline: Path, out: Path, memory: str) -> tuple[float, list[float]]:
    """Run the pipeline as a person would; return its seconds, and the memory held, MB, looked at twice a second."""
    command = [sys.executable, "-m", "smidgen", "data", "prepare", str(pipeline), "--out", str(out)]
    command += ["--memory", memory, "--workers", str(WORKERS)]
    held, started = list[float](), time.perf_counter()
    process = subprocess.Popen(command, stdout=sys.stderr)
    while process.poll() is None:
        held.append(memory_of_all(process.pid))
        time.sleep(0.5)
    if process.returncode:
        sys.exit(f"the pipeline ended with {process.returncode}")
    return time.perf_counter() - started, held


def dropped(counts: dict) -> Iterator[tuple[str, int]]:
    """Yield each step with the documents it dropped."""
    for step in counts["steps"]:
        yield step["name"], sum(documents for documents, _ in step["dropped"].values())


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=20.0, help="text to make")
    parser.add_argument("--memory", type=float, default=4.0, help="gigabytes that the pipeline is given")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/text"), help="folder of .jsonl.zst with text")
    parser.add_argument("--out", type=Path, help="where there is room for it all; default: a temporary folder")
    parser.add_argument("--quick", action="store_true", help="a fifth of a gigabyte: under two minutes")
    chosen = parser.parse_args()
    chosen.gigabytes = 0.2 if chosen.quick else chosen.gigabytes
    return chosen


def main() -> None:
    chosen = options()
    if not chosen.data.is_dir():
        sys.exit(f"{chosen.data}: is no folder. --data names one of .jsonl.zst files with text.")
    with tempfile.TemporaryDirectory(prefix="smidgen-large-", dir=chosen.out) as scratch:
        place, began = Path(scratch), time.perf_counter()
        documents, text_bytes, file_bytes = make_input(chosen.data, place / "made", int(chosen.gigabytes * 1e9))
        planted = 2 * (documents // PLANTED)
        print(
            f"{text_bytes / 1e9:.2f} GB of text, {documents:,} documents ({planted:,} of them copies), "
            f"{file_bytes / 1e9:.2f} GB of files, made in {time.perf_counter() - began:.0f} s",
            flush=True,
        )
        (place / "large.toml").write_text(PIPELINE.format(path=json.dumps(str(place / "made"))), encoding="utf-8")
        seconds, held = measure(place / "large.toml", place / "out", f"{chosen.memory:g}GB")
        counts = json.loads((place / "out/counts.json").read_text(encoding="utf-8"))
        drops = dict(dropped(counts))
    peak = max(held) / 1000
    copies = sum(n for name, n in drops.items() if name.startswith(("exact", "near")))
    print(f"{seconds:.0f} s, {text_bytes / 1e6 / seconds:.1f} MB/s, {peak:.2f} GB held of {chosen.memory:g}")
    print(f"dropped {drops}: {copies:,} copies of {planted:,} planted")
    from smidgen.runtime import describe_hardware

    result = {
        "bench": "large_input",
        "ratio": round(chosen.memory / peak, 3),
        "ours": round(peak, 3),
        "peer": chosen.memory,
        "unit": f"GB held at once, for {text_bytes / 1e9:.2f} GB of text; peer: what it was given",
        "seconds": round(seconds, 1),
        "megabytes_per_second": round(text_bytes / 1e6 / seconds, 2),
        "documents": documents,
        "planted": planted,
        "dropped": drops,
        "hardware": describe_hardware(),
        "versions": {name: version(name) for name in ("daft", "numpy", "pyarrow")},
        "seed": SEED,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
