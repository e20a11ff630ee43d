"""Text out of ids as they are generated, one whole character at a time."""

import codecs
from collections.abc import Iterable

from smidgen.tokenizers.base import Tokenizer


class TextStream:
    """Holds back the bytes of an unfinished character until the ids that complete it arrive.

    The pieces and `finish()` together are exactly `decode_bytes(all ids)` as text, bytes that are not UTF-8 as U+FFFD.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, ids: Iterable[int]) -> str:
        """Take the next ids and return the text that has become complete, perhaps none."""
        return self._decoder.decode(self._tokenizer.decode_bytes(ids))

    def finish(self) -> str:
        """Return what an unfinished character at the end leaves: U+FFFD, or nothing. Ready for another text."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
