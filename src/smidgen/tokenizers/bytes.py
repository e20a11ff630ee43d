"""Text to bytes, one policy for the whole house; and the tokenizer whose symbols are those bytes.

A Python string can hold what UTF-8 cannot: lone surrogates. U+DC80..U+DCFF stand for raw bytes that were not UTF-8
(PEP 383, `data.decode("utf-8", "surrogateescape")`) and become those bytes again, so that any bytes can be encoded;
every other lone surrogate is no character at all and becomes U+FFFD.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from smidgen.config import Config
from smidgen.errors import TokenizerError
from smidgen.tokenizers.base import SPECIAL_SYMBOLS
from smidgen.tokenizers.chat import CHATML, HF_CONFIG
from smidgen.tokenizers.vocabulary import BYTE_CHARACTERS, write_tokenizer_files

_NO_CHARACTER = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_SPECIALS = re.compile("(" + "|".join(map(re.escape, SPECIAL_SYMBOLS)) + ")")


def text_bytes(text: str) -> bytes:
    """Return the UTF-8 bytes of a text, which for any ordinary text is `text.encode()`."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _NO_CHARACTER.sub("\ufffd", text).encode("utf-8", "surrogateescape")


class ByteConfig(Config):
    """Bytes as symbols: nothing to train, 264 ids."""

    type: Literal["bytes"] = "bytes"
    """Tells this choice from `bpe`."""
    vocab_size: Literal[264] = 264
    """256 bytes and 8 special symbols."""


class ByteTokenizer:
    """Ids 0..255 are the bytes, 256..263 the special symbols. See `base.Tokenizer`."""

    vocab_size = 256 + len(SPECIAL_SYMBOLS)
    eot_id = bos_id = 256
    puts_bos = True
    stop_ids = frozenset({256, 256 + SPECIAL_SYMBOLS.index("<|im_end|>")})
    special_ids = frozenset(range(256, 256 + len(SPECIAL_SYMBOLS)))
    chat_template: str | None = CHATML
    template_symbols: Mapping[str, str] = {k: v for k, v in HF_CONFIG.items() if k.endswith("_token")}
    text_prefix = ""

    def encode(self, text: str) -> list[int]:
        """Return the bytes of the text."""
        return list(text_bytes(text))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the bytes of each text."""
        return [list(text_bytes(text)) for text in texts]

    def encode_continuation(self, text: str) -> list[int]:
        """Return the bytes of the text."""
        return list(text_bytes(text))

    def encode_with_specials(self, text: str) -> list[int]:
        """Return the bytes of the text, and the ids of special symbols where they are spelled out."""
        ids: list[int] = []
        for part in _SPECIALS.split(text):
            ids += [self.special_id(part)] if part in SPECIAL_SYMBOLS else text_bytes(part)
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes; specials contribute nothing."""
        return bytes_among(ids, self.vocab_size)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")

    def symbol_bytes(self) -> list[int]:
        """Return 1 for every byte, 0 for every special."""
        return [1] * 256 + [0] * len(SPECIAL_SYMBOLS)

    def special_id(self, symbol: str) -> int:
        """Return 256 and up. Raises TokenizerError for anything else."""
        if symbol not in SPECIAL_SYMBOLS:
            raise TokenizerError(f"{symbol!r} is not a special symbol of the byte vocabulary.")
        return 256 + SPECIAL_SYMBOLS.index(symbol)

    def save(self, directory: Path) -> None:
        """Write it as a byte-level BPE without merges, which every reader of `tokenizer.json` understands."""
        write_tokenizer_files(directory, json.dumps(byte_definition()), HF_CONFIG)

    def fingerprint(self) -> str:
        """Return the sha256 of the kind and its special symbols."""
        return hashlib.sha256(f"bytes {SPECIAL_SYMBOLS}".encode()).hexdigest()


def bytes_among(ids: Iterable[int], vocab_size: int) -> bytes:
    """Return the bytes among ids; those from 256 on stand for none. Raises TokenizerError outside the vocabulary."""
    ids = list(ids)
    if ids and not 0 <= min(ids) <= max(ids) < vocab_size:
        raise TokenizerError(f"id {max(ids)} or {min(ids)} is outside the byte vocabulary of {vocab_size}.")
    return bytes(number for number in ids if number < 256)


def byte_definition() -> dict[str, Any]:
    """Return the byte vocabulary in the form of a `tokenizer.json`."""
    vocabulary = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}
    specials = {symbol: 256 + index for index, symbol in enumerate(SPECIAL_SYMBOLS)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": symbol, **flags} for symbol, number in specials.items()],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": bos_processor(specials[SPECIAL_SYMBOLS[0]]),
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary | specials, "merges": []},
    }


def bos_processor(eot_id: int) -> dict[str, Any]:
    """Return the post-processor that makes other readers begin a text with the document boundary, as we train it."""
    eot = SPECIAL_SYMBOLS[0]
    return {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": eot, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [
            {"SpecialToken": {"id": eot, "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {eot: {"id": eot, "ids": [eot_id], "tokens": [eot]}},
    }
