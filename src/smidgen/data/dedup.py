"""Documents seen before, to the byte. Near-duplicates are a matter of cleaning, not of this file."""


class ExactDedup:
    """Remembers 16 bytes a document (about 100 in memory: 1 GB holds ten million)."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self.duplicates = 0
        """Documents refused so far."""

    def is_new(self, document_hash: bytes) -> bool:
        """Return whether this content comes for the first time, and remember it."""
        if document_hash in self._seen:
            self.duplicates += 1
            return False
        self._seen.add(document_hash)
        return True
