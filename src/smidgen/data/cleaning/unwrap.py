"""Lines that were broken to fit a page, joined again: what scans and old text files look like.

A text counts as wrapped by three signs at once, so that verse, lists and tables stay: most lines inside its paragraphs
are about equally long, few of them end like a sentence, and the next begins in lower case about as often as words do.
"""

import re
from itertools import pairwise
from statistics import median

_LEAST_LINES = 8
_NARROWEST, _WIDEST = 40, 110
_ALIKE = 0.8
"""A filled line ends within a long word of the margin: so much of the widest usual line is filled."""
_MOST = 0.8
"""Of the lines inside paragraphs, at least so many are filled."""
_LOWER = 0.5
"""And so many are followed by a small letter or a digit: English prose has 85% of its words so, verse none of its
lines."""
_HYPHEN = re.compile(r"(?<=[^\W\d_])-$")


def unwrap(text: str) -> tuple[str, int]:
    """Return the text with its paragraphs on one line each, and how many line breaks that took; 0 if it is not wrapped.

    A hyphen at the end of a line goes if a small letter follows: it was put there by the breaking far more often than
    by the writer.
    """
    paragraphs = [paragraph.split("\n") for paragraph in text.split("\n\n")]
    inner = [(line, after) for lines in paragraphs for line, after in pairwise(lines)]
    if len(inner) < _LEAST_LINES or not _is_wrapped(inner):
        return text, 0
    return "\n\n".join(map(_joined, paragraphs)), len(inner)


def _is_wrapped(inner: list[tuple[str, str]]) -> bool:
    lengths = [len(line) for line, _ in inner]
    width = median(lengths)
    if not _NARROWEST <= width <= _WIDEST:
        return False
    filled = sum(_ALIKE * width <= length <= width / _ALIKE for length in lengths)
    lower = sum(after[:1].islower() or after[:1].isdigit() for _, after in inner)
    return filled >= _MOST * len(inner) and lower >= _LOWER * len(inner)


def _joined(lines: list[str]) -> str:
    whole = lines[0]
    for line in lines[1:]:
        if _HYPHEN.search(whole) and line[:1].islower():
            whole = whole[:-1] + line
        else:
            whole = f"{whole.rstrip()} {line.lstrip()}"
    return whole
