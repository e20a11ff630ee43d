"""What a plan needs to know of a corpus: how much text, how it splits into symbols, how hard it is."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import log2

REFERENCE_ZLIB_BITS = 3.06
"""Bits per byte that zlib (level 6) leaves of the English the scaling law was fitted on, 2 MB of it."""

SPARE = 1.3
"""Text prepared over text expected to be read, where there is more than a run can use: no small error repeats it."""

_LEAST_TOLD_BYTES = 100_000
_TOLD_PER_SECOND = 1_000_000  # the village tells a megabyte a second, measured on one core
_TELLING_SHARE = 0.1  # of the time is spent listening to it, at the most
_SAMPLE_BYTES = 2_000_000
_SYMBOL_BYTES = {264: 1.0, 512: 2.0, 1024: 2.52, 2048: 2.95, 4096: 3.38, 8192: 3.77, 16384: 4.12, 32768: 4.38}
"""Bytes per symbol of byte-level BPE on held-out English of ten kinds, trained on 46 MB, digits split."""


@dataclass(frozen=True)
class CorpusFacts:
    """A corpus, or what can be said of it before it is read whole."""

    bytes: int | None
    """UTF-8 bytes of training text; None: as much as there is time to tell, as of the village."""
    documents: int = 1
    """Documents."""
    bytes_per_symbol: float | None = None
    """Measured with the run's tokenizer, if there is one; None: estimated by vocabulary."""
    zlib_bits_per_byte: float | None = None
    """What zlib leaves of a sample: how hard the text is; None: taken for ordinary English."""
    vocab_size: int | None = None
    """Of text that is symbols already; None: the plan chooses."""

    @property
    def difficulty(self) -> float:
        """How hard the text is beside the law's English, by how well zlib compresses both; within 0.3 to 1.3."""
        if self.zlib_bits_per_byte is None:
            return 1.0
        return min(max(self.zlib_bits_per_byte / REFERENCE_ZLIB_BITS, 0.3), 1.3)

    def symbol_bytes(self, vocab_size: int) -> float:
        """Return the bytes one symbol stands for."""
        return self.bytes_per_symbol or symbol_bytes_of(vocab_size)

    def unique_bytes(self, seconds: float) -> int:
        """Return the bytes there are before text repeats, in a run of so many seconds."""
        if self.bytes is not None:
            return self.bytes
        return max(_LEAST_TOLD_BYTES, round(_TELLING_SHARE * seconds * _TOLD_PER_SECOND))


def survey_texts(texts: Iterable[str], total_bytes: int, documents: int) -> CorpusFacts:
    """Describe a corpus from its totals and a sample of its documents, of which at most 2 MB are read."""
    pieces: list[bytes] = []
    read = 0
    for text in texts:
        pieces.append(text.encode("utf-8", "replace"))
        read += len(pieces[-1])
        if read >= _SAMPLE_BYTES:
            break
    sample = b"\n".join(pieces)[:_SAMPLE_BYTES]
    # A sample of less than 100 kB compresses badly whatever it says: zlib has not learned it yet.
    bits = 8 * len(zlib.compress(sample, 6)) / len(sample) if len(sample) >= 100_000 else None
    return CorpusFacts(total_bytes, documents, zlib_bits_per_byte=bits)


def symbol_bytes_of(vocab_size: int) -> float:
    """Estimate the bytes of English one symbol of a byte-level BPE stands for, between the sizes measured."""
    sizes = list(_SYMBOL_BYTES)
    if vocab_size <= sizes[0]:
        return _SYMBOL_BYTES[sizes[0]]
    for low, high in pairwise(sizes):
        if vocab_size <= high:
            share = log2(vocab_size / low) / log2(high / low)
            return _SYMBOL_BYTES[low] + share * (_SYMBOL_BYTES[high] - _SYMBOL_BYTES[low])
    return _SYMBOL_BYTES[sizes[-1]]
