"""Text to symbols as the harness's own backends do it: a special symbol that is spelled out is one.

Everywhere else here it is text like any other, because people write it; in the harness a conversation comes as text
that a template has written already, and nothing else tells its turns apart.
"""

from collections.abc import Mapping, Sequence

from smidgen.tokenizers.base import Tokenizer


class SpecialsMeant:
    """The `Vocabulary` of a tokenizer in which specials are meant; what is put before texts is not put there twice."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @property
    def vocab_size(self) -> int:
        """Number of ids, specials included."""
        return self._tokenizer.vocab_size

    @property
    def bos_id(self) -> int:
        """The id a text begins with for the model."""
        return self._tokenizer.bos_id

    @property
    def puts_bos(self) -> bool:
        """Whether `bos_id` stands before every text."""
        return self._tokenizer.puts_bos

    @property
    def template_symbols(self) -> Mapping[str, str]:
        """The names a chat template may use for special symbols, and what they stand for."""
        return self._tokenizer.template_symbols

    def special_id(self, symbol: str) -> int:
        """Return the id of a special symbol. Raises TokenizerError if this tokenizer lacks it."""
        return self._tokenizer.special_id(symbol)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode many texts, special symbols included."""
        begin = [self._tokenizer.bos_id] if self._tokenizer.puts_bos else []
        encoded = map(self._tokenizer.encode_with_specials, texts)
        return [ids[1:] if begin and ids[:1] == begin else ids for ids in encoded]
