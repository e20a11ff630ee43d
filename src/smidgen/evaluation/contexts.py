"""Plain text as a model is given it to go on with: the same symbols that `likelihood` reads before a continuation."""

from smidgen.tokenizers.base import Tokenizer


def encode_context(tokenizer: Tokenizer, text: str, specials: bool = False) -> list[int]:
    """Return the ids of a text to go on with; before it stands what the tokenizer's own files put there.

    `specials` says whether special symbols spelled out in it are meant, as those of a rendered conversation are.
    """
    ids = tokenizer.encode_with_specials(text) if specials else tokenizer.encode(text)
    begins = ids[:1] == [tokenizer.bos_id]
    return [tokenizer.bos_id, *ids] if not ids or (tokenizer.puts_bos and not begins) else ids
