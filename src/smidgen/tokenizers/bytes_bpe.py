"""Bytes with the ends of BPE tokens written between them: the symbols of models whose patches end where tokens do.

A trained BPE vocabulary decides where tokens end; what a model reads and writes is their bytes and, after each token,
one symbol more, 264. It stands for no bytes, but it is no mark of the document either: it is paid for like a byte,
since where tokens end is part of what such a model says. Special symbols have ids 256 to 263, as in `bytes`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from smidgen.config import Config
from smidgen.tokenizers.base import SPECIAL_SYMBOLS
from smidgen.tokenizers.bpe import BpeConfig, BpeTokenizer, train_bpe
from smidgen.tokenizers.bytes import ByteTokenizer, bytes_among
from smidgen.tokenizers.chat import CHATML, HF_CONFIG
from smidgen.tokenizers.vocabulary import write_tokenizer_files

WRITTEN_AS = "bytes_bpe"
"""What `tokenizer_config.json` says under "written_as" of a vocabulary whose tokens are written out as bytes."""


class BytesBpeConfig(Config):
    """Bytes and the ends of BPE tokens as symbols: 265 ids, for the patcher `symbol`."""

    type: Literal["bytes_bpe"] = "bytes_bpe"
    """Tells this choice from `bpe` and `bytes`."""
    vocab_size: Literal[265] = 265
    """256 bytes, 8 special symbols and the end of a token."""
    tokens: int = Field(default=4096, ge=256 + len(SPECIAL_SYMBOLS), le=1 << 20)
    """Size of the BPE vocabulary whose tokens become patches."""
    max_digits: Literal[1, 2, 3] = 1
    """Digits of a number that may share a token."""
    sample_bytes: int = Field(default=32 << 20, gt=0)
    """Bytes of text, spread evenly over the corpus, that the merges are counted on."""


class BytesBpeTokenizer:
    """Ids 0..255 are the bytes, 256..263 the special symbols, 264 the end of a token. See `base.Tokenizer`."""

    vocab_size = ByteTokenizer.vocab_size + 1
    end_id = ByteTokenizer.vocab_size
    """The end of a token."""
    eot_id = bos_id = ByteTokenizer.eot_id
    puts_bos = True
    stop_ids = ByteTokenizer.stop_ids
    special_ids = ByteTokenizer.special_ids
    chat_template: str | None = CHATML
    template_symbols: Mapping[str, str] = ByteTokenizer.template_symbols
    text_prefix = ""

    def __init__(self, bpe: BpeTokenizer) -> None:
        """Take the vocabulary that decides where tokens end; trained here, so that any text can be said."""
        self._bpe = bpe
        self._bytes = ByteTokenizer()
        names = {bpe.special_id(symbol): [self._bytes.special_id(symbol)] for symbol in SPECIAL_SYMBOLS}
        self._spelled = [
            names.get(number) or [*bpe.decode_bytes([number]), self.end_id] for number in range(bpe.vocab_size)
        ]

    def encode(self, text: str) -> list[int]:
        """Return the bytes of the text, with an end after each token."""
        return self._spell(self._bpe.encode(text))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode many texts on all cores."""
        return [self._spell(ids) for ids in self._bpe.encode_batch(texts)]

    def encode_continuation(self, text: str) -> list[int]:
        """Encode text that goes on from earlier text: as `encode`."""
        return self._spell(self._bpe.encode_continuation(text))

    def encode_with_specials(self, text: str) -> list[int]:
        """Encode text whose special symbols are meant; these have no end of their own, being one."""
        return self._spell(self._bpe.encode_with_specials(text))

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes; specials and ends contribute nothing."""
        return bytes_among(ids, self.vocab_size)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")

    def symbol_bytes(self) -> list[int]:
        """Return 1 for every byte, 0 for every special and for the end of a token."""
        return [*self._bytes.symbol_bytes(), 0]

    def special_id(self, symbol: str) -> int:
        """Return 256 and up. Raises TokenizerError for anything else."""
        return self._bytes.special_id(symbol)

    def save(self, directory: Path) -> None:
        """Write the vocabulary that decides the ends, and that its tokens are written as bytes."""
        self._bpe.save(directory)
        definition = (directory / "tokenizer.json").read_text(encoding="utf-8")
        write_tokenizer_files(directory, definition, {**HF_CONFIG, "written_as": WRITTEN_AS})

    def fingerprint(self) -> str:
        """Return the sha256 of the kind and of the vocabulary that decides the ends."""
        return hashlib.sha256(json.dumps([WRITTEN_AS, self._bpe.fingerprint()]).encode()).hexdigest()

    def _spell(self, tokens: Iterable[int]) -> list[int]:
        spelled = self._spelled
        return [symbol for token in tokens for symbol in spelled[token]]


def train_bytes_bpe(texts: Iterable[str], config: BytesBpeConfig) -> tuple[BytesBpeTokenizer, list[str]]:
    """Count merges on the texts; return the tokenizer and notes to print, as `train_bpe` does."""
    wanted = BpeConfig(vocab_size=config.tokens, max_digits=config.max_digits, sample_bytes=config.sample_bytes)
    bpe, notes = train_bpe(texts, wanted)
    return BytesBpeTokenizer(bpe), notes
