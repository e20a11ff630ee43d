"""Bits per byte: the bytes are the text's, every symbol is paid once, and the protocol decides only what is seen."""

import json
import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from smidgen.config import Config
from smidgen.errors import DataError, TokenizerError
from smidgen.evaluation.bits_per_byte import Measured, Protocol, bits_per_byte, bits_per_byte_of_symbols
from smidgen.evaluation.windows import UNSCORED, ScoredSequence, batch_windows, cut_windows
from smidgen.models import LlamaConfig, build_model
from smidgen.models.attention import AttentionConfig
from smidgen.models.stack import StackConfig
from smidgen.tokenizers.bpe import BpeConfig, BpeTokenizer, train_bpe
from smidgen.tokenizers.bytes import ByteTokenizer, text_bytes

TEXTS = ["The fox ran home. " * 9, "a", "", "Ünïcode 東京 🦊\r\n\ttabs", "The fox ran home because it was cold. " * 3]
PROTOCOLS = [
    Protocol(context=8, stride=3),
    Protocol(context=8, stride=8),
    Protocol(context=1000, stride=1000),
    Protocol(context=16, stride=1, isolate_documents=False),
    Protocol(context=16, stride=5, start_with_bos=False),
]


class FixedConfig(Config):
    vocab_size: int
    max_seq_len: int = 32


class FixedModel(nn.Module):
    """Knows symbol frequencies and no context: what a window shows it cannot matter."""

    compute_dtype = None

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.config = FixedConfig(vocab_size=len(logits))
        self.prior = nn.Parameter(logits)

    def features(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*ids.shape, 1)

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        return self.prior.expand(*features.shape[:-1], -1)


@cache
def byte_level_bpe() -> BpeTokenizer:
    return train_bpe(TEXTS * 5, BpeConfig(vocab_size=320))[0]


@cache
def byte_fallback() -> BpeTokenizer:
    """A sentencepiece-like vocabulary: pieces with a space marker, everything else as <0x..> bytes."""
    pieces = ["<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "f", "o", "x", "fo", "fox", "▁fox", "h"]
    fields = {
        "added_tokens": [
            {"id": i, "content": pieces[i], "special": True, "single_word": False}
            | {"lstrip": False, "rstrip": False, "normalized": False}
            for i in (0, 1)
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "fuse_unk": True,
            "unk_token": None,
            "vocab": {piece: i for i, piece in enumerate(pieces)},
            "merges": ["f o", "fo x", "▁ fox"],
        },
    }
    return BpeTokenizer(json.dumps(fields), {"eos_token": "</s>", "bos_token": "<s>"})


TOKENIZERS = {"bytes": ByteTokenizer, "bpe": byte_level_bpe, "fallback": byte_fallback}


def tiny_llama(vocab_size: int) -> nn.Module:
    attention = AttentionConfig(n_heads=2, n_kv_heads=1)
    stack = StackConfig(d_model=32, layers=(0, 1), attention=attention)
    return build_model(LlamaConfig(vocab_size=vocab_size, max_seq_len=32, stack=stack), seed=1)


def uniform(vocab_size: int) -> FixedModel:
    return FixedModel(torch.zeros(vocab_size))


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=5))
def test_bytes_are_the_texts_and_a_uniform_model_pays_exactly_log_v(kind: str, texts: list[str]) -> None:
    tokenizer = TOKENIZERS[kind]()
    if not any(texts):
        return
    measured = bits_per_byte(uniform(tokenizer.vocab_size), tokenizer, texts, Protocol(context=7, stride=3))
    assert measured.bytes == sum(len(text_bytes(text)) for text in texts)
    assert measured.symbols == sum(len(tokenizer.encode(text)) for text in texts if text)
    assert measured.documents == sum(1 for text in texts if text)
    wanted = measured.symbols * math.log2(tokenizer.vocab_size) / measured.bytes
    assert measured.bits_per_byte == pytest.approx(wanted, rel=1e-6)
    assert measured.mark_nats == pytest.approx(measured.documents * math.log(tokenizer.vocab_size), rel=1e-6)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_what_a_window_shows_does_not_matter_to_a_model_without_context(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    model = FixedModel(torch.randn(tokenizer.vocab_size, generator=torch.Generator().manual_seed(0)))
    numbers = [bits_per_byte(model, tokenizer, TEXTS, p, batch_symbols=40) for p in PROTOCOLS if p.start_with_bos]
    assert all(n.bits_per_byte == pytest.approx(numbers[0].bits_per_byte, rel=1e-6) for n in numbers)
    assert all(n.mark_nats == pytest.approx(numbers[0].mark_nats, rel=1e-6) for n in numbers)


def test_short_documents_cost_what_one_plain_forward_says() -> None:
    tokenizer = byte_level_bpe()
    model = tiny_llama(tokenizer.vocab_size)
    text_nats = mark_nats = 0.0
    for text in filter(None, TEXTS):
        ids = torch.tensor([[tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eot_id]])
        losses = nn.functional.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:], reduction="none").double()
        text_nats, mark_nats = text_nats + losses[:-1].sum().item(), mark_nats + losses[-1].item()
    measured = bits_per_byte(model, tokenizer, TEXTS, Protocol(context=1000, stride=10), batch_symbols=100)
    assert measured.nll_nats == pytest.approx(text_nats, rel=1e-5)
    assert measured.mark_nats == pytest.approx(mark_nats, rel=1e-5)


def test_a_strided_window_sees_exactly_the_history_it_promises() -> None:
    model = tiny_llama(264)
    text = "abcdefghijklmnopqrstuvwxyz" * 2
    ids = [256, *text.encode(), 256]
    context, stride = 10, 4
    nats, fresh = 0.0, 1
    while fresh < len(ids):
        end = min(len(ids), context + 1 if fresh == 1 else fresh + stride)
        start = max(0, end - 1 - context)
        logits = model(torch.tensor([ids[start : end - 1]]))[0]
        scored = nn.functional.cross_entropy(logits, torch.tensor(ids[start + 1 : end]), reduction="none").double()
        nats += scored[fresh - start - 1 :].sum().item()
        fresh = end
    measured = bits_per_byte(model, ByteTokenizer(), [text], Protocol(context=context, stride=stride))
    assert measured.nll_nats + measured.mark_nats == pytest.approx(nats, rel=1e-5)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
def test_buffers_and_batches_change_nothing(protocol: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_llama(264)
    whole = bits_per_byte(model, ByteTokenizer(), TEXTS, protocol)
    if protocol.isolate_documents:  # a stream is cut into windows anew at every buffer, so its windows may differ
        monkeypatch.setattr("smidgen.evaluation.bits_per_byte._BUFFER_SYMBOLS", 1)
        monkeypatch.setattr("smidgen.evaluation.bits_per_byte._GROUP_CHARACTERS", 1)
    monkeypatch.setattr("smidgen.evaluation.bits_per_byte._HEAD_NUMBERS", 1)
    pieces = bits_per_byte(model, ByteTokenizer(), iter(TEXTS), protocol, batch_symbols=1)
    assert pieces.bits_per_byte == pytest.approx(whole.bits_per_byte, rel=1e-5)
    assert pieces.standard_error == pytest.approx(whole.standard_error, rel=1e-3)
    assert (pieces.bytes, pieces.symbols, pieces.documents) == (whole.bytes, whole.symbols, whole.documents)


def test_a_stream_over_buffers_still_scores_every_symbol_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smidgen.evaluation.bits_per_byte._BUFFER_SYMBOLS", 1)
    measured = bits_per_byte(uniform(264), ByteTokenizer(), TEXTS, PROTOCOLS[3])
    assert measured.nll_nats == pytest.approx(measured.symbols * math.log(264), rel=1e-6)


@settings(max_examples=200, deadline=None)
@given(length=st.integers(1, 60), context=st.integers(1, 20), stride=st.integers(1, 20), first=st.integers(1, 60))
def test_windows_score_every_target_once_with_enough_history(length, context, stride, first) -> None:
    stride = min(stride, context)
    accounts = torch.arange(length).numpy()
    sequence = ScoredSequence(torch.arange(length).numpy(), accounts, first=min(first, length))
    windows = list(cut_windows(sequence, context, stride))
    scored = [target for window in windows for target in range(window.fresh, window.end)]
    assert scored == list(range(sequence.first, length))
    for window in windows:
        assert window.end - 1 - window.start <= context
        assert window.fresh - window.start >= min(window.fresh, context - stride + 1)
    batches = list(batch_windows(windows, batch_symbols=30))
    seen = torch.cat([batch.targets[batch.accounts != UNSCORED] for batch in batches]) if batches else torch.zeros(0)
    assert sorted(seen.tolist()) == list(range(sequence.first, length))
    assert all((batch.targets - batch.ids)[batch.accounts != UNSCORED].eq(1).all() for batch in batches)


def test_symbols_cost_what_their_text_costs_and_marks_are_kept_apart() -> None:
    tokenizer = byte_level_bpe()
    model = tiny_llama(tokenizer.vocab_size)
    encoded = [tokenizer.encode(text) for text in TEXTS]
    assert bits_per_byte_of_symbols(model, tokenizer, encoded) == bits_per_byte(model, tokenizer, TEXTS)
    turn = tokenizer.encode_with_specials("<|im_start|>user\nhi<|im_end|>\n")
    measured = bits_per_byte_of_symbols(uniform(tokenizer.vocab_size), tokenizer, [turn])
    assert measured.bytes == len("user\nhi\n")
    assert measured.symbols == len(turn) - 2
    assert measured.mark_nats == pytest.approx(3 * math.log(tokenizer.vocab_size))


def test_the_standard_error_is_that_of_documents_drawn_at_random() -> None:
    model = FixedModel(torch.randn(264, generator=torch.Generator().manual_seed(3)))
    draw = torch.Generator().manual_seed(4)
    lengths = torch.randint(5, 60, (4000,), generator=draw)
    texts = ["".join(chr(97 + int(c)) for c in torch.randint(0, 26, (int(n),), generator=draw)) for n in lengths]
    samples = [bits_per_byte(model, ByteTokenizer(), texts[i : i + 100]) for i in range(0, 4000, 100)]
    spread = torch.tensor([measured.bits_per_byte for measured in samples]).std().item()
    claimed = sum(measured.standard_error or 0 for measured in samples) / len(samples)
    assert claimed == pytest.approx(spread, rel=0.3)
    assert bits_per_byte(model, ByteTokenizer(), ["one"]).standard_error is None


def test_the_protocol_is_stored_beside_the_number_and_reads_back() -> None:
    protocol = Protocol(context=9, stride=2)
    stored = bits_per_byte(uniform(264), ByteTokenizer(), ["hello"], protocol).as_dict()
    assert Protocol(**stored["protocol"]) == protocol
    derived = bits_per_byte(uniform(264), ByteTokenizer(), ["hello"]).protocol
    assert (derived.context, derived.stride) == (32, 16)


def test_a_first_symbol_without_context_is_charged_as_a_guess() -> None:
    model = FixedModel(torch.randn(264, generator=torch.Generator().manual_seed(0)))
    told = bits_per_byte(model, ByteTokenizer(), ["ab"])
    guessed = bits_per_byte(model, ByteTokenizer(), ["ab"], Protocol(start_with_bos=False))
    first = nn.functional.cross_entropy(model.prior[None], torch.tensor([ord("a")])).item()
    assert guessed.nll_nats == pytest.approx(told.nll_nats - first + math.log(264), rel=1e-5)


class LossyTokenizer(ByteTokenizer):
    def encode_batch(self, texts):
        return [list(text_bytes(text.lower())) for text in texts]


class MiscountingTokenizer(ByteTokenizer):
    def symbol_bytes(self) -> list[int]:
        return [2] * self.vocab_size


def test_a_tokenizer_that_loses_or_miscounts_bytes_is_refused() -> None:
    with pytest.raises(TokenizerError, match=r"differ .* b'Two'"):
        bits_per_byte(uniform(264), LossyTokenizer(), ["one", "Two"])
    with pytest.raises(TokenizerError, match="counts 6 bytes where the text has 3"):
        bits_per_byte(uniform(264), MiscountingTokenizer(), ["one"])


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(TokenizerError, match="do not belong together"):
        bits_per_byte(uniform(100), ByteTokenizer(), ["one"])
    with pytest.raises(DataError, match="no text"):
        bits_per_byte(uniform(264), ByteTokenizer(), ["", ""])
    with pytest.raises(ValueError, match="stride"):
        Protocol(context=4, stride=5)


def test_the_model_is_left_as_it_was_and_no_gradient_is_kept() -> None:
    model = tiny_llama(264)
    for mode in (True, False):
        model.train(mode)
        measured = bits_per_byte(model, ByteTokenizer(), ["hello there"])
        assert model.training is mode
        assert isinstance(measured, Measured)
    assert all(weight.grad is None for weight in model.parameters())
