"""Whatever is wrong with the input or the disk: a counted drop or one clear line, and the rest goes through."""

import gzip
import json
import resource
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from smidgen.config import validate_config
from smidgen.data.cleaning.step import Record
from smidgen.data.pipeline.conduct import prepare_pipeline
from smidgen.data.pipeline.definition import PipelineConfig
from smidgen.data.pipeline.engine import Engine
from smidgen.data.pipeline.items import Fault, Mended, Split
from smidgen.data.pipeline.reading import read_split
from smidgen.errors import DataError

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

HERE = Engine(0)
LIMIT = 1 << 20
GOOD = [f"document number {n}, with some words in it" for n in range(60)]
LINES = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in GOOD)


def _read(path: Path, document_bytes: int = LIMIT, **changes) -> tuple[list[Record], Counter[str]]:
    """Return the documents of a file, and everything else in it by its reason."""
    split = Split("in", "CC0-1.0", str(path), path.name, **changes)
    items = list(read_split(split, document_bytes))
    records = [item for item in items if isinstance(item, Record)]
    assert len({record.id for record in records}) == len(records)
    assert all(record.id.startswith(f"in/{path.name}") for record in records)
    others: Counter[str] = Counter()
    for item in items:
        if isinstance(item, Fault):
            others[item.reason] += 1
        elif isinstance(item, Mended):
            others[item.what] += item.times
    return records, others


def _pipeline(folder: Path, **changes) -> PipelineConfig:
    table = {
        "name": "test",
        "sources": [{"name": "in", "path": str(folder)}],
        "steps": [],
        "output": {"tokenizer": {"type": "bytes"}, "seq_len": 64},
    }
    return validate_config(table | changes, PipelineConfig, "test")


# -- web archives ------------------------------------------------------------------------------------------------------


def _warc(kind: str, address: str, body: bytes, content: str) -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {address}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
    head += f"WARC-Record-ID: <urn:uuid:{address}>\r\nContent-Type: {content}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body + b"\r\n\r\n"


def _answer(address: str, body: bytes, content: str, status: str = "200 OK", extra: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content}\r\n{extra}\r\n"
    return _warc("response", address, head.encode() + body, "application/http; msgtype=response")


PAGE = "<!doctype html><html><body><article><p>The café on the hill opens at nine.</p></article></body></html>"
ARCHIVE = [
    _warc("warcinfo", "about", b"software: none\r\n", "application/warc-fields"),
    _warc("request", "http://a/", b"GET / HTTP/1.1\r\n\r\n", "application/http; msgtype=request"),
    _answer("http://a/", PAGE.encode("latin-1"), "text/html; charset=ISO-8859-1"),
    _answer("http://b/", b"\x89PNG", "image/png"),
    _answer("http://c/", PAGE.encode(), "text/html", "404 Not Found"),
    _answer("http://d/", gzip.compress(PAGE.encode()), "text/html", extra="Content-Encoding: gzip\r\n"),
    _answer("http://e/", b"5\r\nhello\r\n0\r\n\r\n", "text/plain", extra="Transfer-Encoding: chunked\r\n"),
    _warc("conversion", "http://f/", "as text: café".encode(), "text/plain"),
    _answer("http://g/", b"<p>" + b"long " * 1_000_000, "text/html"),
    _answer("http://h/", b"", "text/html; charset=no-such-charset"),
    _answer("http://i/", PAGE.encode(), "text/html; charset=no-such-charset"),
]


@pytest.mark.parametrize("packed", ["x.warc", "x.warc.gz", "x.warc.zst"])
def test_pages_of_an_archive_are_read_and_every_other_record_is_counted(tmp_path: Path, packed: str) -> None:
    pytest.importorskip("warcio")
    pack = {"x.warc": b"".join, "x.warc.gz": lambda r: b"".join(map(gzip.compress, r))}
    pack["x.warc.zst"] = lambda records: zstandard.compress(b"".join(records))
    (tmp_path / packed).write_bytes(pack[packed](ARCHIVE))
    records, others = _read(tmp_path / packed)
    assert [r.text for r in records] == [PAGE, PAGE, "hello", "as text: café", PAGE]
    assert others == {
        "not a page: warcinfo": 1,
        "not a page: request": 1,
        "not a page: another content type": 1,
        "not a page: answered without one": 1,
        "longer than document_bytes": 1,
        "empty text": 1,
    }
    assert sum(others.values()) + len(records) == len(ARCHIVE)


@pytest.mark.parametrize(
    ("data", "kept", "reason"),
    [
        (b"".join(map(gzip.compress, ARCHIVE[:6]))[:-30], 1, "file cannot be read on"),
        (gzip.compress(b"".join(ARCHIVE[2:6])[:-60]), 1, "record breaks off"),
        (gzip.compress(ARCHIVE[2] + b"WARC/1.0\r\nWARC-Ty"), 1, "record breaks off"),
        (gzip.compress(ARCHIVE[2] + b"rubbish\r\n\r\n" + ARCHIVE[5]), 1, "file cannot be read on"),
        (gzip.compress(b"no archive at all"), 0, "file cannot be read on"),
        (gzip.compress(b""), 0, "empty file"),
    ],
)
def test_an_archive_that_breaks_off_gives_what_came_before(tmp_path: Path, data: bytes, kept: int, reason: str) -> None:
    pytest.importorskip("warcio")
    (tmp_path / "x.warc.gz").write_bytes(data)
    records, others = _read(tmp_path / "x.warc.gz")
    assert len(records) == kept
    assert others[reason] == 1


def test_archives_pages_tables_and_texts_become_one_corpus(tmp_path: Path) -> None:
    pytest.importorskip("warcio")
    pytest.importorskip("resiliparse")
    (tmp_path / "crawl.warc.gz").write_bytes(b"".join(map(gzip.compress, ARCHIVE)))
    (tmp_path / "page.html").write_text(PAGE)
    (tmp_path / "notes.md").write_text("# A note\n\nin Markdown")
    (tmp_path / "plain.txt.gz").write_bytes(gzip.compress(b"one\fanother"))
    (tmp_path / "rows.csv").write_text("text,n\nfrom a table,1\n")
    (tmp_path / "rows.tsv.zst").write_bytes(zstandard.compress(b"n\ttext\n1\ttabs between\n"))
    (tmp_path / "list.json").write_text('[{"text": "of a list"}, 7]')
    (tmp_path / "lines.jsonl.gz").write_bytes(gzip.compress(LINES))
    parquet.write_table(arrow.table({"text": ["a row", None], "n": [1, 2]}), tmp_path / "rows.parquet")
    counts = prepare_pipeline(_pipeline(tmp_path, steps=[{"type": "html"}]), tmp_path / "out", HERE)
    reading, pages = counts["steps"][:2]
    assert reading["kept"][0] == counts["cleaned"]["sources"]["in"][0] == 6 + 1 + 1 + 2 + 1 + 1 + 1 + len(GOOD) + 1
    assert pages["changed"]["html:page"][0] == 4  # three of the archive and the file
    assert reading["dropped"]["not an object"][0] == 1
    assert reading["dropped"]["empty text"][0] == 2


# -- broken text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "kept", "others"),
    [
        ("x.jsonl", LINES + b'{"text": "\xff\xfe"}\n' + LINES, 120, {"not UTF-8": 1}),
        ("x.csv", b"text,n\nfine,1\nbad \xff,2\nfine too,3\n", 2, {"not UTF-8": 1}),
        ("x.txt", b"fine " * 1000 + b"\xff", 1, {"bytes that are not UTF-8 replaced": 1}),
        ("x.txt", b"\xff\xfe" * 100, 0, {"file cannot be read on": 1}),
        ("x.html", b"<p>caf\xff</p>", 1, {}),
        ("x.json", b'{"text": "\xff"}', 0, {"file cannot be read on": 1}),
        ("x.csv", b"text,n\nfine,1\nonly one\n1,2,3\nfine too,4\n", 2, {"another number of columns": 2}),
        ("x.csv", b'text,n\nfine,1\n"never closed,2\nmore\n', 1, {"file cannot be read on": 1}),
        ("x.csv", b"a,b\n1,2\n", 0, {"no text field": 1}),
        ("x.json", b'[{"text": "fine"}, null, {"text": 3}]', 1, {"not an object": 1, "text is not a string": 1}),
        ("x.json", b"[" * 100_000, 0, {"file cannot be read on": 1}),
        ("x.json", b'{"text": "cut o', 0, {"file cannot be read on": 1}),
    ],
)
def test_broken_text_is_counted_and_the_rest_is_read(
    tmp_path: Path, name: str, data: bytes, kept: int, others: dict[str, int]
) -> None:
    (tmp_path / name).write_bytes(data)
    records, found = _read(tmp_path / name)
    assert len(records) == kept
    assert found == others


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("7", "text is not a string"),
        ("3.5", "text is not a string"),
        ("true", "text is not a string"),
        ('["a"]', "text is not a string"),
        ('{"text": "a"}', "text is not a string"),
        ("null", "empty text"),
        ('" \\n"', "empty text"),
        ("1" * 5000, "not JSON"),  # more digits than Python makes a number of
        ("NaN", "text is not a string"),
    ],
)
def test_jsonl_of_wrong_types_is_counted_by_its_reason(tmp_path: Path, value: str, reason: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(LINES + f'{{"text": {value}}}\n'.encode() + LINES)
    records, others = _read(tmp_path / "x.jsonl")
    assert len(records) == 2 * len(GOOD)
    assert others == {reason: 1}


def test_ids_of_their_own_that_repeat_lose_nothing(tmp_path: Path) -> None:
    rows = [{"id": "same", "text": text} for text in GOOD]
    (tmp_path / "one.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:30]))
    (tmp_path / "two.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[30:]))
    counts = prepare_pipeline(_pipeline(tmp_path, steps=[{"type": "exact"}]), tmp_path / "out", HERE)
    assert counts["cleaned"]["sources"]["in"][0] == len(GOOD)


# -- files that break off, or hold nothing -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["zst", "gz"])
@pytest.mark.parametrize("name", ["x.jsonl", "x.txt", "x.csv", "x.html"])
def test_a_packed_file_that_breaks_off_gives_what_came_before_and_says_so(
    tmp_path: Path, name: str, suffix: str
) -> None:
    content = b"text\n" + LINES if name == "x.csv" else LINES
    pack = {"zst": zstandard.compress, "gz": gzip.compress}[suffix]
    (tmp_path / f"{name}.{suffix}").write_bytes(pack(content * 40)[:-6])
    _, others = _read(tmp_path / f"{name}.{suffix}")
    assert others["file cannot be read on"] == 1


def _table(path: Path) -> bytes:
    rows = [f"{text} {number:06d}" for number, text in enumerate(GOOD * 20)]
    parquet.write_table(arrow.table({"text": rows}), path, row_group_size=100, compression="zstd", use_dictionary=False)
    return path.read_bytes()


def test_a_parquet_file_without_its_end_is_one_fault_of_its_own(tmp_path: Path) -> None:
    whole = _table(tmp_path / "whole.parquet")
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    counts = prepare_pipeline(_pipeline(tmp_path), tmp_path / "out", HERE)
    assert counts["steps"][0]["dropped"] == {"file cannot be read on": [1, 0]}
    assert counts["cleaned"]["sources"]["in"][0] == 1200


def test_of_a_damaged_parquet_file_only_the_damaged_rows_are_lost(tmp_path: Path) -> None:
    whole = bytearray(_table(tmp_path / "x.parquet"))
    place = parquet.ParquetFile(tmp_path / "x.parquet").metadata.row_group(3).column(0).data_page_offset
    whole[place : place + 60] = b"\xaa" * 60
    (tmp_path / "x.parquet").write_bytes(whole)
    records, others = _read(tmp_path / "x.parquet")
    assert len(records) == 1100
    assert others == {"row group cannot be read": 1}
    fault = next(
        f for f in read_split(Split("in", "", str(tmp_path / "x.parquet"), "x.parquet"), LIMIT) if isinstance(f, Fault)
    )
    assert fault.detail.startswith("100 rows lost")


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.zst", "x.csv", "x.parquet", "x.txt", "x.html", "x.json"])
def test_an_empty_file_is_counted_and_others_go_through(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    (tmp_path / "good.jsonl").write_bytes(LINES)
    counts = prepare_pipeline(_pipeline(tmp_path), tmp_path / "out", HERE)
    assert sum(amount[0] for amount in counts["steps"][0]["dropped"].values()) == 1
    assert counts["cleaned"]["sources"]["in"][0] == len(GOOD)


@pytest.mark.parametrize("files", [{}, {"x.jsonl": b""}, {"x.txt": b" \n"}, {"x.docx": b"PK"}])
def test_nothing_to_read_is_one_clear_line(tmp_path: Path, files: dict[str, bytes]) -> None:
    (tmp_path / "in").mkdir()
    for name, data in files.items():
        (tmp_path / "in" / name).write_bytes(data)
    with pytest.raises(DataError, match=r"no readable file|nothing is left") as told:
        prepare_pipeline(_pipeline(tmp_path / "in"), tmp_path / "out", HERE)
    assert "\n" not in str(told.value)


# -- too much ----------------------------------------------------------------------------------------------------------


def _long_line(size: int) -> Iterator[bytes]:
    yield b'{"text": "'
    for _ in range(size >> 20):
        yield b"long " * ((1 << 20) // 5)
    yield b'"}\n'


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.zst", "x.jsonl.gz", "x.csv.zst", "x.html.zst"])
def test_a_line_without_end_is_counted_and_never_held(tmp_path: Path, name: str) -> None:
    size, path = 48 << 20, tmp_path / name
    opened = {"zst": lambda: zstandard.open(path, "wb"), "gz": lambda: gzip.open(path, "wb", 1)}  # noqa: SIM115
    with opened.get(name.rpartition(".")[2], lambda: path.open("wb"))() as file:
        file.write(b"text\n" if "csv" in name else b"")
        for piece in _long_line(size):
            file.write(piece)
        if "html" not in name:
            file.write(b"after it\n" if "csv" in name else b'{"text": "after it"}\n')
    tracemalloc.start()
    records, others = _read(path, document_bytes=64 << 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert others.total() == 1
    assert [record.text for record in records] == ([] if "html" in name else ["after it"])
    assert peak < 80 << 20  # 22 MB of them a chunk that zstd unpacked at once


LIMITED = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); "
    "from smidgen.cli import main; sys.argv = ['smidgen', *sys.argv[2:]]; main()"
)


def _limited(limit: int, pipeline: Path, out: Path, workers: int) -> subprocess.CompletedProcess[str]:
    """Run the command where no file may grow over so many bytes: what a full disk or a quota does to a write."""
    command = ["data", "prepare", str(pipeline), "--out", str(out), "--workers", str(workers)]
    return subprocess.run([sys.executable, "-c", LIMITED, str(limit), *command], capture_output=True, text=True)


@pytest.mark.parametrize(("limit", "workers"), [(300, 0), (9_000, 0), (60_000, 0), (9_000, 1)])
def test_a_full_disk_is_one_clear_line_and_the_run_goes_on_once_there_is_room(
    tmp_path: Path, limit: int, workers: int
) -> None:
    if workers:
        pytest.importorskip("daft")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.jsonl").write_bytes(b"".join(b'{"text": "%d"}\n' % (n**9) for n in range(6000)))
    lines = [
        'name = "p"',
        "part_bytes = 50000",
        "[[sources]]",
        'name = "in"',
        f"path = {json.dumps(str(tmp_path / 'in'))}",
    ]
    lines += ["[[steps]]", 'type = "exact"', "[output]", 'tokenizer = { type = "bytes" }']
    (tmp_path / "p.toml").write_text("\n".join(lines))
    full = _limited(limit, tmp_path / "p.toml", tmp_path / "out", workers)
    assert full.returncode == 2, full.stderr
    last = full.stderr.strip().splitlines()[-1]
    assert last.startswith("smidgen: ")
    assert "space" in last or "too large" in last
    assert "Traceback" not in full.stderr
    assert not list((tmp_path / "out").glob("data/*/manifest.json"))
    assert not [p for p in (tmp_path / "out").rglob("*.part") if ".work" not in p.parts]
    again = _limited(resource.RLIM_INFINITY, tmp_path / "p.toml", tmp_path / "out", workers)
    assert again.returncode == 0, again.stderr
    whole = _limited(resource.RLIM_INFINITY, tmp_path / "p.toml", tmp_path / "whole", workers)
    assert whole.returncode == 0
    one, other = ((tmp_path / name / "counts.json").read_bytes() for name in ("out", "whole"))
    assert one == other
    shards = [
        sorted((p.name, p.read_bytes()) for p in (tmp_path / n / "data").rglob("*.symbols")) for n in ("out", "whole")
    ]
    assert shards[0] == shards[1]
