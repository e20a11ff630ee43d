import json
import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.config import validate_config
from smidgen.errors import ConfigError, DataError, TokenizerError
from smidgen.tokenizers.base import SPECIAL_SYMBOLS
from smidgen.tokenizers.bpe import BpeConfig, BpeTokenizer, train_bpe
from smidgen.tokenizers.bytes import ByteTokenizer, text_bytes
from smidgen.tokenizers.loading import load_tokenizer
from smidgen.tokenizers.stream import TextStream

WORDS = ["the", "a", "cat", "dog", "house", "river", "said", "little", "red", "12", "1234", "3.14", "don't", "we'll"]
ODD = ["Été", "東京", "naïve\n", "\t", "—", "🙂"]


@cache
def bpe() -> BpeTokenizer:
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS + ODD, k=200)) for _ in range(50)]
    return train_bpe(texts, BpeConfig(vocab_size=320))[0]


@cache
def sentencepiece() -> BpeTokenizer:
    """A miniature of Llama 2's vocabulary: ▁ for spaces, bytes as <0xNN>, a space put before every text."""
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        "a",
        "b",
        "c",
        "▁a",
        "ab",
        "▁ab",
    ]
    added = [
        {
            "id": n,
            "content": pieces[n],
            "special": True,
            "normalized": False,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
        }
        for n in range(3)
    ]
    definition = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
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
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {piece: number for number, piece in enumerate(pieces)},
            "merges": ["▁ a", "a b", "▁ ab", "▁a b"],
        },
    }
    return BpeTokenizer(json.dumps(definition), {"bos_token": "<s>", "eos_token": {"content": "</s>"}})


ALL = {"bytes": ByteTokenizer, "bpe": bpe, "sentencepiece": sentencepiece}
any_text = st.text() | st.lists(
    st.sampled_from([*WORDS, *ODD, *SPECIAL_SYMBOLS, "\0", "\r\n", "</s>", "<0x41>", "▁"])
).map("".join)


@pytest.fixture(params=ALL)
def tokenizer(request):
    return ALL[request.param]()


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=150, deadline=None)
@given(text=any_text)
def test_any_text_comes_back_with_specials_as_plain_text(name, text):
    tokenizer = ALL[name]()
    ids = tokenizer.encode(text)
    if name != "sentencepiece" or "▁" not in text:  # a sentencepiece vocabulary cannot tell ▁ from a space
        assert tokenizer.decode(ids) == text
        assert sum(tokenizer.symbol_bytes()[i] for i in ids) == len((tokenizer.text_prefix if text else "") + text) + (
            len(text.encode()) - len(text)
        )
        assert tokenizer.decode_bytes(tokenizer.encode_continuation(text)) == text.encode()
    assert not tokenizer.special_ids & set(ids)
    assert tokenizer.encode_batch([text, text]) == [ids, ids]


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=150, deadline=None)
@given(data=st.binary())
def test_any_bytes_come_back(name, data):
    tokenizer = ALL[name]()
    ids = tokenizer.encode_continuation(data.decode("utf-8", "surrogateescape"))
    if "▁".encode() not in data or name != "sentencepiece":
        assert tokenizer.decode_bytes(ids) == data


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1 << 32), size=st.integers(0, 40))
def test_streaming_gives_the_same_text_in_whole_characters(name, seed, size):
    tokenizer = ALL[name]()
    draw = random.Random(seed)
    ids = [draw.randrange(tokenizer.vocab_size) for _ in range(size)]
    stream = TextStream(tokenizer)
    pieces = [stream.feed([i]) for i in ids] + [stream.finish()]
    assert "".join(pieces) == tokenizer.decode_bytes(ids).decode(errors="replace")


def test_streaming_waits_for_the_whole_character():
    stream = TextStream(ByteTokenizer())
    assert [stream.feed([byte]) for byte in "é🙂".encode()] == ["", "é", "", "", "", "🙂"]
    assert stream.feed([0xF0]) == ""
    assert stream.finish() == "\ufffd"


def test_lone_surrogates_become_bytes_or_the_replacement_character(tokenizer):
    assert text_bytes("a\udcffb\ud800") == b"a\xffb\xef\xbf\xbd"
    assert tokenizer.decode_bytes(tokenizer.encode_continuation("a\udcffb\ud800")) == b"a\xffb\xef\xbf\xbd"
    assert tokenizer.encode_batch(["a\udcff"]) == [tokenizer.encode("a\udcff")]


def test_specials_are_symbols_only_where_they_are_meant():
    for tokenizer in (bpe(), ByteTokenizer()):
        text = "a<|im_end|>b"
        assert tokenizer.special_id("<|im_end|>") in tokenizer.encode_with_specials(text)
        assert tokenizer.decode(tokenizer.encode_with_specials(text)) == "ab"
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_trained_ids_are_specials_then_bytes_then_merges():
    tokenizer = bpe()
    assert [tokenizer.special_id(symbol) for symbol in SPECIAL_SYMBOLS] == list(range(8))
    assert sorted(tokenizer.decode_bytes([i]) for i in range(8, 264)) == [bytes([byte]) for byte in range(256)]
    assert tokenizer.vocab_size == 320
    assert tokenizer.eot_id == tokenizer.bos_id == 0
    assert tokenizer.stop_ids == {0, 2}


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_digits_never_share_a_symbol_beyond_the_limit(digits):
    tokenizer, _ = train_bpe(["123 1234 12345 " * 50], BpeConfig(vocab_size=300, max_digits=digits))
    longest = max(len(tokenizer.decode_bytes([i])) for i in tokenizer.encode("1234512345"))
    assert longest == digits


def test_a_small_corpus_gives_the_vocabulary_it_holds_and_says_so():
    tokenizer, notes = train_bpe(["aaaa aaaa"], BpeConfig(vocab_size=5000))
    assert 264 < tokenizer.vocab_size < 280
    assert len(notes) == 1
    assert "5000" in notes[0]
    with pytest.raises(DataError, match="no text"):
        train_bpe([], BpeConfig())
    with pytest.raises(ConfigError, match="264"):
        validate_config({"vocab_size": 100}, BpeConfig, "test")


def test_save_and_load_change_nothing(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert type(again) is type(tokenizer)
    assert again.fingerprint() == tokenizer.fingerprint()
    for name in (
        "vocab_size",
        "eot_id",
        "bos_id",
        "puts_bos",
        "stop_ids",
        "special_ids",
        "chat_template",
        "template_symbols",
        "text_prefix",
    ):
        assert getattr(again, name) == getattr(tokenizer, name), name
    assert again.encode("a b c <|im_end|>") == tokenizer.encode("a b c <|im_end|>")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_fingerprints_tell_vocabularies_apart():
    other, _ = train_bpe(["b c b c"], BpeConfig(vocab_size=300))
    assert len({other.fingerprint(), bpe().fingerprint(), ByteTokenizer().fingerprint()}) == 3


def test_transformers_reads_what_we_write(tmp_path):
    transformers = pytest.importorskip("transformers")
    text = "the cat — 1234\n\n <|im_end|>x 🙂"
    for name, tokenizer in (("bpe", bpe()), ("bytes", ByteTokenizer())):
        tokenizer.save(tmp_path / name)
        peer = transformers.AutoTokenizer.from_pretrained(tmp_path / name)
        assert peer(text, add_special_tokens=False)["input_ids"] == tokenizer.encode_with_specials(text)
        assert peer(text)["input_ids"] == [tokenizer.bos_id, *tokenizer.encode_with_specials(text)]
        assert peer.decode(tokenizer.encode("the cat — 1234")) == "the cat — 1234"
        assert (peer.eos_token_id, peer.pad_token) == (tokenizer.eot_id, "<|pad|>")


def test_sentencepiece_roles_and_prefix():
    tokenizer = sentencepiece()
    assert (tokenizer.bos_id, tokenizer.eot_id, tokenizer.stop_ids) == (1, 2, {2})
    assert tokenizer.decode_bytes(tokenizer.encode("ab")) == b" ab"
    assert tokenizer.decode_bytes(tokenizer.encode_continuation("ab")) == b"ab"


def test_stop_ids_come_from_every_file_that_names_them(tmp_path):
    bpe().save(tmp_path)
    fields = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del fields["stop_symbols"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(fields))
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [0, 7]}')
    (tmp_path / "config.json").write_text('{"eos_token_id": 3}')
    assert load_tokenizer(tmp_path).stop_ids == {0, 2, 3, 7}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model": {"type": "WordPiece", "vocab": {"a": 0}}}'])
def test_damaged_files_are_one_clear_error(content, tmp_path):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_missing_files_and_symbols_are_named(tmp_path):
    with pytest.raises(TokenizerError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
    for tokenizer in (bpe(), ByteTokenizer()):
        with pytest.raises(TokenizerError, match="nope"):
            tokenizer.special_id("nope")
        with pytest.raises(TokenizerError, match="outside"):
            tokenizer.decode([1_000_000])
