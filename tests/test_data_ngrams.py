"""Runs of words: found whatever stands between the words, wherever a block ends, and nothing else is found."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.data.ngrams import NgramIndex

ITEM = "Which is a response of the autonomic nervous system that helps maintain equilibrium in the body? shivering"


def words_of(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def found_by_hand(items: list[str], texts: list[str], n: int, least: int) -> set[tuple[int, int, int]]:
    """The definition, word by word: (text, item, word of the item)."""
    found = set()
    for i, item in enumerate(map(words_of, items)):
        runs = [item[k : k + n] for k in range(len(item) - n + 1)] or ([item] if len(item) >= least else [])
        for t, text in enumerate(map(words_of, texts)):
            for k, run in enumerate(runs):
                if any(text[j : j + len(run)] == run for j in range(len(text) - len(run) + 1)):
                    found.add((t, i, k))
    return found


VOCABULARY = ["cat", "Cat", "dog", "the", "a", "sat", "it's", "Æther", "x1", "naïve", "—", "..", "\n", "_"]
TEXTS = st.lists(st.lists(st.sampled_from(VOCABULARY), max_size=30).map(" ".join), max_size=6)


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS)
def test_it_finds_what_the_definition_finds(items: list[str], texts: list[str]):
    index = NgramIndex(items, words=4, least=2)
    found = list(index.find(texts))
    assert {(find.text, find.item, find.at) for find in found} == found_by_hand(items, texts, 4, 2)
    for find in found:
        run = words_of(items[find.item])[find.at : find.at + find.words]
        assert words_of(texts[find.text][find.start : find.end]) == run
        assert find.passage == texts[find.text][find.start : find.end]
    assert index.unsearchable == [n for n, item in enumerate(items) if len(words_of(item)) < 2]


@pytest.mark.parametrize(
    "disguise",
    [
        str.upper,
        lambda text: text.replace(" ", "\n\n"),
        lambda text: text.replace(" ", " — ").replace("?", "…"),
        lambda text: f"„{text}“",
        lambda text: f"before it{chr(10)}{text}.After it",
    ],
    ids=["capitals", "lines", "dashes", "quotes", "between"],
)
def test_case_spaces_and_punctuation_do_not_hide_an_item(disguise):
    assert {find.item for find in NgramIndex(["other words", ITEM]).find([disguise(ITEM)])} == {1}


def test_twelve_words_of_a_long_item_are_nothing_thirteen_are_a_find():
    words = ITEM.split()
    index = NgramIndex([ITEM])
    assert not list(index.find([" ".join(words[:12])]))
    assert [find.words for find in index.find([" ".join(words[:13])])] == [13]


def test_a_short_item_must_occur_whole():
    index = NgramIndex(["napkin can absorb liquid like socks", "five words are too few"])
    assert [find.item for find in index.find(["A napkin can absorb liquid, like socks."])] == [0]
    assert not list(index.find(["A napkin can absorb liquid like a towel. five words are too few"]))
    assert index.unsearchable == [1]


def test_nothing_is_found_across_two_texts():
    words = ITEM.split()
    assert not list(NgramIndex([ITEM]).find([" ".join(words[:8]), " ".join(words[8:])]))


@pytest.mark.parametrize(
    "filler", ["word ", "unendliches—", "字", "x"], ids=["words", "dashes", "no spaces", "one word"]
)
@pytest.mark.parametrize("at", [0, 130_900, 131_072, 262_000, 500_000])
def test_a_long_text_is_read_whole_wherever_its_pieces_end(filler: str, at: int):
    long = filler * (600_000 // len(filler))
    text = f"{long[:at]} {ITEM} {long[at:]}"
    found = list(NgramIndex([ITEM]).find(["before", text]))
    assert [find.at for find in found] == list(range(len(words_of(ITEM)) - 12)), "each run once"
    assert {find.text for find in found} == {1}
    assert text[found[0].start :].startswith("Which is a response")
    assert text[: found[-1].end].endswith("shivering")


def test_many_texts_and_many_items_are_kept_apart():
    draw = random.Random(0)
    vocabulary = [f"w{n}" for n in range(5000)]
    items = [" ".join(draw.choices(vocabulary, k=draw.choice([7, 20]))) for _ in range(2000)]
    texts = [" ".join(draw.choices(vocabulary, k=300)) for _ in range(1000)]
    hidden = {n: draw.randrange(2000) for n in draw.sample(range(1000), 50)}
    for number, item in hidden.items():
        texts[number] += f" {items[item]} " + " ".join(draw.choices(vocabulary, k=50))
    assert {(find.text, find.item) for find in NgramIndex(items).find(texts)} == set(hidden.items())


def test_nothing_to_look_for_and_nothing_to_look_in():
    assert not list(NgramIndex([]).find(["some text of no consequence at all, but of many words, more than thirteen"]))
    assert not list(NgramIndex([ITEM]).find([]))
    assert not list(NgramIndex([ITEM, ""]).find(["", " ", "\udc80\ud800", "…"]))
