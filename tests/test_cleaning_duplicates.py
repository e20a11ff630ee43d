"""What is found twice: planned banding against measured recall, clusters, paragraphs, boilerplate."""

import numpy as np
import pytest

from smidgen.data.cleaning.boilerplate import Boilerplate, BoilerplateConfig
from smidgen.data.cleaning.exact import ExactConfig, ExactDocuments, ExactParts
from smidgen.data.cleaning.minhash import (
    Banding,
    Near,
    NearConfig,
    agreement,
    plan_banding,
    similarity_after,
)
from smidgen.data.cleaning.step import CorpusStep, Dropped, Kept, Record
from smidgen.errors import ConfigError


def words(seed: int, count: int) -> list[str]:
    return ["".join(row) for row in np.random.default_rng(seed).choice(list("abcdefghij"), (count, 5))]


def changed(text: list[str], share: float, seed: int) -> list[str]:
    """The words with a share of them replaced."""
    generator = np.random.default_rng(seed)
    new = list(text)
    for at in generator.choice(len(text), round(share * len(text)), replace=False):
        new[at] = f"x{generator.integers(10**9)}"
    return new


def judged(step: CorpusStep, texts: list[str]) -> list[object]:
    records = [Record(str(n), text) for n, text in enumerate(texts)]
    judge = step.judge(step.decide([step.collect(records)]))
    return [judge(record) for record in records]


def test_a_plan_reaches_its_recall_with_the_most_rows():
    for similarity in (0.4, 0.6, 0.8, 0.95):
        for recall in (0.9, 0.99, 0.999):
            plan = plan_banding(similarity, recall, 256)
            assert plan.probability(similarity) >= recall
            assert plan.hashes <= 256
            assert Banding(plan.bands - 1, plan.rows).probability(similarity) < recall
            more = Banding(256 // (plan.rows + 1), plan.rows + 1)
            assert more.probability(similarity) < recall


def test_a_recall_that_cannot_be_reached_is_refused():
    with pytest.raises(ConfigError, match="8 hashes cannot find pairs"):
        Near(NearConfig(similarity=0.2, recall=0.999, max_hashes=8))


@pytest.mark.parametrize("ngram", [2, 3, 5])
def test_similarity_after_changes_is_what_texts_show(ngram: int):
    text = words(1, 4_000)
    runs = [{tuple(t[n : n + ngram]) for n in range(len(t))} for t in (text, changed(text, 0.05, 2))]
    measured = len(runs[0] & runs[1]) / len(runs[0] | runs[1])
    assert measured == pytest.approx(similarity_after(0.05, ngram), abs=0.03)


def test_minima_agree_as_often_as_sets_are_alike():
    step = Near(NearConfig(max_hashes=1024, similarity=0.8, recall=0.999))
    text = words(3, 2_000)
    for share in (0.0, 0.05, 0.2):
        records = [Record("a", " ".join(text)), Record("b", " ".join(changed(text, share, 4)))]
        found = agreement(step.collect(records)["minima"], np.array([0]), np.array([1]))
        assert found[0] == pytest.approx(similarity_after(share, 3), abs=0.06)


def test_banding_finds_as_many_pairs_as_planned():
    step = Near(NearConfig(similarity=0.6, recall=0.9, max_hashes=60))
    texts = [words(seed, 300) for seed in range(400)]
    share = 1 - (2 * 0.6 / 1.6) ** (1 / 3)  # of words changed, for a similarity of 0.6 in runs of three
    pairs = [(text, changed(text, share, seed)) for seed, text in enumerate(texts)]
    tables = [
        step.collect([Record(str(n), " ".join(text)) for n, text in enumerate(side)])["bands"]
        for side in zip(*pairs, strict=True)
    ]
    met = (tables[0] == tables[1]).any(axis=0).mean()
    assert met >= 0.9 - 0.05  # similarity scatters about 0.6, which costs a little of the recall


def test_five_percent_of_words_changed_is_a_duplicate_and_another_text_is_not():
    texts = [words(seed, 200) for seed in range(200)]
    copies = [changed(text, 0.05, seed) for seed, text in enumerate(texts)]
    verdicts = judged(Near(NearConfig()), [" ".join(text) for text in texts + copies])
    assert all(isinstance(verdict, Kept) for verdict in verdicts[:200])
    assert sum(isinstance(verdict, Dropped) for verdict in verdicts[200:]) >= 198


def test_of_a_chain_of_likeness_the_first_stays():
    text = words(5, 400)
    chain = [text]
    for seed in range(6):
        chain.append(changed(chain[-1], 0.03, seed))
    verdicts = judged(Near(NearConfig()), [" ".join(link) for link in chain])
    assert isinstance(verdicts[0], Kept)
    assert set(verdicts[1:]) == {Dropped("near:document", f"of {Record('0', '').key:016x}")}


def test_texts_without_words_are_like_no_other():
    assert judged(Near(NearConfig()), ["", "...", "one two", "", "..."]) == [
        Kept(text) for text in ("", "...", "one two", "", "...")
    ]


@pytest.mark.parametrize(
    ("compare", "dropped"), [("exactly", {1}), ("spaces", {1, 2}), ("case", {1, 2, 3})], ids=lambda x: str(x)
)
def test_what_counts_as_the_same(compare, dropped: set[int]):
    texts = ["A mill.\nA door.", "A mill.\nA door.", "A  mill. A door.", "a mill.\na DOOR.", "A mill. A dour."]
    verdicts = judged(ExactDocuments(ExactConfig(compare=compare)), texts)
    assert {n for n, verdict in enumerate(verdicts) if isinstance(verdict, Dropped)} == dropped


@pytest.mark.parametrize(("unit", "gap"), [("paragraph", "\n\n"), ("line", "\n")])
def test_every_long_part_stays_exactly_once(unit, gap: str):
    parts = [" ".join(words(seed, 8)) for seed in range(6)]
    texts = [gap.join(parts[n] for n in row) for row in ([0, 1, 0], [1, 2], [2, 2], [3, 0, 4, "History"][:3], [5])]
    texts[3] += gap + "History"
    texts[4] += gap + "History"
    verdicts = judged(ExactParts(ExactConfig(unit=unit, min_characters=20)), texts)
    kept = gap.join(verdict.text for verdict in verdicts if isinstance(verdict, Kept)).split(gap)
    assert sorted(part for part in kept if part != "History") == sorted(parts)
    assert kept.count("History") == 2
    assert verdicts[2] == Dropped(f"exact:every_{unit}", "2")


def test_lines_of_many_pages_are_cut_and_headings_stay():
    pages = [f"History\n\n{' '.join(words(n, 30))}\n\nLast seen: {n} times by Example Press." for n in range(12)]
    pages.append("Last seen: 77 times by Example Press.")
    verdicts = judged(Boilerplate(BoilerplateConfig()), pages)
    assert verdicts[3] == Kept(f"History\n\n{' '.join(words(3, 30))}", {"boilerplate:line": 1})
    assert verdicts[-1] == Dropped("boilerplate:only", "1 lines")
    assert judged(Boilerplate(BoilerplateConfig()), pages[:9]) == [Kept(page) for page in pages[:9]]
