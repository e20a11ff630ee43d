"""Text to bytes, one policy for the whole house; and the tokenizer whose symbols are those bytes.

A Python string can hold what UTF-8 cannot: lone surrogates. U+DC80..U+DCFF stand for raw bytes that were not UTF-8
(PEP 383, `data.decode("utf-8", "surrogateescape")`) and become those bytes again, so that any bytes can be encoded;
every other lone surrogate is no character at all and becomes U+FFFD.
"""

import re

_NO_CHARACTER = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def text_bytes(text: str) -> bytes:
    """Return the UTF-8 bytes of a text, which for any ordinary text is `text.encode()`."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _NO_CHARACTER.sub("\ufffd", text).encode("utf-8", "surrogateescape")
