"""The hashed words of a text, as the rules about repetition and likeness count them.

The hashing is that of the n-gram index: runs of letters and digits, alike for both cases, in numpy.
"""

import numpy as np

from smidgen.data.ngrams import HashedWords, WordHasher

__all__ = ["HashedWords", "WordHasher", "spread"]

_FIRST, _SECOND = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)


def spread(hashes: np.ndarray) -> np.ndarray:
    """Return hashes in which every bit depends on every bit. Source: Appleby 2011, fmix64 of MurmurHash3."""
    hashes = (hashes ^ (hashes >> _SHIFT)) * _FIRST
    hashes = (hashes ^ (hashes >> _SHIFT)) * _SECOND
    return hashes ^ (hashes >> _SHIFT)
