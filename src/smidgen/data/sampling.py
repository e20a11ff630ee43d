"""An evenly spread sample of texts, for what needs to look at a corpus but not at all of it: training a vocabulary."""

from collections.abc import Iterable, Iterator

from smidgen.data.documents import Document
from smidgen.data.passages import cut_text
from smidgen.data.split import is_sampled

_PIECE_CHARACTERS = 1 << 16
_OVERSHOOT = 1.25


def sample_texts(documents: Iterable[Document], sample_bytes: int, total_bytes: int | None = None) -> Iterator[str]:
    """Yield about `sample_bytes` of text, chosen piece by piece by hash; of a conversation, what is said.

    `total_bytes` is about how much text there is: reading then goes on to the end, so that every part has its chance
    (a 500 MB corpus takes 5 s). Without it the first texts are taken until the sample is full.
    """
    keep = min(1.0, sample_bytes / total_bytes) if total_bytes else 1.0
    left = sample_bytes * (_OVERSHOOT if total_bytes else 1.0)
    for document in documents:
        texts = [message.content for message in document.messages] or [document.text]
        for text in texts:
            for piece in cut_text(text, _PIECE_CHARACTERS):
                if keep < 1 and not is_sampled(Document(text=piece).hash(), keep):
                    continue
                left -= len(piece) if piece.isascii() else len(Document(text=piece).content_bytes())
                yield piece
                if left <= 0:
                    return
