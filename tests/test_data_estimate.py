"""What a run will need is said before it begins: from the sizes of the files and a look into some of them."""

import gzip
import json
import os
import random
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from smidgen.config import validate_config
from smidgen.data.pipeline.conduct import prepare_pipeline
from smidgen.data.pipeline.definition import PipelineConfig
from smidgen.data.pipeline.engine import Engine
from smidgen.data.pipeline.estimate import estimate
from smidgen.data.pipeline.sources import list_sources
from smidgen.errors import ConfigError

pytest.importorskip("pyarrow")

STEPS = [{"type": "exact"}, {"type": "exact", "unit": "line", "min_characters": 20}, {"type": "near"}]


def _lines(documents: int, seed: int = 0) -> bytes:
    draw = random.Random(seed)
    texts = (" ".join(str(draw.randrange(10**8)) for _ in range(draw.randrange(20, 60))) for _ in range(documents))
    return b"".join(
        json.dumps({"text": text + "\nand a line of its own " + text[:20]}).encode() + b"\n" for text in texts
    )


def _config(folder: Path, **changes) -> PipelineConfig:
    table = {
        "sources": [{"name": "s", "path": str(folder)}],
        "steps": STEPS,
        "output": {"tokenizer": {"type": "bytes"}},
    }
    return validate_config(table | changes, PipelineConfig, "test")


def _write(folder: Path, name: str, data: bytes) -> None:
    folder.mkdir(exist_ok=True)
    packed = {".zst": zstandard.compress, ".gz": gzip.compress}.get(Path(name).suffix)
    (folder / name).write_bytes(packed(data) if packed else data)


def _grown(path: Path, size: int) -> None:
    """Have a file say that it is so large; what it did not have takes no disk."""
    os.truncate(path, size)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst", "a.jsonl.gz"])
def test_documents_text_and_rows_are_told_from_a_look(tmp_path: Path, name: str) -> None:
    folder, documents = tmp_path / "in", 0
    for number in range(9):
        count = 4000 + 500 * number
        _write(folder, f"{number}{name}", _lines(count, number))
        documents += count
    config = _config(folder)
    expected = estimate(config, list_sources(config))
    assert expected.documents == pytest.approx(documents, rel=0.1)
    assert expected.text_bytes == pytest.approx(documents * 400, rel=0.2)
    assert expected.rows == {0: expected.documents, 1: pytest.approx(2 * documents, rel=0.1), 2: expected.documents}
    # Three passes of text, never more than two of them at once, and symbols twice.
    assert expected.text_bytes * 2 < expected.disk_bytes < expected.text_bytes * 5


def test_what_memory_cannot_hold_is_refused_before_any_work(tmp_path: Path) -> None:
    _write(tmp_path / "in", "a.jsonl.zst", _lines(3000))
    _grown(tmp_path / "in" / "a.jsonl.zst", 100 << 30)
    with pytest.raises(
        ConfigError, match=r"documents .* of which .* takes .* GB in all, and 4.0 may be used.*--memory"
    ) as said:
        prepare_pipeline(_config(tmp_path / "in"), tmp_path / "out", Engine(2, memory_bytes=4 * 10**9))
    assert "\n" not in str(said.value)
    assert not (tmp_path / "out").exists()


def test_twenty_gigabytes_of_text_go_through_four_of_memory(tmp_path: Path) -> None:
    from smidgen.data.pipeline.memory import check_room

    lines = b"".join(
        json.dumps({"text": json.loads(line)["text"] * 10}).encode() + b"\n" for line in _lines(300).splitlines()
    )
    _write(tmp_path / "in", "a.jsonl.zst", lines)
    config = _config(tmp_path / "in", steps=STEPS[:1] + STEPS[2:])
    listing = list_sources(config)
    once = estimate(config, listing)
    listing.bytes_of["s", ".jsonl.zst"] *= round(20e9 / once.text_bytes)
    whole = estimate(config, listing)
    assert whole.text_bytes == pytest.approx(20e9, rel=0.01)
    whole = replace(whole, disk_bytes=0)  # of which this machine need not have so much
    check_room(config, Engine(2, memory_bytes=4 * 10**9), Path(os.devnull), whole)
    with pytest.raises(ConfigError, match="may be used"):
        check_room(config, Engine(2, memory_bytes=10**9), Path(os.devnull), whole)


def test_what_the_disk_cannot_hold_is_refused_before_any_work(tmp_path: Path) -> None:
    _write(tmp_path / "in", "a.jsonl.gz", _lines(300))
    _grown(tmp_path / "in" / "a.jsonl.gz", 8 << 40)
    with pytest.raises(ConfigError, match=r"need about .* GB of disk if nothing is dropped, and there are"):
        prepare_pipeline(_config(tmp_path / "in"), tmp_path / "out", Engine(2, memory_bytes=1 << 60))
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_looked_into_are_told_by_their_size(tmp_path: Path) -> None:
    _write(tmp_path / "in", "a.jsonl.zst", b"")
    (tmp_path / "in" / "a.jsonl.zst").write_bytes(b"not packed " * 1000)
    (tmp_path / "in" / "b.parquet").write_bytes(b"PAR1 no")
    config = _config(tmp_path / "in")
    expected = estimate(config, list_sources(config))
    assert expected.documents == round(11_000 / 4000 + 7 / 4000)
    assert expected.text_bytes == 44_000 + 7


def test_a_look_into_a_file_that_unpacks_to_much_holds_little_of_it(tmp_path: Path) -> None:
    held = list[int]()
    for documents in (15_000, 45_000):
        lines = (f'{{"text": "the words of {n} and {"the same words again and " * 40}"}}\n' for n in range(documents))
        _write(tmp_path / f"in{documents}", "a.jsonl.zst", "".join(lines).encode())
        config = _config(tmp_path / f"in{documents}", steps=[])
        listing = list_sources(config)
        tracemalloc.start()
        assert estimate(config, listing).documents == documents
        held.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert held[1] - held[0] < 8 << 20  # thirty thousand documents more, of a kilobyte each
