"""What a tokenizer is to the rest of the house: text or bytes to symbol ids and back, exactly."""

from collections.abc import Iterable, Sequence
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
    """Symbols are tokens or bytes. No normalisation happens inside: decode(encode(text)) is the text, always."""

    vocab_size: int
    """Number of ids, specials included."""
    eot_id: int
    """The document boundary: first and last symbol of every document."""
    stop_ids: frozenset[int]
    """Ids that end a generated answer (document end, end of a chat turn)."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of ordinary text; a special symbol spelled out in it is text like any other."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode many texts, in parallel where the library can."""
        ...

    def encode_with_specials(self, text: str) -> list[int]:
        """Encode text whose special symbols are meant, as a rendered chat template is."""
        ...

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the exact bytes of the ids; specials contribute nothing."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of the ids; bytes that are not valid UTF-8 become U+FFFD."""
        ...

    def symbol_bytes(self) -> list[int]:
        """Return, for every id, the number of bytes it stands for (0 for specials)."""
        ...

    def special_id(self, symbol: str) -> int:
        """Return the id of a special symbol. Raises TokenizerError if this tokenizer lacks it."""
        ...

    def save(self, directory: Path) -> None:
        """Write `tokenizer.json` (and its config) into a model directory."""
        ...

    def fingerprint(self) -> str:
        """Return the sha256 of what decides encoding, so that shards and models can tell they belong together."""
        ...
