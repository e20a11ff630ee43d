"""What a tokenizer is to the rest of the house: text or bytes to symbol ids and back, exactly."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

SPECIAL_SYMBOLS = (
    "<|endoftext|>",  # starts and ends every document; GPT-2's and SmolLM's name for it
    "<|im_start|>",  # ChatML, the template most small chat models and llama.cpp know
    "<|im_end|>",
    "<|mask|>",  # masked objectives
    "<|fim_prefix|>",  # fill-in-the-middle
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|pad|>",
)
"""Reserved in every tokenizer trained here, so that no later stage has to grow the embedding."""


class Tokenizer(Protocol):
    """Symbols are tokens or bytes.

    What is trained here normalises nothing: decode(encode(text)) is the text, always. A vocabulary from elsewhere
    brings its own normaliser. Lone surrogates, which are no text, are treated as `bytes.text_bytes` says.
    """

    vocab_size: int
    """Number of ids, specials included."""
    eot_id: int
    """The document boundary: first and last symbol of every document."""
    bos_id: int
    """The id a text begins with for the model: `eot_id`, unless the vocabulary declares another and adds it itself."""
    puts_bos: bool
    """Whether its own files say that `bos_id` stands before every text, as those of what is trained here do."""
    stop_ids: frozenset[int]
    """Ids that end a generated answer (document end, end of a chat turn)."""
    special_ids: frozenset[int]
    """Ids that stand for no bytes."""
    chat_template: str | None
    """The jinja2 template of a conversation; ChatML for what is trained here, None if the vocabulary came without."""
    template_symbols: Mapping[str, str]
    """The names a chat template may use for special symbols, as `bos_token`, and what they stand for."""
    text_prefix: str
    """What the vocabulary itself puts before every text: a space for the sentencepiece kind, else nothing."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of ordinary text; a special symbol spelled out in it is text like any other."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode many texts, in parallel where the library can."""
        ...

    def encode_continuation(self, text: str) -> list[int]:
        """Encode text that goes on from earlier text: as `encode`, without the `text_prefix`."""
        ...

    def encode_with_specials(self, text: str) -> list[int]:
        """Encode text whose special symbols are meant, as a rendered chat template is."""
        ...

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the exact bytes of the ids, `text_prefix` included; specials contribute nothing.

        Each id contributes the same bytes wherever it stands, so pieces may be decoded one by one and joined.
        Raises TokenizerError for an id outside the vocabulary.
        """
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of the ids of a whole text; bytes that are not valid UTF-8 become U+FFFD."""
        ...

    def symbol_bytes(self) -> list[int]:
        """Return, for every id, the number of bytes it stands for (0 for specials)."""
        ...

    def special_id(self, symbol: str) -> int:
        """Return the id of a special symbol. Raises TokenizerError if this tokenizer lacks it."""
        ...

    def save(self, directory: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, as `transformers` reads them, into a model directory."""
        ...

    def fingerprint(self) -> str:
        """Return the sha256 of what decides encoding, so that shards and models can tell they belong together."""
        ...
