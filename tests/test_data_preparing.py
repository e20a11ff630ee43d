import errno
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.data import shards
from smidgen.data.documents import Document
from smidgen.data.prepare import PrepareConfig, prepare
from smidgen.data.sampling import sample_texts
from smidgen.data.shards import TokenShards
from smidgen.data.split import is_sampled, split_of
from smidgen.errors import DataError, SmidgenError
from smidgen.tokenizers.bpe import BpeConfig, train_bpe
from smidgen.tokenizers.bytes import ByteTokenizer
from smidgen.tokenizers.chat import Message

BYTES = ByteTokenizer()


def stories(count, seed=0, size=60):
    draw = random.Random(seed)
    words = ["the", "a", "cat", "dog", "house", "river", "said", "went", "little", "red", "é", "三"]
    return [Document(text=f"Story {n}. " + " ".join(draw.choices(words, k=size)), source=str(n)) for n in range(count)]


def texts(side, tokenizer=BYTES):
    return [tokenizer.decode(ids) for ids in side.documents()]


def test_everything_comes_back_on_one_side_or_the_other(tmp_path):
    documents = stories(500)
    bpe, _ = train_bpe([d.text for d in documents], BpeConfig(vocab_size=300))
    for tokenizer in (BYTES, bpe):
        made = prepare(documents, tokenizer, tmp_path, "s", PrepareConfig(validation_fraction=0.2, shard_symbols=5000))
        train, validation = texts(made.train, tokenizer), texts(made.validation, tokenizer)
        assert sorted(train + validation) == sorted(d.text for d in documents)
        assert 60 < len(validation) < 140
        assert len(made.manifest.train) > 3
        for side in (made.train, made.validation):
            assert side.text_bytes == sum(len(text.encode()) for text in texts(side, tokenizer))
            ids = [side.read(start, length) for start, length in zip(side.starts, side.lengths, strict=True)]
            assert all(part[0] == part[-1] == tokenizer.eot_id for part in ids)
            lut = np.array(tokenizer.symbol_bytes())
            assert [int(lut[part].sum()) for part in ids] == side.document_bytes.tolist()
        made.verify()


def test_duplicates_are_left_out_and_told(tmp_path):
    made = prepare(stories(100) + stories(30), BYTES, tmp_path, "s")
    assert (made.manifest.documents_read, made.manifest.duplicates) == (130, 30)
    assert len(made.train.lengths) + len(made.validation.lengths) == 100
    assert made.manifest.notes == ["Left out 30 of 130 documents: exact duplicates of others."]


def test_the_side_of_a_document_does_not_depend_on_the_others(tmp_path):
    config = PrepareConfig(validation_fraction=0.1)
    some = prepare(stories(300), BYTES, tmp_path, "a", config)
    more = prepare(stories(300)[::-1] + stories(200, seed=1), BYTES, tmp_path, "b", config)
    moved = set(texts(some.validation)) - set(texts(more.validation))
    assert len(moved) <= 1  # at most the one that was settled so that validation is not empty


@pytest.mark.parametrize("count", [1, 2, 3, 63, 64, 65])
def test_few_documents_still_validate(count, tmp_path):
    documents = stories(count, size=500)
    made = prepare(documents, BYTES, tmp_path, str(count), PrepareConfig(validation_fraction=0.01))
    parts = texts(made.train) + texts(made.validation)
    assert made.validation.text_bytes > 0
    assert made.train.text_bytes > made.validation.text_bytes
    assert sum(map(len, parts)) == sum(len(d.text) for d in documents)
    assert bool(made.manifest.notes) == (count < 64)


def test_too_little_text_is_refused(tmp_path):
    for documents in ([], [Document(text="tiny")], [Document(text="same")] * 9):
        with pytest.raises(DataError, match="too little text"):
            prepare(documents, BYTES, tmp_path, "s")
    assert not list(tmp_path.iterdir())


def test_conversations_are_documents_in_the_template(tmp_path):
    talks = [Document(messages=(Message("user", f"Hi {n}"), Message("assistant", "Yes"))) for n in range(100)]
    made = prepare(talks, BYTES, tmp_path, "s")
    ids = made.train.read(int(made.train.starts[0]), int(made.train.lengths[0])).tolist()
    assert ids == [
        *BYTES.encode_with_specials(
            "<|endoftext|><|im_start|>user\n Hi 0<|im_end|>\n<|im_start|>assistant\n Yes<|im_end|>\n<|endoftext|>"
        )
    ]
    assert made.train.document_bytes[0] == len("user\n Hi 0\nassistant\n Yes\n")


def test_a_sample_is_even_and_near_its_budget(tmp_path):
    documents = stories(4000)
    total = sum(len(d.text.encode()) for d in documents)
    made = prepare(documents, BYTES, tmp_path, "s", PrepareConfig(max_symbols=total // 5), total)
    taken = made.train.symbols + made.validation.symbols
    assert taken == pytest.approx(total / 5, rel=0.15)
    numbers = [int(text.split()[1].rstrip(".")) for text in texts(made.train)]
    assert np.mean(numbers) == pytest.approx(2000, abs=200)
    assert "sample of 20.0%" in made.manifest.notes[0]


def test_one_long_text_is_sampled_in_passages(tmp_path):
    text = " ".join(f"line {n}.\n" for n in range(300_000))
    made = prepare([Document(text=text)], BYTES, tmp_path, "s", PrepareConfig(max_symbols=400_000), len(text))
    assert made.train.symbols + made.validation.symbols == pytest.approx(400_000, rel=0.35)
    assert made.validation.text_bytes > 0


def test_repetitive_text_under_a_small_budget_still_validates(tmp_path):
    text = "éx " * 400_000
    made = prepare([Document(text=text)], BYTES, tmp_path, "s", PrepareConfig(max_symbols=20_000), len(text))
    assert made.train.symbols > 0
    assert made.validation.symbols > 0


def test_endless_text_stops_at_the_budget(tmp_path):
    def endless():
        n = 0
        while True:
            n += 1
            yield Document(text=f"Tale {n}. " + "It rained. " * 400)

    made = prepare(endless(), BYTES, tmp_path, "s", PrepareConfig(max_symbols=3_000_000))
    assert 3_000_000 <= made.train.symbols + made.validation.symbols < 6_000_000
    assert "Stopped after" in made.manifest.notes[-1]


def test_preparing_again_reads_nothing(tmp_path):
    def never():
        raise AssertionError("read again")
        yield

    first = prepare(stories(100), BYTES, tmp_path, "s")
    again = prepare(never(), BYTES, tmp_path, "s")
    assert again.folder == first.folder
    assert prepare(stories(100), BYTES, tmp_path, "other").folder != first.folder


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(self, ids, text_bytes):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards.ShardWriter, "add", full)
    with pytest.raises(SmidgenError, match="No space left"):
        prepare(stories(100), BYTES, tmp_path, "s")
    assert not list(tmp_path.iterdir())


def test_an_error_while_reading_leaves_nothing(tmp_path):
    def broken():
        yield from stories(100)
        raise DataError("line 7 is not valid JSON")

    with pytest.raises(DataError, match="line 7"):
        prepare(broken(), BYTES, tmp_path, "s")
    assert not list(tmp_path.iterdir())


def test_remains_of_a_killed_process_are_swept(tmp_path):
    folder = prepare(stories(100), BYTES, tmp_path, "s").folder
    remains = tmp_path / f".{folder.name}.999999999.partial"
    remains.mkdir()
    for path in folder.iterdir():
        path.unlink()
    prepare(stories(100), BYTES, tmp_path, "s")
    assert not remains.exists()
    assert (folder / "manifest.json").is_file()


def damage_symbols(folder: Path):
    path = folder / "train-00000.symbols"
    path.write_bytes(path.read_bytes()[:-2])


def damage_starts(folder: Path):
    np.save(folder / "train-00000.starts.npy", np.arange(7))


def damage_bytes(folder: Path):
    (folder / "validation-00000.bytes.npy").write_bytes(b"")


def damage_manifest(folder: Path):
    (folder / "manifest.json").write_text("{")


def remove_shard(folder: Path):
    (folder / "train-00000.symbols").unlink()


@pytest.mark.parametrize("damage", [damage_symbols, damage_starts, damage_bytes, damage_manifest, remove_shard])
def test_damaged_shards_are_refused(damage, tmp_path):
    folder = prepare(stories(100), BYTES, tmp_path, "s").folder
    damage(folder)
    with pytest.raises(DataError, match=r"[Pp]repare again"):
        TokenShards(folder)


def test_changed_symbols_are_found_by_their_sha256(tmp_path):
    made = prepare(stories(100), BYTES, tmp_path, "s")
    path = made.folder / "train-00000.symbols"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="was changed"):
        TokenShards(made.folder).verify()


@settings(max_examples=50, deadline=None)
@given(low=st.floats(0, 1), high=st.floats(0, 1), document_hash=st.binary(min_size=16, max_size=16))
def test_more_validation_only_adds_to_it(low, high, document_hash):
    low, high = sorted((low, high))
    assert split_of(document_hash, low) == "train" or split_of(document_hash, high) == "validation"
    assert is_sampled(document_hash, high) or not is_sampled(document_hash, low)


def test_a_sample_of_texts_is_even_and_near_its_size():
    documents = stories(3000)
    total = sum(len(d.text.encode()) for d in documents)
    taken = list(sample_texts(documents, total // 4, total))
    assert sum(len(text.encode()) for text in taken) == pytest.approx(total / 4, rel=0.15)
    assert np.mean([int(text.split()[1].rstrip(".")) for text in taken]) == pytest.approx(1500, abs=150)
    assert list(sample_texts(documents, 10 * total, total)) == [d.text for d in documents]
    assert list(sample_texts(documents, 1)) == [documents[0].text]
    assert list(sample_texts([Document(messages=(Message("user", "Hi"),))], 99)) == ["Hi"]
