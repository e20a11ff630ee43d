"""Small local files for the tasks that read some, in the layout and with the columns of the published sets."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ANIMALS = ("dog", "cat", "horse", "goose", "mouse", "otter", "heron", "badger")
PLACES = ("park", "river", "barn", "meadow", "harbour")


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


def sentences(split: str) -> list[str]:
    return [f"In the {split} a {animal} waits by the {place} ." for animal in ANIMALS for place in PLACES]


def make_task_files(folder: Path) -> Path:
    """Write a few rows of every set that a task reads."""
    for split in ("train", "test"):
        rows = [
            {
                "question": f"{split}: Tom has {n} apples and gets {n + 1} more. How many?",
                "answer": f"He has {n}+{n + 1}=<<{n}+{n + 1}={2 * n + 1}>>{2 * n + 1} apples.\n#### {2 * n + 1:,}",
            }
            for n in range(490, 520)
        ]
        write_rows(folder / f"gsm8k/{split}.jsonl.gz", rows)
        labels = [{"text": text, "label": n % 2} for n, text in enumerate(sentences(split))]
        write_rows(folder / f"sentence_polarity/{split}.jsonl", labels)
        abstracts = [
            {"source": [text, "It is late."], "target": [f"About {text}", "A wait."]} for text in sentences(split)
        ]
        write_rows(folder / f"scitldr/{split}.jsonl", abstracts)
    for split, name in (("train", "train"), ("validation", "test")):
        write_rows(
            folder / f"sst2/{split}.jsonl", [{"sentence": s, "label": n % 2} for n, s in enumerate(sentences(name))]
        )
    for split in ("train", "test_2016_flickr"):
        captions = [{"en": f"{text} {n}", "de": f"Da wartet {n} {text}"} for n, text in enumerate(sentences(split))]
        write_rows(folder / f"multi30k/{split}.jsonl.gz", captions)
    for split in ("validation", "test"):
        spoken = [
            {
                "dialogue": f"#Person1#: {text}\n#Person2#: I see.",
                "summary1": f"They talk: {text}",
                "summary2": "A talk.",
            }
            for text in sentences(split)
        ]
        write_rows(folder / f"dialogsum/{split}.jsonl.gz", spoken)
        talks = [
            {"dialog": [f"Look , {t}", f"I don ' t see it in {n}", "It's there !"]}
            for n, t in enumerate(spoken_in(split))
        ]
        write_rows(folder / f"daily_dialog/{split}.jsonl", talks)
    return folder


def spoken_in(split: str) -> list[str]:
    return [text.lower() for text in sentences(split)]
