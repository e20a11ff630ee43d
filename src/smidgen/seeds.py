"""Seeds made of what they are for: so many numbers, names and places give one seed, the same on every machine."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """Return a seed of 56 bits that any change of any part, or of their order, changes."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=7).digest(), "big")
