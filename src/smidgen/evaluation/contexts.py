"""Plain text as a model is given it to go on with, in symbols."""

from smidgen.tokenizers.base import Tokenizer


def encode_context(tokenizer: Tokenizer, text: str, specials: bool = False) -> list[int]:
    """Return the ids of a text to go on with. `specials` says whether special symbols spelled out in it are meant."""
    ids = tokenizer.encode_with_specials(text) if specials else tokenizer.encode(text)
    return ids if ids[:1] == [tokenizer.bos_id] else [tokenizer.bos_id, *ids]
