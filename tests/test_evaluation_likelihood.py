"""Likelihoods: however much is shared and batched, each is that of its pair alone, and nothing is computed twice."""

import json
import random
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_zoo import EVERY_MODEL, randomized, tiny
from smidgen.errors import CheckpointError, ConfigError, DataError, TokenizerError
from smidgen.evaluation.branches import WORTH_SHARING, Run, Span, group_neighbours, grow, into_forwards, plan_batches
from smidgen.evaluation.likelihood import Scorer, _come_first, score_choices, score_spans
from smidgen.inference import prepare_for_decoding
from smidgen.models import LlamaConfig, build_model
from smidgen.tasks.choice import Choice
from smidgen.tokenizers.bpe import BpeConfig, BpeTokenizer, train_bpe
from smidgen.tokenizers.bytes import ByteTokenizer

TEXT = "the cat sat on the mat because the other cat was there and that was that. "
BYTES = LlamaConfig(**(tiny().model_dump() | {"vocab_size": 264}))


def alone(model, span):
    """The likelihood of one span by itself, and whether the model would have said it."""
    with torch.no_grad():
        log_probs = model(torch.tensor([span.read]))[0].log_softmax(-1)
    wanted = torch.tensor(span.ids[1:])
    own = log_probs.gather(1, wanted[:, None])[span.first - 1 :, 0]
    return float(own.double().sum()), bool((log_probs.argmax(-1) == wanted)[span.first - 1 :].all())


def greedy_span(model, context, n):
    ids = list(context)
    with torch.no_grad():
        for _ in range(n):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return Span(tuple(ids), len(context))


def questions(vocab_size, seed=0):
    """Spans that share all kinds of beginnings: prompts, examples before prompts, stems of candidates, everything."""
    draw = random.Random(seed)

    def some(low, high):
        return [draw.randrange(vocab_size) for _ in range(draw.randint(low, high))]

    examples, spans = some(20, 20), []
    for _ in range(6):
        context = examples[: draw.choice([0, 3, 12])] + some(1, 14)
        stem = some(9, 9)
        for number in range(4):
            candidate = (stem if number >= 2 else []) + some(1, 7)
            spans.append(Span(tuple(context + candidate), len(context)))
    spans.append(spans[0])
    spans += [Span(span.ids[:-1], span.first) for span in spans if len(span.ids) > span.first + 1][:3]
    return spans


@pytest.mark.parametrize("name", EVERY_MODEL)
def test_shared_and_batched_equals_one_by_one(name):
    config = EVERY_MODEL[name]
    model = randomized(config)
    spans = questions(config.vocab_size)
    spans.append(greedy_span(model, spans[0].ids[: spans[0].first], 3))
    expected = [alone(model, span) for span in spans]
    assert expected[-1][1]
    for scored, most in ((model, 4096), (prepare_for_decoding(model), 4096), (model, 40)):
        for found, right in zip(score_spans(scored, spans, most), expected, strict=True):
            assert found[0] == pytest.approx(right[0], abs=1e-4)
            assert found[1] == right[1]


def test_bf16_finds_the_same():
    model = randomized(EVERY_MODEL["gqa"])
    spans = questions(97)
    prepared = prepare_for_decoding(model, torch.bfloat16)
    for found, span in zip(score_spans(prepared, spans), spans, strict=True):
        assert found[0] == pytest.approx(alone(model, span)[0], rel=0.02)


def test_what_is_shared_is_computed_once_and_the_head_sees_only_what_is_asked():
    draw = random.Random(1)
    prompts = [tuple(draw.randrange(97) for _ in range(40)) for _ in range(8)]
    spans = [Span((*prompt, *(draw.randrange(97) for _ in range(4))), 40) for prompt in prompts for _ in range(4)]
    counted = Counting(randomized(tiny()))
    score_spans(counted, spans)
    assert counted.symbols == 8 * 40 + 32 * 3  # the last symbol of a candidate is never read
    assert counted.places == 8 + 32 * 3  # the first of all candidates of a question is asked at one place
    counted = Counting(randomized(tiny()))
    score_spans(counted, [Span((*prompt, symbol), 40) for prompt in prompts for symbol in range(10)])
    assert (counted.symbols, counted.places) == (8 * 40, 8)


class Counting:
    """A model that counts what it is asked to compute."""

    def __init__(self, model):
        self.model, self.symbols, self.places = model, 0, 0

    def __getattr__(self, name):
        return getattr(self.model, name)

    def features(self, ids, state=None, rows=None):
        self.symbols += ids.numel()
        return self.model.features(ids, state, rows)

    def logits(self, features):
        self.places += len(features)
        return self.model.logits(features)


SYMBOLS = st.lists(st.integers(0, 2), min_size=2, max_size=40)
SPANS = st.lists(
    SYMBOLS.flatmap(lambda ids: st.integers(1, len(ids) - 1).map(lambda first: Span(tuple(ids), first))), min_size=1
)


@settings(max_examples=200, deadline=None)
@given(SPANS)
def test_runs_read_every_span_and_ask_every_symbol_once(spans):
    runs = grow(spans)
    asked = {}
    for run in runs:
        before = reading(run.parent) if run.parent else ()
        assert run.start == len(before)
        assert run.parent is None or len(run.parent.ids) >= WORTH_SHARING
        for place, asks in run.asks.items():
            for symbol, index in asks:
                at = run.start + place + 1
                assert (before + run.ids)[:at] == spans[index].ids[:at]
                assert asked.setdefault((index, at), symbol) == spans[index].ids[at]
    assert len(asked) == sum(len(span.ids) - span.first for span in spans)
    assert sum(len(asks) for run in runs for asks in run.asks.values()) == len(asked)


def reading(run: Run) -> tuple[int, ...]:
    return (reading(run.parent) if run.parent else ()) + run.ids


@settings(max_examples=100, deadline=None)
@given(SPANS, st.integers(1, 60))
def test_forwards_run_parents_first_and_rows_hold_one_branch_each(spans, most):
    runs = grow(spans)
    forwards = into_forwards(runs, most)
    order = [run for forward in forwards for run in forward]
    assert sorted(map(id, order)) == sorted(map(id, runs))
    for forward in forwards:
        assert len({run.depth for run in forward}) == 1
        assert len(forward[0].ids) == max(len(run.ids) for run in forward)
        assert len({run.row for run in forward}) == len(forward) or forward[0].row < 0
        assert len(forward) == 1 or len(forward) * max(len(run.ids) for run in forward) <= most
    assert all(order.index(run.parent) < order.index(run) for run in runs if run.parent)
    kept = [run.row for run in order if run.children]
    assert kept == list(range(len(kept)))
    assert all(run.row >= len(kept) if kept else run.row == -1 for run in order if not run.children)


@settings(max_examples=100, deadline=None)
@given(SPANS, st.integers(1, 100), st.integers(40, 200), st.integers(1, 8))
def test_batches_hold_every_span_once_within_memory(spans, most, memory, at_once):
    for groups in (group_neighbours(spans, most), [[i] for i in range(len(spans))], [list(range(len(spans)))]):
        batches = plan_batches(spans, groups, most, memory, at_once)
        assert sorted(i for batch in batches for i in batch) == list(range(len(spans)))
        assert all(len(batch) * max(len(spans[i].ids) for i in batch) <= memory for batch in batches)


def test_examples_that_all_prompts_begin_with_are_read_once_a_batch():
    draw = random.Random(2)
    examples = tuple(draw.randrange(97) for _ in range(300))
    spans = []
    for _ in range(6):
        prompt = (*examples, *(draw.randrange(97) for _ in range(20)))
        spans += [Span((*prompt, *(draw.randrange(97) for _ in range(5))), 320) for _ in range(4)]
    [batch] = plan_batches(spans, group_neighbours(spans, 4096), 4096, 1 << 20)
    assert sum(len(run.ids) for run in grow([spans[i] for i in batch])) == 300 + 6 * 20 + 24 * 4


@pytest.mark.parametrize(("prompt", "items"), [(0, 40), (100, 40), (800, 100), (1500, 20)])
@pytest.mark.parametrize("at_once", [2, 8])
def test_batches_for_several_threads_are_worth_it(prompt, items, at_once):
    spans, groups = [], []
    for item in range(items):
        question = (*range(100, 100 + prompt), *[1000 + item] * (40 + item % 40))
        groups.append(list(range(len(spans), len(spans) + 4)))
        spans += [Span((*question, *[n] * 5), len(question)) for n in range(4)]

    def waits(batches):
        loads = [0] * at_once
        for batch in batches:
            loads[loads.index(min(loads))] += sum(len(run.ids) for run in grow([spans[i] for i in batch]))
        return max(loads)

    alone, together = (plan_batches(spans, groups, 4096, 1 << 20, n) for n in (1, at_once))
    assert waits(together) <= waits(alone)
    if not prompt:
        assert waits(together) < 1.4 * waits(alone[:1]) / min(at_once, len(together))


def bpe() -> BpeTokenizer:
    return train_bpe([TEXT * 20], BpeConfig(vocab_size=300))[0]


PAIRS = [
    ("the cat", " sat"),
    ("the cat ", "sat"),
    ("the c", "at sat there and that"),
    ("the cat\n\n", " was"),
    ("", "the mat"),
    ("a", "b"),
]


def test_pairs_are_encoded_as_the_harness_does():
    api = pytest.importorskip("lm_eval.api.model")
    tokenizer = bpe()
    scorer = Scorer(build_model(LlamaConfig(**(tiny().model_dump() | {"vocab_size": 300}))), tokenizer)
    peer = SimpleNamespace(backend="causal", tok_encode=lambda text: [tokenizer.bos_id, *tokenizer.encode(text)])
    for pair in PAIRS:
        [encoded] = scorer.encode([Choice(*pair)])
        if pair[0]:
            before, after = api.TemplateLM._encode_pair(peer, *pair)
        else:
            before, after = [tokenizer.bos_id], tokenizer.encode(pair[1])
        assert encoded.span == Span((*before, *after), len(before)), pair


def test_a_tokenizer_that_puts_nothing_before_a_text_gets_nothing_there():
    trained = bpe()
    fields = json.loads(trained._definition) | {"post_processor": None}
    plain = BpeTokenizer(json.dumps(fields), {"bos_token": "<|im_start|>"})
    scorer = Scorer(build_model(LlamaConfig(**(tiny().model_dump() | {"vocab_size": 300}))), plain)
    behind, first = scorer.encode([Choice("the cat", " sat"), Choice("", " sat")])
    assert behind.span.ids == tuple(plain.encode("the cat sat"))
    assert first.span == Span((plain.special_id("<|im_start|>"), *plain.encode(" sat")), 1)
    assert scorer.protocol["begins_with"] is None
    assert scorer.protocol["empty_context"] == plain.special_id("<|im_start|>")


def test_what_is_too_long_loses_its_beginning_and_says_so():
    model, tokenizer = build_model(BYTES), ByteTokenizer()
    whole, cut = score_choices(
        model, tokenizer, [Choice("abcdefgh", "ij"), Choice("x" * 30 + "abcdefgh", "ij")], max_len=9
    )
    assert (whole.cut, cut.cut) == (1, 31)  # the document boundary goes first, too
    assert whole.nats == cut.nats
    assert (cut.symbols, cut.bytes) == (2, 2)
    assert score_choices(model, tokenizer, [Choice("a", "é" * 4)], max_len=8)[0].bytes == 8
    with pytest.raises(DataError, match=r"continuation of 10 symbols does not fit a context of 8"):
        score_choices(model, tokenizer, [Choice("a", "0123456789")], max_len=8)


def test_order_and_progress_do_not_depend_on_batches():
    model, tokenizer = build_model(BYTES), ByteTokenizer()
    pairs = [Choice(f"item {n % 3} of all", " answer" + "x" * (n % 5)) for n in range(20)]
    told = []
    found = score_choices(model, tokenizer, pairs, batch_symbols=64, progress=lambda *done: told.append(done))
    assert told[-1] == (20, 20)
    assert len(told) > 2
    for one, pair in zip(found, pairs, strict=True):
        assert one.nats == pytest.approx(score_choices(model, tokenizer, [pair])[0].nats, abs=1e-4)
    assert score_choices(model, tokenizer, []) == []


def test_threads_of_their_own_find_what_one_finds_and_leave_no_trace():
    model, tokenizer = build_model(BYTES).train(), ByteTokenizer()
    pairs = [Choice(f"item {n} of all, which has {n * n} words", " answer" + "x" * (n % 5)) for n in range(40)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = score_choices(model, tokenizer, pairs, batch_symbols=64)
        torch.set_num_threads(3)
        together = score_choices(model, tokenizer, pairs, batch_symbols=64)
        assert torch.get_num_threads() == 3
        assert model.training
        with pytest.raises(DataError, match="does not fit"):
            score_choices(model, tokenizer, [*pairs, Choice("a", "0123456789")], max_len=8)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    for one, other in zip(alone, together, strict=True):
        assert one.nats == pytest.approx(other.nats, abs=1e-4)


def test_bad_input_is_one_line():
    model, tokenizer = build_model(BYTES), ByteTokenizer()
    with pytest.raises(DataError, match="adds no symbol"):
        score_choices(model, tokenizer, [Choice("a context", "")])
    with pytest.raises(ConfigError, match="can score nothing"):
        Scorer(model, tokenizer, max_len=0)
    with pytest.raises(TokenizerError, match="do not belong together"):
        Scorer(build_model(tiny()), tokenizer)
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="NaN"):
        score_choices(model, tokenizer, [Choice("a", "b")])


def test_scoring_leaves_the_model_as_it_was():
    model = build_model(BYTES).train()
    score_choices(model, ByteTokenizer(), [Choice("a", "b")])
    assert model.training


def test_of_equal_likeliest_symbols_the_first_is_the_likeliest():
    draw = torch.Generator().manual_seed(0)
    log_probs = torch.randint(0, 4, (200, 6), generator=draw).float()
    likeliest = torch.stack([(row == row.max()).nonzero().flatten()[k % 2 - 1] for k, row in enumerate(log_probs)])
    expected = log_probs.argmax(-1) == likeliest
    assert 0 < expected.sum() < 200
    assert torch.equal(_come_first(log_probs.clone(), likeliest), expected)
