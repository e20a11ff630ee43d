"""BPE on the `tokenizers` library: trained here byte-level and without any normaliser, or loaded from elsewhere.

What is trained here always holds the 256 byte symbols, so every text and every byte can be said. Ids 0..7 are the
special symbols, then the bytes, then merges by rank.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import tokenizers as library
from pydantic import Field

from smidgen.config import Config
from smidgen.errors import DataError, TokenizerError
from smidgen.tokenizers.base import SPECIAL_SYMBOLS
from smidgen.tokenizers.bytes import bos_processor, text_bytes
from smidgen.tokenizers.chat import HF_CONFIG
from smidgen.tokenizers.vocabulary import encoding_identity, symbol_table, without_prefix, write_tokenizer_files

_RAW_BYTE = re.compile("([\udc80-\udcff])")
_EOT_NAMES = (SPECIAL_SYMBOLS[0], "<|end_of_text|>", "</s>", "<eos>")
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>")


class BpeConfig(Config):
    """A byte-level BPE vocabulary to train."""

    type: Literal["bpe"] = "bpe"
    """Tells this choice from `bytes`."""
    vocab_size: int = Field(default=4096, ge=256 + len(SPECIAL_SYMBOLS), le=1 << 20)
    """Number of symbols asked for, specials and bytes included; a small corpus may not hold that many."""
    max_digits: Literal[1, 2, 3] = 1
    """Digits of a number that may share a symbol. With 2, numbers cannot be exported to llama.cpp exactly."""
    sample_bytes: int = Field(default=32 << 20, gt=0)
    """Bytes of text, spread evenly over the corpus, that the merges are counted on."""


class BpeTokenizer:
    """A BPE vocabulary from a `tokenizer.json` and its `tokenizer_config.json`. See `base.Tokenizer`."""

    def __init__(self, definition: str, config: Mapping[str, Any]) -> None:
        """Take the text of a `tokenizer.json` and the fields of a `tokenizer_config.json` (which may be empty).

        Of the fields, `bos_token`, `eos_token`, `chat_template` and `stop_symbols` (more symbols that end an answer)
        mean something here; all are kept and saved again. Raises TokenizerError if the definition is not usable BPE.
        """
        try:
            self._meant = library.Tokenizer.from_str(definition)
            self._plain = library.Tokenizer.from_str(definition)
            fields = json.loads(definition)
            self._table = symbol_table(fields)
        except TokenizerError:
            raise
        except Exception as error:  # the library raises bare Exception for a file it does not understand
            raise TokenizerError(f"not a usable tokenizer.json: {error}") from None
        for tokenizer in (self._meant, self._plain):
            tokenizer.no_truncation()
            tokenizer.no_padding()
        self._plain.encode_special_tokens = True
        self._continuing = self._plain
        self._definition, self._config = definition, dict(config)
        self._identity = encoding_identity(fields)
        self._specials = {t["content"]: t["id"] for t in fields.get("added_tokens") or [] if t["special"]}
        self._byte_ids = {data[0]: number for number, data in enumerate(self._table) if len(data) == 1}
        self.special_ids = frozenset(self._specials.values())
        self.vocab_size = len(self._table)
        self._find_roles()
        self.text_prefix = (
            " " if self.decode_bytes(self._plain.encode("a", add_special_tokens=False).ids) == b" a" else ""
        )
        if self.text_prefix:
            self._continuing = library.Tokenizer.from_str(json.dumps(without_prefix(fields)))
            self._continuing.encode_special_tokens = True

    def _find_roles(self) -> None:
        roles = {
            key: _symbol(self._config[key]) for key in self._config if key.endswith("_token") and self._config[key]
        }
        self.template_symbols: Mapping[str, str] = {key: text for key, text in roles.items() if isinstance(text, str)}
        template = self._config.get("chat_template")
        self.chat_template: str | None = template if isinstance(template, str) else None
        eos = self.template_symbols.get("eos_token")
        ends = [name for name in (*_EOT_NAMES, eos) if name in self._specials]
        if not ends:
            known = ", ".join(self._specials) or "none"
            raise TokenizerError(f"the tokenizer has no symbol that ends a document (its special symbols: {known}).")
        self.eot_id: int = self._specials[ends[0]]
        # Only a vocabulary that itself begins texts with a symbol (Llama's <s>) means it to be there.
        begin = self._meant.encode("", add_special_tokens=True).ids
        self.bos_id: int = begin[0] if begin else self.eot_id
        self.puts_bos = bool(begin)
        stops = {eos, *_TURN_ENDS, *self._config.get("stop_symbols", ())} & self._specials.keys()
        self.stop_ids = frozenset({self.eot_id, *(self._specials[name] for name in stops)})

    def encode(self, text: str) -> list[int]:
        """Return the ids of ordinary text; a special symbol spelled out in it is text like any other."""
        return self._encode(self._plain, text)

    def encode_continuation(self, text: str) -> list[int]:
        """Encode text that goes on from earlier text: as `encode`, without the `text_prefix`."""
        return self._encode(self._continuing, text)

    def encode_with_specials(self, text: str) -> list[int]:
        """Encode text whose special symbols are meant, as a rendered chat template is."""
        return self._encode(self._meant, text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode many texts on all cores."""
        try:
            encodings = self._plain.encode_batch_fast(list(texts), add_special_tokens=False)
        except TypeError:  # a lone surrogate somewhere, see `_encode`
            return [self.encode(text) for text in texts]
        return [encoding.ids for encoding in encodings]

    def _encode(self, tokenizer: library.Tokenizer, text: str) -> list[int]:
        try:
            return tokenizer.encode(text, add_special_tokens=False).ids
        except TypeError:
            if not isinstance(text, str):
                raise
        # What Rust refuses is a string with lone surrogates: raw bytes become their byte symbols, the rest U+FFFD.
        ids: list[int] = []
        for part in _RAW_BYTE.split(text_bytes(text).decode("utf-8", "surrogateescape")):
            byte = self._byte_ids.get(ord(part) - 0xDC00) if _RAW_BYTE.fullmatch(part) else None
            clean = _RAW_BYTE.sub("\ufffd", part)
            ids += [byte] if byte is not None else tokenizer.encode(clean, add_special_tokens=False).ids
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the exact bytes of the ids, `text_prefix` included; specials contribute nothing."""
        table = self._table
        try:
            return b"".join([table[number] for number in ids])
        except IndexError:
            raise TokenizerError(f"an id is outside the vocabulary of {self.vocab_size} symbols.") from None

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of the ids of a whole text; bytes that are not valid UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace").removeprefix(self.text_prefix)

    def symbol_bytes(self) -> list[int]:
        """Return, for every id, the number of bytes it stands for (0 for specials)."""
        return [len(data) for data in self._table]

    def special_id(self, symbol: str) -> int:
        """Return the id of a special symbol. Raises TokenizerError if this tokenizer lacks it."""
        if symbol not in self._specials:
            raise TokenizerError(
                f"the tokenizer has no special symbol {symbol!r}; it has: {', '.join(self._specials)}."
            )
        return self._specials[symbol]

    def save(self, directory: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, as `transformers` reads them."""
        write_tokenizer_files(directory, self._definition, self._config)

    def fingerprint(self) -> str:
        """Return the sha256 of vocabulary, merges, special symbols, normaliser and pre-tokenizer."""
        return hashlib.sha256(self._identity.encode()).hexdigest()


def _symbol(value: Any) -> Any:
    """Return the text of a special symbol, which HF writes plain or as an object with its flags."""
    return value.get("content") if isinstance(value, dict) else value


def split_pattern(max_digits: int) -> str:
    r"""Return the regular expression that keeps merges inside words, numbers, punctuation and line ends.

    It is Qwen2's, with `max_digits` digits at a time instead of one. One is llama.cpp's `qwen2`, three is its
    `llama-bpe`; two, which compressed best at 32k (0.965 against 0.969 and 0.972 bits per byte, nanochat
    dev/LOG.md), it cannot express, and a vocabulary this small spends hardly any symbols on numbers either way.
    """
    digits = r"\p{N}" if max_digits == 1 else rf"\p{{N}}{{1,{max_digits}}}"
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + digits
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


def train_bpe(texts: Iterable[str], config: BpeConfig) -> tuple[BpeTokenizer, list[str]]:
    """Count merges on the texts; return the tokenizer and notes to print, as when they hold too few pairs.

    All texts are used: draw the sample before. Raises DataError if there is no text.
    """
    pre = library.pre_tokenizers
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = pre.Sequence(
        [
            pre.Split(library.Regex(split_pattern(config.max_digits)), behavior="isolated"),
            pre.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=list(SPECIAL_SYMBOLS),
        initial_alphabet=pre.ByteLevel.alphabet(),
        min_frequency=2,  # a pair seen once is a piece of one word; merging it teaches nothing
        max_token_length=32,  # no symbol for a ruled line of 400 dashes
        show_progress=False,
    )
    seen = _Seen(texts)
    tokenizer.train_from_iterator(seen, trainer)
    if not seen.characters:
        raise DataError("there is no text to train a tokenizer on.")
    definition = json.loads(tokenizer.to_str())
    definition["post_processor"] = bos_processor(0)
    trained = BpeTokenizer(json.dumps(definition, ensure_ascii=False), HF_CONFIG)
    notes = []
    if trained.vocab_size < config.vocab_size:
        notes.append(
            f"The text holds enough repeated pairs for a vocabulary of {trained.vocab_size}, "
            f"not of the {config.vocab_size} asked for."
        )
    return trained, notes


class _Seen:
    """Counts the characters that pass, and makes lone surrogates into what Rust accepts."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.characters = 0

    def __iter__(self) -> Iterable[str]:
        for text in self._texts:
            self.characters += len(text)
            yield text if text.isascii() else text_bytes(text).decode(errors="replace")
