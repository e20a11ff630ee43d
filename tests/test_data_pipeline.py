"""A pipeline is one result: whoever does the work, however often it is killed, nothing in or out of it uncounted."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.config import validate_config
from smidgen.data.cleaning.in_memory import clean_in_memory
from smidgen.data.cleaning.step import Dropped, Kept, Record
from smidgen.data.cleaning.steps import build_step
from smidgen.data.pipeline.conduct import Telling, prepare_pipeline
from smidgen.data.pipeline.definition import PipelineConfig, load_pipeline
from smidgen.data.pipeline.engine import Engine
from smidgen.data.pipeline.reading import Fault, Mended, read_split, split_lines
from smidgen.data.pipeline.sources import list_sources
from smidgen.data.pipeline.tally import Tally, count_verdict, merged, tally_from
from smidgen.data.shards import TokenShards
from smidgen.errors import ConfigError, DataError, RunError
from smidgen.tokenizers.loading import load_tokenizer

pytest.importorskip("pyarrow")

HERE, NOWHERE = Engine(0), Telling()
STEPS = [
    {"type": "boilerplate", "min_documents": 20},
    {"type": "gopher", "min_words": 10, "min_stop_words": 0},
    {"type": "exact"},
    {"type": "near"},
]
BROKEN = [b'{"text": "cut of', b"\xff\xfe{}", b"", b'{"text": 7}', b'{"body": "x"}', b"[1]", b'{"text": "  "}', b"null"]


def _texts(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(3, 8))) for _ in range(400)]
    texts = [" ".join(draw.choices(words, k=draw.randint(5, 120))) + "." for _ in range(count)]
    copies = [draw.choice(texts) for _ in range(count // 10)]
    close = [" ".join([*draw.choice(texts).split(" ")[:-1], "ending"]) for _ in range(count // 10)]
    menu = "Home | About us | Contact"
    return [f"{text}\n{menu}" if draw.random() < 0.3 else text for text in (*texts, *copies, *close)]


def _corpus(folder: Path, documents: int = 150) -> Path:
    (folder / "web").mkdir(parents=True)
    (folder / "books").mkdir()
    lines = [json.dumps({"text": text}).encode() for text in _texts(documents, 1)]
    (folder / "web" / "a.jsonl").write_bytes(b"\n".join([*lines[:90], *BROKEN, *lines[90:]]) + b"\n")
    packed = b"\n".join(json.dumps({"text": text}).encode() for text in _texts(documents // 2, 2))
    (folder / "web" / "b.jsonl.zst").write_bytes(zstandard.compress(packed))
    (folder / "books" / "one.txt").write_text("\f".join(_texts(20, 3)))
    (folder / "web" / "notes.docx").write_bytes(b"PK")
    return folder


def _pipeline(corpus: Path, **changes) -> PipelineConfig:
    table = {
        "name": "test",
        "sources": [
            {"name": "web", "path": str(corpus / "web"), "license": "CC0-1.0"},
            {"name": "books", "path": str(corpus / "books" / "*.txt")},
        ],
        "steps": STEPS,
        "output": {"tokenizer": {"type": "bytes"}, "shard_symbols": 20_000, "seq_len": 64},
        "part_bytes": 12_000,
    }
    return validate_config(table | changes, PipelineConfig, "test")


def _digest(out: Path) -> dict[str, str]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and ".work" not in path.parts)
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name != ".lock"
    }


def _prepared(out: Path) -> tuple[TokenShards, list[str]]:
    shards = TokenShards(next(out.glob("data/*/manifest.json")).parent)
    shards.verify()
    tokenizer = load_tokenizer(out / "tokenizer")
    return shards, [tokenizer.decode(ids) for side in (shards.train, shards.validation) for ids in side.documents()]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _corpus(tmp_path_factory.mktemp("corpus"))


@dataclass(frozen=True)
class Whole:
    out: Path
    counts: dict
    calls: int


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    out, calls = tmp_path_factory.mktemp("out") / "whole", Counter()
    telling = Telling(progress=lambda name, done, total: calls.update(["progress"]))
    counts = prepare_pipeline(_pipeline(corpus), out, HERE, telling)
    return Whole(out, counts, calls["progress"])


def test_an_executor_equals_the_steps_in_memory(corpus: Path, whole: Whole) -> None:
    config = _pipeline(corpus)
    items = [item for split in list_sources(config).splits for item in read_split(split, config.document_bytes)]
    records = [item for item in items if isinstance(item, Record)]
    expected = clean_in_memory(records, [build_step(step) for step in config.steps])
    _, texts = _prepared(whole.out)
    assert Counter(texts) == Counter(record.text for record in expected.records)
    assert [step["kept"][0] for step in whole.counts["steps"][1:]] == [count.kept for count in expected.steps]
    assert len(expected.dropped) > 30


def test_every_line_is_a_document_or_counted_with_its_reason(corpus: Path, whole: Whole) -> None:
    reading = whole.counts["steps"][0]
    lines = (corpus / "web" / "a.jsonl").read_bytes().count(b"\n")
    packed = len(_texts(75, 2))
    assert reading["kept"][0] + sum(amount[0] for amount in reading["dropped"].values()) == lines + packed + len(
        _texts(20, 3)
    )
    assert sum(amount[0] for amount in reading["dropped"].values()) == len(BROKEN)
    assert {"not JSON", "not UTF-8", "blank line", "text is not a string", "no text field"} <= set(reading["dropped"])
    assert whole.counts["passed_over"] == {".docx": 1}
    came = reading["kept"][0]
    for step in whole.counts["steps"][1:]:
        assert step["kept"][0] + sum(amount[0] for amount in step["dropped"].values()) == came
        came = step["kept"][0]
        for reason, amount in step["dropped"].items():
            assert 1 <= len(step["samples"][reason]) <= amount[0]


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.85, 0.97])
def test_a_run_that_breaks_off_goes_on_to_the_same_bytes(
    corpus: Path, whole: Whole, tmp_path: Path, share: float
) -> None:
    left = round(share * whole.calls)

    def break_off(name: str, done: int, total: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_pipeline(_pipeline(corpus), tmp_path, HERE, Telling(progress=break_off))
    assert not list(tmp_path.glob("data/*/manifest.json"))
    prepare_pipeline(_pipeline(corpus), tmp_path, HERE)
    assert _digest(tmp_path) == _digest(whole.out)


def test_daft_gives_the_same_bytes_and_nothing_is_done_twice(corpus: Path, whole: Whole, tmp_path: Path) -> None:
    pytest.importorskip("daft")
    prepare_pipeline(_pipeline(corpus), tmp_path, Engine(2))
    assert _digest(tmp_path) == _digest(whole.out)
    said: list[str] = []
    again = prepare_pipeline(_pipeline(corpus), tmp_path, HERE, Telling(say=said.append))
    assert again == whole.counts
    assert "finished already" in said[0]


def _write_toml(config: PipelineConfig, path: Path) -> Path:
    """Write a pipeline file that says the same; JSON of a list of plain tables is TOML's inline form but for colons."""
    data = config.model_dump(mode="json", exclude_none=True)
    lines = [f"{key} = {json.dumps(data[key])}" for key in ("name", "part_bytes", "document_bytes")]
    for kind in ("sources", "steps"):
        for table in data[kind]:
            flat = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
            lines += [f"[[{kind}]]", *flat]
    output = data["output"]
    lines += ["[output]", 'tokenizer.type = "bytes"']
    lines += [f"{key} = {output[key]}" for key in ("shard_symbols", "seq_len")]
    path.write_text("\n".join(lines))
    return path


def _command(pipeline: Path, out: Path, *options: str) -> list[str]:
    program = "import sys; from smidgen.cli import run; sys.exit(run(sys.argv[1:]))"
    return [sys.executable, "-c", program, "data", "prepare", str(pipeline), "--out", str(out), *options]


def test_killed_in_the_middle_and_run_again_equals_uninterrupted(corpus: Path, whole: Whole, tmp_path: Path) -> None:
    pytest.importorskip("daft")
    pipeline, out = _write_toml(_pipeline(corpus), tmp_path / "p.toml"), tmp_path / "out"
    assert load_pipeline(pipeline) == _pipeline(corpus)
    process = subprocess.Popen(
        _command(pipeline, out, "--workers", "2"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 100
    while not list(out.glob(".work/*/pass-1/*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(out.glob("data/*/manifest.json"))
    prepare_pipeline(load_pipeline(pipeline), out, HERE)
    assert _digest(out) == _digest(whole.out)


@pytest.mark.slow
def test_a_ray_cluster_of_two_workers_gives_the_same_bytes(corpus: Path, whole: Whole, tmp_path: Path) -> None:
    pytest.importorskip("daft")
    pytest.importorskip("ray")
    pipeline, out = _write_toml(_pipeline(corpus), tmp_path / "p.toml"), tmp_path / "out"
    start = (
        "import ray, sys\nfrom ray.cluster_utils import Cluster\n"
        "cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 1, 'object_store_memory': 10**8})\n"
        "cluster.add_node(num_cpus=1, object_store_memory=10**8)\n"
        "from smidgen.cli import run\nsys.exit(run([*sys.argv[1:], '--ray', cluster.address]))"
    )
    command = _command(pipeline, out, "--workers", "2")
    subprocess.run([command[0], "-c", start, *command[3:]], check=True, capture_output=True)
    made = {name: digest for name, digest in _digest(out).items() if name != "data_report.html"}
    assert made == _digest(whole.out)


def test_how_files_are_cut_into_ranges_changes_no_text(corpus: Path, tmp_path: Path) -> None:
    def read(part_bytes: int) -> list[str]:
        listing = list_sources(_pipeline(corpus, part_bytes=part_bytes))
        items = [item for split in listing.splits for item in read_split(split, 1 << 20)]
        return [
            item.text if isinstance(item, Record) else item.reason for item in items if not isinstance(item, Mended)
        ]

    assert len(list_sources(_pipeline(corpus, part_bytes=1024)).splits) > 20
    assert read(1024) == read(5000) == read(1 << 30)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=12)), st.integers(1, 8))
def test_lines_are_those_of_split_but_for_the_too_long(chunks: list[bytes], limit: int) -> None:
    data = b"".join(chunks)
    expected = data.split(b"\n")
    expected = expected if expected[-1] else expected[:-1]
    found = list(split_lines(chunks, limit))
    assert [line for _, line in found] == [line if len(line) <= limit else None for line in expected]
    assert all(data[at : at + len(line)] == line for at, line in found if line is not None)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=5), st.sampled_from(["", "a", "b"])), max_size=30), st.randoms())
def test_counts_and_samples_do_not_depend_on_the_order_of_parts(events: list[tuple[str, str]], draw) -> None:
    tallies = []
    for number, (text, reason) in enumerate(events):
        tally = Tally()
        verdict = Dropped(reason, "why") if reason else Kept(text, {"cut": 2})
        count_verdict(tally.of(0), Record(f"id:{number}", text), verdict)
        tally.read.pass_by("s", len(text))
        tallies.append(tally_from(json.loads(json.dumps(tally.as_dict()))))
    straight = merged(tallies).as_dict()
    draw.shuffle(tallies)
    middle = len(tallies) // 2
    assert merged([merged(tallies[:middle]), merged(tallies[middle:])]).as_dict() == straight


def test_epochs_tokens_and_weights_say_how_much_of_a_source_there_is(corpus: Path, tmp_path: Path) -> None:
    sources = [
        {"name": "web", "path": str(corpus / "web"), "epochs": 0.5},
        {"name": "books", "path": str(corpus / "books"), "epochs": 2.0},
    ]
    config = _pipeline(corpus, sources=sources, steps=[{"type": "exact", "compare": "exactly"}])
    counts = prepare_pipeline(config, tmp_path, HERE)
    shards, _ = _prepared(tmp_path)
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    times = Counter(tokenizer.decode(ids) for ids in shards.train.documents())
    held_out = {tokenizer.decode(ids) for ids in shards.validation.documents()}
    books = (corpus / "books" / "one.txt").read_text().split("\f")
    assert {times[text] for text in books if text not in held_out} == {2}
    assert not held_out & set(times)
    web = counts["sources"][0]
    assert web["epochs"] == 0.5
    assert 0.35 < web["documents"] / counts["cleaned"]["sources"]["web"][0] < 0.7
    assert {source["license"] for source in counts["sources"]} == {"not stated"}


def test_order_is_shuffled_by_the_seed_alone(corpus: Path, whole: Whole, tmp_path: Path) -> None:
    config = _pipeline(corpus)
    other = config.model_copy(update={"output": config.output.model_copy(update={"seed": 1})})
    prepare_pipeline(other, tmp_path, HERE)
    (_, one), (_, two) = _prepared(whole.out), _prepared(tmp_path)
    assert one != two
    assert sorted(one) == sorted(two)


def _single(tmp_path: Path, name: str, content: bytes, **changes) -> PipelineConfig:
    (tmp_path / "in").mkdir(exist_ok=True)
    (tmp_path / "in" / name).write_bytes(content)
    return _pipeline(tmp_path, sources=[{"name": "in", "path": str(tmp_path / "in")}], steps=[], **changes)


GOOD = b"".join(json.dumps({"text": f"document number {n}"}).encode() + b"\n" for n in range(40))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.jsonl.zst", zstandard.compress(GOOD * 50)[:-9], "file cannot be read on"),
        ("x.jsonl.gz", b"not gzip", "file cannot be read on"),
        ("x.parquet", b"PAR1 truncated", "file cannot be read on"),
        ("x.txt", b"\xe9t\xe9 \xe0 la plage " * 50, "file cannot be read on"),
        ("x.csv", b"text,b\nfine,1\nonly one\n", "another number of columns"),
        ("x.jsonl", b'{"text": "' + b"long " * 60_000 + b'"}\n', "line too long"),
        ("x.jsonl", b'{"text": "' + b"long " * 600 + b'"}\n', "longer than document_bytes"),
        ("x.jsonl", b'{"messages": [{"role": "user", "content": "hi"}]}\n', "conversation"),
        ("x.jsonl", b'{"text": ' + b"[" * 60_000, "not JSON"),
        ("x.html", b"", "empty text"),
    ],
)
def test_what_is_broken_is_counted_and_the_rest_goes_through(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    config = _single(tmp_path, name, content, document_bytes=2048)
    (tmp_path / "in" / "good.jsonl").write_bytes(GOOD)
    counts = prepare_pipeline(config, tmp_path / "out", HERE)
    assert counts["steps"][0]["dropped"][reason][0] == 1
    assert counts["steps"][0]["samples"][reason][0]["id"].startswith(f"in/{name}")
    assert counts["cleaned"]["sources"]["in"][0] >= 40


def test_a_byte_order_mark_and_lone_surrogates_are_put_right_and_the_first_is_told(tmp_path: Path) -> None:
    lines = b'\xef\xbb\xbf{"text": "marked"}\n{"text": "half \\ud800 of a pair"}\n'
    counts = prepare_pipeline(_single(tmp_path, "x.jsonl", lines), tmp_path / "out", HERE)
    assert counts["steps"][0]["changed"] == {"byte-order mark removed": [1, 1]}
    assert sorted(_prepared(tmp_path / "out")[1]) == ["half \ufffd of a pair", "marked"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "nothing is left of"),
        (b'{"text": "one"}\n', "training and validation need one each"),
        (b"{}", "no text field"),
    ],
)
def test_too_little_text_is_one_clear_line(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        prepare_pipeline(_single(tmp_path, "x.jsonl", content), tmp_path / "out", HERE)


def test_a_folder_of_another_result_is_refused(corpus: Path, whole: Whole) -> None:
    before = _digest(whole.out)
    with pytest.raises(RunError, match="another pipeline"):
        prepare_pipeline(_pipeline(corpus, steps=[]), whole.out, HERE)
    assert _digest(whole.out) == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": [{"type": "gofer"}]}, "steps"),
        ({"sources": []}, "sources"),
        ({"sources": [{"name": "a", "path": "x"}, {"name": "a", "path": "y"}]}, "two sources are called 'a'"),
        ({"sources": [{"name": "a", "path": "x", "epochs": 1, "weight": 1}]}, "weight and epochs"),
        ({"sources": [{"name": "a", "path": "x", "weight": 1}, {"name": "b", "path": "y"}]}, "give 'b' one too"),
        ({"part_byte": 1}, "part_bytes"),
    ],
)
def test_a_pipeline_that_cannot_be_meant_is_refused(corpus: Path, changes: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _pipeline(corpus, **changes)


def test_more_memory_than_there_is_is_refused_beforehand(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Lower part_bytes or --workers"):
        prepare_pipeline(_pipeline(corpus, part_bytes=1 << 40), tmp_path, Engine(8))


def test_a_source_that_is_not_there_is_named(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="source 'gone'"):
        prepare_pipeline(_pipeline(corpus, sources=[{"name": "gone", "path": "no/such"}]), tmp_path / "out", HERE)


def test_what_lies_behind_an_address_is_read_as_a_file_here(corpus: Path) -> None:
    pytest.importorskip("daft")
    sources = [{"name": "web", "path": f"file://{corpus}/web/*.zst"}]
    (split,) = list_sources(_pipeline(corpus, sources=sources)).splits
    there = [item.text for item in read_split(split, 1 << 20) if isinstance(item, Record)]
    assert split.name == "b.jsonl.zst"
    assert there == _texts(75, 2)
    assert not [item for item in read_split(split, 1 << 20) if isinstance(item, Fault)]
