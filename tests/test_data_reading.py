import csv
import gzip
import json
import os

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.data import corpus
from smidgen.data.corpus import Corpus, ReadConfig
from smidgen.data.formats import MAX_TEXT_CHARACTERS
from smidgen.data.passages import cut_text
from smidgen.errors import DataError
from smidgen.tokenizers.chat import Message

TEXTS = ["One day.", 'Zwei "Tage",\nzwei\tZeilen.', "三日 🙂"]


def write_all_formats(folder):
    lines = "".join(json.dumps({"text": text, "id": n}) + "\n" for n, text in enumerate(TEXTS)).encode()
    (folder / "a.jsonl").write_bytes(lines)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    (folder / "c.jsonl.zst").write_bytes(zstandard.compress(lines[:20]) + zstandard.compress(lines[20:]))
    (folder / "d.json").write_text(json.dumps([{"text": text} for text in TEXTS]))
    (folder / "e.txt").write_text("\n<|endoftext|>\n".join(TEXTS))
    (folder / "f.md").write_text("\f".join(TEXTS))
    with (folder / "g.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *([n, text] for n, text in enumerate(TEXTS))])
    with (folder / "h.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([["text"], *([text] for text in TEXTS)])


def read(path, **options):
    return [document.text for document in Corpus(path, ReadConfig(**options))]


def test_every_format_gives_the_same_documents(tmp_path):
    write_all_formats(tmp_path)
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(arrow.table({"text": TEXTS, "n": [1, 2, 3]}), tmp_path / "i.parquet")
    for path in sorted(tmp_path.iterdir()):
        assert read(path) == TEXTS, path.name
    assert read(tmp_path) == TEXTS * 9


def test_conversations_and_other_fields(tmp_path):
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    (tmp_path / "chat.jsonl").write_text(json.dumps({"messages": turns}) + '\n{"messages": []}\n')
    corpus = Corpus(tmp_path)
    (document,) = corpus
    assert document.messages == (Message("user", "Hi"), Message("assistant", "Hello"))
    assert corpus.notes() == ["Left out 1 empty documents."]
    (tmp_path / "chat.jsonl").write_text('{"story": "Once"}\n')
    assert read(tmp_path, text_field="story") == ["Once"]


def test_folders_are_sorted_deep_and_without_hidden_files(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/deep/er/y.txt", ".hidden.txt", ".git/x.txt", "picture.png", "Makefile"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "loop").symlink_to(tmp_path)
    corpus = Corpus(tmp_path)
    assert [document.text for document in corpus] == ["b.txt", "a/z.txt", "a/deep/er/y.txt"]
    assert corpus.notes() == ["Passed over 2 files of other formats: 1 .png, 1 without suffix."]


def test_separators_are_whole_lines_only(tmp_path):
    (tmp_path / "a.txt").write_text("One <|endoftext|> two\n<|endoftext|>\r\nthree\n\f\nfour\n<|endoftext|>\n")
    assert read(tmp_path) == ["One <|endoftext|> two", "three", "four"]


def test_a_plain_file_is_kept_to_the_byte(tmp_path):
    text = "\n\n  One\r\ntwo \n"
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read(tmp_path) == [text]


def test_a_huge_file_on_one_line_streams_without_loss(tmp_path):
    text = "word é " * 1_500_000
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "b.txt.zst").write_bytes(zstandard.compress(text.encode()))
    for name in ("a.txt", "b.txt.zst"):
        documents = read(tmp_path / name)
        assert max(map(len, documents)) <= MAX_TEXT_CHARACTERS
        assert "".join(documents) == text


def test_a_few_odd_bytes_are_replaced_and_told_many_are_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"plain text " * 100 + b"\xff\xfe" + b"caf\xc3\xa9")
    corpus = Corpus(tmp_path)
    assert next(iter(corpus)).text.endswith("\ufffd\ufffdcafé")
    list(corpus)
    assert corpus.notes() == ["Replaced 2 bytes that are not UTF-8 with U+FFFD."]
    (tmp_path / "a.txt").write_bytes("Öl für Käse ".encode("latin1") * 50)
    with pytest.raises(DataError, match=r"a\.txt.*not UTF-8.*iconv"):
        read(tmp_path)


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet="ab \n", max_size=200), limit=st.integers(2, 30))
def test_cutting_loses_nothing_and_keeps_the_limit(text, limit):
    pieces = list(cut_text(text, limit))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= limit for piece in pieces)


PACKED = b'{"text": "some text"}\n' * 5000
BAD = {
    "nul.txt": (b"text\0more", "binary file"),
    "wide.txt": ("text".encode("utf-16"), "UTF-16"),
    "cut.jsonl.zst": (zstandard.compress(os.urandom(9000).hex().encode())[:-9], "truncated"),
    "cut.jsonl.gz": (gzip.compress(PACKED)[:-9], "truncated"),
    "not.jsonl.zst": (b"plain", "not a sound zstd"),
    "not.jsonl.gz": (b"plain", "not a sound gzip"),
    "broken.jsonl": (b'{"text": "a"}\n\n{"text": \n', "line 3 is not valid JSON"),
    "latin.jsonl": (b'{"text": "caf\xe9"}\n', "line 1 is not valid JSON.*UTF-8"),
    "deep.jsonl": (b"[" * 200_000, "line 1 is not valid JSON"),
    "field.jsonl": (b'{"title": "a", "body": "b"}\n', r"field\.jsonl:1: no field 'text'; it has: title, body"),
    "type.jsonl": (b'{"text": 17}\n', "must be a string, not 17"),
    "array.jsonl": (b'["a"]\n', "holds a list, not an object"),
    "turns.jsonl": (b'{"messages": [{"role": "user"}]}\n', '"role"'),
    "broken.json": (b'{"text": "a"}{', "not valid JSON"),
    "column.csv": (b"id,body\n1,a\n", "no field 'text'; it has: id, body"),
    "ragged.csv": (b"id,text\n1,a,b\n", "line 2 has 3 columns"),
    "latin.csv": (b"text\ncaf\xe9\n", "UTF-8"),
    "broken.parquet": (b"PAR1 nothing", "not a readable parquet"),
    "empty.txt": (b"", "no text"),
    "blank.jsonl": (b'{"text": " \\n"}\n{"text": null}\n', "no text"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_clear_line(name, tmp_path):
    content, reason = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_bad_places_are_one_clear_line(tmp_path):
    for path, reason in ((tmp_path, "it is empty"), (tmp_path / "no", "no such file"), (tmp_path / "a.png", "format")):
        if path.suffix:
            path.write_bytes(b"x")
        with pytest.raises(DataError, match=reason):
            Corpus(path)
    with pytest.raises(DataError, match=r"no readable file in it \(it has 1 \.png\)"):
        Corpus(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(DataError, match=r"a\.txt.*Permission denied"):
        read(tmp_path)


def test_the_fingerprint_follows_files_and_options(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    first = Corpus(tmp_path).fingerprint()
    assert Corpus(tmp_path).fingerprint() == first
    assert Corpus(tmp_path, ReadConfig(text_field="body")).fingerprint() != first
    (tmp_path / "a.txt").write_text("b")
    assert Corpus(tmp_path).fingerprint() != first
    (tmp_path / "a.txt").write_text("a")
    assert Corpus(tmp_path).fingerprint() == first
    (tmp_path / "b.txt").write_text("b")
    assert Corpus(tmp_path).fingerprint() != first


def test_a_copied_folder_is_the_same_text(tmp_path, monkeypatch):
    for name, seconds in (("here", 1_000), ("there", 2_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("a")
        os.utime(tmp_path / name / "a.txt", (seconds, seconds))
    here, there = (Corpus(tmp_path / name) for name in ("here", "there"))
    assert here.fingerprint() == there.fingerprint()
    monkeypatch.setattr(corpus, "READ_WHOLE_BYTES", 0)  # too much to be read: then times decide
    assert here.fingerprint() != there.fingerprint()


def test_the_size_of_packed_text_is_estimated(tmp_path):
    lines = "".join(json.dumps({"text": f"This is sentence number {n}."}) + "\n" for n in range(20_000)).encode()
    for name, content in (
        ("a.jsonl", lines),
        ("b.jsonl.gz", gzip.compress(lines)),
        ("c.jsonl.zst", zstandard.compress(lines)),
    ):
        (tmp_path / name).write_bytes(content)
        assert Corpus(tmp_path / name).estimate_text_bytes() == pytest.approx(len(lines), rel=0.1)
