"""What the files of strangers hold: names, charsets, quotation marks and records that a reader does not expect."""

import gzip
import json
import os
import tracemalloc
import zlib
from collections import Counter
from pathlib import Path

import pytest
import zstandard

from smidgen.config import validate_config
from smidgen.data.cleaning.personal import Personal, PersonalConfig
from smidgen.data.cleaning.step import Kept, Record
from smidgen.data.compression import unpack_page
from smidgen.data.pipeline.conduct import prepare_pipeline
from smidgen.data.pipeline.definition import PipelineConfig
from smidgen.data.pipeline.engine import Engine
from smidgen.data.pipeline.items import Fault, Split
from smidgen.data.pipeline.reading import read_split
from smidgen.errors import ConfigError

pytest.importorskip("pyarrow")

HERE = Engine(0)
LINES = b"".join(json.dumps({"text": f"document number {n}, with words in it"}).encode() + b"\n" for n in range(60))


def _read(path: Path, document_bytes: int = 1 << 20) -> tuple[list[str], Counter[str]]:
    """Return the texts of a file, and how many records went for each reason."""
    items = list(read_split(Split("in", "CC0-1.0", str(path), path.name), document_bytes))
    faults: Counter[str] = Counter()
    for item in items:
        if isinstance(item, Fault):
            faults[item.reason] += 1
    return [item.text for item in items if isinstance(item, Record)], faults


def _pipeline(path: Path | str, **changes) -> PipelineConfig:
    table = {
        "name": "test",
        "sources": [{"name": "in", "path": str(path)}],
        "steps": [],
        "output": {"tokenizer": {"type": "bytes"}, "seq_len": 64},
    }
    return validate_config(table | changes, PipelineConfig, "test")


@pytest.mark.parametrize("charset", ["undefined", "idna", "punycode", "hex", "utf-16", "no-such", "x\u00fc"])
def test_a_charset_that_is_none_is_read_as_utf8(tmp_path: Path, charset: str) -> None:
    page = f'<html><meta charset="{charset}"><p>caf\u00e9</p></html>'
    (tmp_path / "a.html").write_bytes(page.encode())
    assert _read(tmp_path / "a.html") == ([page], Counter())


@pytest.mark.parametrize("charset", ["iso-8859-1", "us-ascii", "windows-1252"])
def test_pages_that_say_latin1_keep_the_quotation_marks_of_windows(tmp_path: Path, charset: str) -> None:
    page = f"<html><meta charset={charset}><p>It\u2019s \u201chere\u201d, at the caf\u00e9</p></html>"
    (tmp_path / "a.html").write_bytes(page.encode("cp1252"))
    assert _read(tmp_path / "a.html") == ([page], Counter())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_counts_more_than_what_a_page_says(tmp_path: Path, encoding: str) -> None:
    page = "<html><meta charset=koi8-r><p>caf\u00e9</p></html>"
    (tmp_path / "a.html").write_bytes(page.encode(encoding))
    assert _read(tmp_path / "a.html") == ([page], Counter())


def _answer(packing: str, body: bytes, kind: str = "response") -> bytes:
    answer = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: {packing}\r\n\r\n".encode() + body
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://a/\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
    head += f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(answer)}\r\n\r\n"
    return head.encode() + answer + b"\r\n\r\n"


_PACKED = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": lambda page: zlib.compress(page)[2:-4],
    "br": lambda page: pytest.importorskip("brotli").compress(page),
    "zstd": lambda page: zstandard.ZstdCompressor().compress(page),
}


@pytest.mark.parametrize("packing", _PACKED)
def test_a_packed_page_is_read_and_one_that_breaks_off_or_is_damaged_is_counted(tmp_path: Path, packing: str) -> None:
    pytest.importorskip("warcio")
    page = "".join(f"<p>line {n} of a page, and {n * n % 971} more</p>" for n in range(2_000)).encode()
    packed = _PACKED[packing](page)
    torn = bytes(byte ^ 0x55 if 900 < at < 960 else byte for at, byte in enumerate(packed[: len(packed) // 2]))
    records = [_answer(packing, body) for body in (packed, packed[: len(packed) // 2], torn + packed[len(torn) :])]
    (tmp_path / "a.warc").write_bytes(b"".join(records))
    texts, faults = _read(tmp_path / "a.warc")
    assert texts[0] == page.decode()
    assert sum(faults.values()) == 2 or (len(texts) == 2 and packing.lower() != "gzip")  # what has no checksum may pass
    assert faults["page cannot be unpacked"] >= 1


@pytest.mark.parametrize("packing", ["br", "gzip", "deflate", "zstd"])
def test_a_page_that_unpacks_to_more_than_may_be_held_is_not_held(packing: str) -> None:
    packed = _PACKED[packing](bytes(96 << 20))
    tracemalloc.start()
    assert unpack_page(packed, packing, "the page", 1 << 20) is None
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_what_servers_call_packed_and_is_not_and_what_stands_behind_a_page(tmp_path: Path) -> None:
    pytest.importorskip("warcio")
    page = b"<html><p>a page</p></html>"
    bodies = [("deflate", page), ("utf-8", page), ("none", page), ("gzip", gzip.compress(page) + b"\r\n")]
    (tmp_path / "a.warc").write_bytes(b"".join(_answer(*one) for one in bodies))
    assert _read(tmp_path / "a.warc") == ([page.decode()] * 4, Counter())


def test_pages_packed_in_ways_of_their_own_are_counted_and_so_are_records_of_made_up_kinds(tmp_path: Path) -> None:
    pytest.importorskip("warcio")
    page = b"<html><p>a page</p></html>"
    records = [_answer("compress", b"\x1f\x9d\x90"), _answer("br", b"\x0b\x02\x80no\x03"), _answer("identity", page)]
    records += [_answer("zstd", b"(\xb5/\xfd"), _answer("gzip", page), _answer("zstd", page)]
    records += [_answer("gzip", gzip.compress(page)), *(_answer("", b"", f"kind-{n}") for n in range(20))]
    (tmp_path / "a.warc").write_bytes(b"".join(records))
    texts, faults = _read(tmp_path / "a.warc")
    assert texts == [page.decode()] * 4
    assert faults == {
        "page packed in a way that is not read": 1,
        "page cannot be unpacked": 2,
        "not a page: a record of another kind": 20,
    }


def test_names_that_are_no_utf8_stand_in_ids_in_a_way_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(LINES)
    for name in (b"b\xfe.jsonl", b"b\xff.jsonl"):
        with open(os.path.join(os.fsencode(tmp_path / "in"), name), "wb") as file:  # noqa: PTH118, PTH123 - bytes
            file.write(LINES + b"no JSON\n")
    read = prepare_pipeline(_pipeline(tmp_path / "in"), tmp_path / "out", HERE)["steps"][0]
    assert read["kept"][0] == 3 * 60
    assert sorted(sample["id"] for sample in read["samples"]["not JSON"]) == [
        "in/b\\xfe.jsonl:61",
        "in/b\\xff.jsonl:61",
    ]


def test_links_to_nothing_and_pipes_are_counted_and_links_back_up_read_nothing_twice(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "z.jsonl").write_bytes(LINES)
    (folder / "gone.jsonl").symlink_to(folder / "nowhere.jsonl")
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "sub" / "back").symlink_to(folder)
    for number, path in enumerate((folder, f"{folder}/**/*.jsonl")):
        counts = prepare_pipeline(_pipeline(path), tmp_path / f"out{number}", HERE)
        assert counts["files"] == 1
        assert counts["read"]["sources"]["in"][0] == 60
        assert counts["passed_over"] == {"link to nothing, or pipe": 2}


@pytest.mark.parametrize(
    ("data", "kept", "faults"),
    [
        (b'id,text\n1,one\n2,"two\n3,three\n4,four\n', 1, {"file cannot be read on": 1}),
        (b'id,text\n1,one\n2,"two\n3,three', 1, {"file cannot be read on": 1}),
        (b"id,text\n1,one\n2,tw\ro\n3,three\n", 2, {"not CSV": 1}),
        (b"id,te\rxt\n1,one\n2,two\n", 0, {"file cannot be read on": 1}),
        (b'id,text\r\n1,"o\r\nne"\r\n2,"two"', 2, {}),
    ],
)
def test_rows_behind_an_open_quotation_mark_do_not_become_its_text(
    tmp_path: Path, data: bytes, kept: int, faults: dict[str, int]
) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    texts, found = _read(tmp_path / "a.csv")
    assert (len(texts), found) == (kept, faults)
    assert not any("three" in text and text != "three" for text in texts)


def test_a_row_of_parquet_that_is_no_utf8_goes_alone_and_lost_rows_are_counted_one_by_one(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    made = arrow.array([b"text %d" % n if n % 10 else b"text \xff" for n in range(60)], arrow.binary())
    validity, offsets, data = made.buffers()
    texts = arrow.StringArray.from_buffers(len(made), offsets, data, validity)
    (tmp_path / "in").mkdir()
    parquet.write_table(arrow.table({"text": texts}), tmp_path / "in" / "a.parquet")
    whole = arrow.table({"text": [f"document {n} has these words" for n in range(60)]})
    parquet.write_table(whole, tmp_path / "in" / "b.parquet", row_group_size=20, compression="none")
    damaged = bytearray((tmp_path / "in" / "b.parquet").read_bytes())
    damaged[4:40] = b"\xff" * 36
    (tmp_path / "in" / "b.parquet").write_bytes(damaged)
    read = prepare_pipeline(_pipeline(tmp_path / "in"), tmp_path / "out", HERE)["steps"][0]
    assert read["kept"][0] == 54 + 40
    assert read["dropped"] == {"not UTF-8": [6, 0], "row group cannot be read": [20, 0]}


def test_half_a_pair_of_surrogates_in_a_page_stops_no_run(tmp_path: Path) -> None:
    pytest.importorskip("resiliparse")
    (tmp_path / "in").mkdir()
    page = json.dumps({"text": "<html><body><p>half a pair: \ud83d, and more words</p></body></html>"}).encode()
    (tmp_path / "in" / "a.jsonl").write_bytes(LINES + page + b"\n")
    counts = prepare_pipeline(_pipeline(tmp_path / "in", steps=[{"type": "html"}]), tmp_path / "out", HERE)
    assert counts["steps"][1]["kept"][0] == 61
    assert counts["steps"][1]["changed"] == {"html:page": [1, 1]}


@pytest.mark.parametrize(
    "step",
    [
        {"type": "near", "seed": -1},
        {"type": "diversity", "max_bytes": 9, "seed": -1},
        {"type": "diversity", "max_bytes": 9, "seed": 1 << 60},
        {"type": "offensive", "words": [""]},
        {"type": "decontaminate", "against": []},
        {"type": "language", "keep": []},
    ],
)
def test_what_a_step_cannot_be_is_refused_with_the_pipeline_file(step: dict) -> None:
    with pytest.raises(ConfigError, match="steps"):
        _pipeline("in", steps=[step])


def test_a_mask_may_hold_any_brace() -> None:
    masked = Personal(PersonalConfig(mask="{{kind}, {0}"))("Write to ann@example.org today.")
    assert masked == Kept("Write to {EMAIL, {0} today.", {"personal:email": 1})
