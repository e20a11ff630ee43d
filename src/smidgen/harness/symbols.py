"""Text to symbols as the harness's own backends do it: a special symbol that is spelled out is one.

Everywhere else here it is text like any other, because people write it; in the harness a conversation comes as text
that a template has written already, and nothing else tells its turns apart.
"""

from collections.abc import Sequence
from typing import Any, cast

from smidgen.tokenizers.base import Tokenizer


class SpecialsMeant:
    """A tokenizer, but for `encode_batch`; what its files put before every text is not put there twice."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        """Be the tokenizer in everything else."""
        return getattr(self._tokenizer, name)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode many texts, special symbols included."""
        begin = [self._tokenizer.bos_id] if self._tokenizer.puts_bos else []
        encoded = map(self._tokenizer.encode_with_specials, texts)
        return [ids[1:] if begin and ids[:1] == begin else ids for ids in encoded]


def specials_meant(tokenizer: Tokenizer) -> Tokenizer:
    """Return a tokenizer that takes special symbols in texts for what they are."""
    return cast(Tokenizer, SpecialsMeant(tokenizer))
