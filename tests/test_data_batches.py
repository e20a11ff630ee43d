import itertools
import threading

import numpy as np
import pytest
import torch

from smidgen.data.conversations import conversation_batch, encode_conversation
from smidgen.data.documents import Document
from smidgen.data.prepare import PrepareConfig, prepare
from smidgen.data.stream import AnswerWeights, Layout, PackedStream, prefetched
from smidgen.errors import DataError
from smidgen.tokenizers.bytes import ByteTokenizer
from smidgen.tokenizers.chat import Message

BYTES = ByteTokenizer()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    documents = [Document(text=f"Nr {n}: " + "é tale " * (n % 23)) for n in range(400)]
    config = PrepareConfig(validation_fraction=0.1, shard_symbols=9000)
    return prepare(documents, BYTES, tmp_path_factory.mktemp("corpus"), "s", config)


def same(one, other):
    return all(torch.equal(getattr(one, n), getattr(other, n)) for n in ("ids", "targets", "weights"))


def rows_of(batches):
    return sorted((*row.tolist(), int(t[-1])) for b in batches for row, t in zip(b.ids, b.targets, strict=True))


def test_a_batch_follows_its_documents(corpus):
    batch = PackedStream(corpus.train, BYTES, Layout(48, 5)).batch(3)
    assert batch.ids.shape == batch.targets.shape == batch.weights.shape == (5, 48)
    assert batch.ids.dtype == torch.int64
    assert torch.equal(batch.ids[:, 1:], batch.targets[:, :-1])
    # Behind a boundary comes the boundary of another document, or padding: neither can be predicted.
    after_end = (batch.ids == BYTES.eot_id) & (batch.targets == BYTES.eot_id)
    assert not batch.weights[after_end].any()
    assert batch.bytes_scored == int((batch.weights * (batch.targets < 256)).sum())


def test_batches_need_no_state(corpus):
    layout = Layout(48, 4, micros=2)
    stream, fresh = (PackedStream(corpus.train, BYTES, layout, seed=5) for _ in range(2))
    onward = [micro for step in itertools.islice(stream.batches_from(0), 40) for micro in step]
    assert all(same(onward[2 * step + micro], fresh.batch(step, micro)) for step in (39, 0, 17) for micro in (0, 1))
    resumed = next(fresh.batches_from(23))
    assert same(resumed[1], onward[47])
    assert not same(PackedStream(corpus.train, BYTES, layout, seed=6).batch(0), onward[0])


def test_an_epoch_reads_every_row_once_and_the_next_in_another_order(corpus):
    stream = PackedStream(corpus.train, BYTES, Layout(48, 1))
    rows = stream.index.rows
    first, second = ([stream.batch(epoch * rows + step) for step in range(rows)] for epoch in (0, 1))
    assert rows_of(first) == rows_of(second)
    assert sum(b.bytes_scored for b in first) == corpus.train.text_bytes
    assert not all(same(one, other) for one, other in zip(first, second, strict=True))


def test_ranks_share_the_step_of_one_process(corpus):
    alone = PackedStream(corpus.train, BYTES, Layout(48, 2, micros=6))
    ranks = [PackedStream(corpus.train, BYTES, Layout(48, 2, micros=3, rank=rank, world=2)) for rank in (0, 1)]
    for step in (0, 9, 30):
        together = [rank.batch(step, micro) for rank in ranks for micro in range(3)]
        assert rows_of(together) == rows_of([alone.batch(step, micro) for micro in range(6)])


def test_repetition_is_told_loudly(corpus):
    stream = PackedStream(corpus.train, BYTES, Layout(48, 4))
    steps = stream.index.rows // 4
    assert stream.epochs_at(steps) <= 1
    notes = {step: note for step in range(1, 6 * steps) if (note := stream.repetition_note(step))}
    assert len(notes) == 2
    assert steps < min(notes) <= steps + 2
    assert "repeats" in notes[min(notes)]
    assert "teaches less" in notes[max(notes)]


def test_a_step_larger_than_the_corpus_repeats_it(corpus):
    stream = PackedStream(corpus.train, BYTES, Layout(48, 10))
    stream.layout = Layout(48, 3 * stream.index.rows)
    batch = stream.batch(0)
    assert batch.bytes_scored == 3 * corpus.train.text_bytes


def test_prefetching_changes_nothing_and_stops_with_its_reader(corpus):
    stream = PackedStream(corpus.train, BYTES, Layout(48, 4))
    ahead = stream.batches_from(3, prefetch=2)
    for plain, early in zip(itertools.islice(stream.batches_from(3), 10), ahead, strict=False):
        assert same(plain[0], early[0])
    ahead.close()
    # At once: a thread that computes while the interpreter ends aborts the process (2 of 12 exits did).
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_errors_and_ends_pass_through_the_prefetcher():
    def broken():
        yield 1
        raise DataError("gone")

    assert list(prefetched(lambda: iter(range(9)), 2)) == list(range(9))
    with pytest.raises(DataError, match="gone"):
        list(prefetched(broken, 2))


def test_conversations_teach_the_answers_only():
    talks = [[Message("user", "Hi"), Message("assistant", "Yés")], [Message("assistant", "No")]]
    encoded = [encode_conversation(BYTES, talk) for talk in talks]
    batch = conversation_batch(BYTES, encoded, 64)
    assert batch.ids.shape == (2, 64)
    taught = [BYTES.decode(batch.targets[row][batch.weights[row] > 0].tolist()) for row in (0, 1)]
    assert taught == [" Yés", " No"]
    assert batch.bytes_scored == len(" Yés No".encode())
    assert int(batch.weights.sum()) == 10


def test_conversations_that_teach_nothing_or_do_not_fit_are_refused():
    for talk in ([], [Message("user", "Hi")]):
        with pytest.raises(DataError, match="teaches nothing"):
            encode_conversation(BYTES, talk)
    with pytest.raises(DataError, match="at most 9"):
        conversation_batch(BYTES, [encode_conversation(BYTES, [Message("assistant", "too long")])], 8)


def test_rows_come_from_any_shard(corpus):
    assert len(corpus.manifest.train) > 1
    stream = PackedStream(corpus.train, BYTES, Layout(48, 1))
    text = "".join(BYTES.decode(stream.batch(step).targets[0].tolist()) for step in range(stream.index.rows))
    assert all(f"Nr {BYTES.decode(ids).split()[1]}" in text for ids in corpus.train.documents())
    assert isinstance(corpus.train.read(0, 2), np.ndarray)


def test_answer_weights_touch_exactly_what_assistants_say():
    messages = (Message("user", "assistant\n?"), Message("assistant", "yes"), Message("user", "why"))
    ids = BYTES.encode_with_specials("<|endoftext|>")
    ids += BYTES.encode_with_specials(
        "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in (*messages, Message("assistant", "so")))
    )
    weights = AnswerWeights(BYTES, 5.0).of(np.array([ids, ids[::-1]]))
    marked = [symbol for symbol, weight in zip(ids, weights[0], strict=True) if weight == 5.0]
    end = BYTES.special_id("<|im_end|>")
    assert marked == [*b"yes", end, *b"so", end]
    assert (weights[1] == 1.0).all()
