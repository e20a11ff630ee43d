"""What the readers yield: documents, plain text or conversations."""

import hashlib
import json
from dataclasses import dataclass

from smidgen.tokenizers.bytes import text_bytes
from smidgen.tokenizers.chat import Message


@dataclass(frozen=True, slots=True)
class Document:
    """A text, or a conversation; never both."""

    text: str = ""
    messages: tuple[Message, ...] = ()
    source: str = ""
    """Where it came from, as told in errors and reports: `stories.jsonl:17`, `village:42`."""

    def content_bytes(self) -> bytes:
        """Return the UTF-8 bytes of what the document says; a conversation as JSON, so that roles count too."""
        if self.messages:
            return text_bytes(json.dumps([[m.role, m.content] for m in self.messages], ensure_ascii=False))
        return text_bytes(self.text)

    def hash(self) -> bytes:
        """Return the 16-byte blake2b of the content: the identity used for deduplication, splits and samples."""
        return hashlib.blake2b(self.content_bytes(), digest_size=16).digest()
