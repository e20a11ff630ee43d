"""Bytes with token ends between them: any text comes back, ends are paid for, files say what they are."""

import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.errors import ConfigError, TokenizerError
from smidgen.recipe import recipe_from
from smidgen.tokenizers.bpe import BpeConfig, train_bpe
from smidgen.tokenizers.bytes import ByteTokenizer, text_bytes
from smidgen.tokenizers.bytes_bpe import BytesBpeConfig, BytesBpeTokenizer, train_bytes_bpe
from smidgen.tokenizers.chat import Message, encode_chat
from smidgen.tokenizers.loading import load_tokenizer

WORDS = ["the", "little", "house", "river", "said", "Été", "東京", "12", "\n"]


def texts() -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=100)) for _ in range(30)]


@cache
def made() -> BytesBpeTokenizer:
    return train_bytes_bpe(texts(), BytesBpeConfig(tokens=320))[0]


@given(st.text(st.characters(exclude_categories=[])))
@settings(max_examples=60, deadline=None)
def test_any_text_comes_back(text):
    tokenizer = made()
    ids = tokenizer.encode(text)
    assert tokenizer.decode_bytes(ids) == text_bytes(text)
    assert tokenizer.encode_batch([text, text]) == [ids, ids]
    widths = tokenizer.symbol_bytes()
    assert sum(widths[number] for number in ids) == len(text_bytes(text))


def test_patches_are_the_tokens():
    tokenizer, (bpe, _) = made(), train_bpe(texts(), BpeConfig(vocab_size=320))
    text = "the little river said 12 東京"
    patches = bytes(n if n < 256 else 0 for n in tokenizer.encode(text)).split(b"\0")[:-1]
    assert patches == [bpe.decode_bytes([number]) for number in bpe.encode(text)]
    assert len(tokenizer.symbol_bytes()) == tokenizer.vocab_size == 265


def test_an_end_is_paid_for_as_part_of_the_text():
    assert made().end_id not in made().special_ids
    assert made().symbol_bytes()[made().end_id] == 0


def test_saved_and_loaded(tmp_path):
    made().save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert isinstance(loaded, BytesBpeTokenizer)
    assert loaded.fingerprint() == made().fingerprint() != ByteTokenizer().fingerprint()
    assert loaded.encode("the house") == made().encode("the house")
    loaded.save(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").fingerprint() == made().fingerprint()


def test_a_conversation_is_that_of_bytes_with_ends():
    messages = [Message("user", "the <|im_end|> house"), Message("assistant", "said")]
    ends = [number for number in encode_chat(made(), messages, True) if number != made().end_id]
    assert ends == encode_chat(ByteTokenizer(), messages, True)


def test_an_id_outside_is_refused():
    with pytest.raises(TokenizerError, match="id 265"):
        made().decode_bytes([1, 265])


def test_recipes_that_mix_symbols_up_are_refused():
    def refuse(message: str, **tables: dict) -> None:
        with pytest.raises(ConfigError, match=message):
            recipe_from(tables, "test")

    refuse("set tokenizer.type to bytes", model={"type": "bytepatch"}, tokenizer={"type": "bpe", "vocab_size": 264})
    symbol = {"type": "bytepatch", "patcher": {"type": "symbol"}}
    refuse("set vocab_size to 265", model=symbol, tokenizer={"type": "bytes"})
    whole = recipe_from({"model": symbol | {"vocab_size": 265}, "tokenizer": {"type": "bytes_bpe"}}, "test")
    assert whole.model.patcher.type == "symbol"
