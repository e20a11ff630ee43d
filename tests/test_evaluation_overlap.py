"""The longest verbatim passage: what the search says is what trying every passage says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.evaluation.overlap import longest_overlaps

ALPHABET = "abé🦊"


def longest_by_trying(texts: list[str], corpus: list[str]) -> int:
    encoded, best = [document.encode() for document in corpus], 0
    for text in map(str.encode, texts):
        start = 0
        while start + best < len(text):
            if any(text[start : start + best + 1] in document for document in encoded):
                best += 1
            else:
                start += 1
    return best


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(st.text(ALPHABET, max_size=30), max_size=4),
    corpus=st.lists(st.text(ALPHABET, max_size=30), max_size=6),
    block=st.integers(1, 80),
)
def test_it_is_the_longest_whatever_the_blocks(texts: list[str], corpus: list[str], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smidgen.evaluation.overlap._BLOCK_BYTES", block)
        patch.setattr("smidgen.evaluation.overlap._FILTER_BITS", 8)
        found = longest_overlaps({"texts": texts}, iter(corpus))["texts"]
    assert found.bytes == longest_by_trying(texts, corpus)
    assert (found.text_index >= 0) == (found.bytes > 0)
    if found.bytes:
        assert found.passage in texts[found.text_index]
        assert any(found.passage in document for document in corpus)


def test_a_planted_passage_is_found_in_a_large_document_and_named() -> None:
    secret = "the fox that lived behind the seventh mill never paid its rent"
    corpus = ["".join(chr(97 + (i * i + i // 7) % 26) for i in range(3_000_000)) + secret, "short"]
    groups = {"samples": ["nothing here", f"once, {secret}!"], "references": ["zz top"], "none": []}
    found = longest_overlaps(groups, corpus)
    assert found["samples"].passage == secret
    assert found["samples"].text_index == 1
    assert found["none"].bytes == 0
    assert found["references"].bytes < 10


def test_no_passage_crosses_from_one_text_to_the_next() -> None:
    found = longest_overlaps({"texts": ["abc", "def"]}, ["xabcdefx", "c", "d"])["texts"]
    assert found.characters == 3
