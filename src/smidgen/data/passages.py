"""Cutting long texts at paragraphs, without losing a character."""

from collections.abc import Iterator


def cut_text(text: str, limit: int) -> Iterator[str]:
    """Yield consecutive pieces of at most `limit` characters whose concatenation is the text.

    A piece ends at the last blank line, else line, else space of its second half; only a text that has none of them
    there is cut anywhere.
    """
    start = 0
    while len(text) - start > limit:
        end = _good_end(text, start + limit // 2, start + limit)
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def _good_end(text: str, first: int, last: int) -> int:
    for boundary in ("\n\n", "\n", " "):
        found = text.rfind(boundary, first, last)
        if found > first:
            # A space opens the next word in every byte-level vocabulary, so it goes with the piece that follows.
            return found if boundary == " " else found + len(boundary)
    return last
