"""Laws of the training mix, the retellings and the second language; how repetitive the text is."""

import re
from collections import Counter
from itertools import islice, pairwise

import pytest
import zstandard

from smidgen.data.village import VillageConfig, documents, tell
from smidgen.data.village.clauses import FRAMES
from smidgen.data.village.language import inflect, roots
from smidgen.data.village.words import vocabulary

STORIES = VillageConfig(stories=1, questions=0, summaries=0, sentiments=0, dialogues=0, translations=0)


def stories(n_bytes):
    return "\n\n".join(document.text for document in documents(STORIES, n_bytes=n_bytes))


def test_documents_are_reproducible_and_stop_where_asked():
    config = VillageConfig(seed=5)
    first = list(documents(config, n_documents=50))
    assert first == list(documents(config, n_documents=50))
    assert len(first) == 50
    assert first == list(islice(documents(config), 50))
    small = list(documents(config, n_bytes=20_000))
    size = [len(d.text) + sum(len(m.content) for m in d.messages) for d in small]
    assert sum(size[:-1]) < 20_000 <= sum(size)


def test_documents_are_stories_or_conversations_with_alternating_turns():
    kinds = Counter()
    for document in documents(VillageConfig(), n_documents=800):
        assert bool(document.text) != bool(document.messages)
        kinds["story" if document.text else "chat"] += 1
        for at, message in enumerate(document.messages):
            assert message.role == ("user", "assistant")[at % 2]
            assert message.content.strip() == message.content != ""
        assert len(document.messages) % 2 == 0
    assert 0.08 < kinds["story"] / 800 < 0.16


def test_zstd_cannot_make_two_megabytes_of_stories_six_times_smaller():
    text = stories(2_000_000)
    ratio = len(text) / len(zstandard.ZstdCompressor(level=19).compress(text.encode()))
    assert ratio < 5.5
    assert len(set(re.findall(r"[a-z]+", text.lower()))) >= 2000


@pytest.mark.slow
def test_zstd_cannot_make_ten_megabytes_of_stories_six_times_smaller():
    text = stories(10_000_000)
    ratio = len(text) / len(zstandard.ZstdCompressor(level=19).compress(text.encode()))
    assert ratio < 6
    assert len(set(re.findall(r"[a-z]+", text.lower()))) >= 2000


def test_summaries_are_one_sentence_about_people_of_the_tale():
    for index in range(300):
        tale = tell(1, "train", index)
        assert re.fullmatch(r"[A-Z][^.]*\.", tale.summary), tale.summary
        assert any(p.name in tale.summary for p in tale.world.people)


def test_all_three_sentiments_are_common():
    counts = Counter(tell(1, "train", index).sentiment for index in range(600))
    assert set(counts) == {"positive", "negative", "neutral"}
    assert min(counts.values()) > 90


def test_dialogues_are_between_two_people_in_turn():
    for index in range(200):
        lines = tell(1, "train", index).dialogue.split("\n")
        speakers = [line.split(":")[0] for line in lines]
        assert len(set(speakers)) == 2
        assert all(a != b for a, b in pairwise(speakers))


def test_roots_differ_and_every_verb_has_one():
    table = roots()
    assert len(set(table.values())) == len(table)
    assert {verb for verb, _ in FRAMES.values()} <= table.keys()


def test_translation_is_a_function_and_can_be_undone():
    seen = {}
    for index in range(400):
        for pair in tell(1, "train", index).translations:
            assert seen.setdefault(pair.tavi, pair.english) == pair.english, pair
    assert len(seen) > 1500


def test_tavi_grammar():
    tale = next(
        t for t in (tell(0, "train", i) for i in range(2000)) if any(" gave the " in p.english for p in t.translations)
    )
    pair = next(p for p in tale.translations if " gave the " in p.english)
    match = re.fullmatch(r"(\w+) gave the (\w+) (\w+) to (\w+)\.", pair.english)
    assert match
    giver, adjective, noun, receiver = match.groups()
    ending = "k" if vocabulary().by_text[giver].group == "woman" else "s"
    table = roots()
    expected = (
        f"{inflect(table['gave'], 'ta', ending).capitalize()} {giver} {inflect(table[noun], 'il')} "
        f"{inflect(table[adjective], 'il')} {inflect(receiver, 'ash')}."
    )
    assert pair.tavi == expected
