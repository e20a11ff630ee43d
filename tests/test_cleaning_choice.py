"""Personal data, evaluation items, breadth and mixtures."""

import json
from pathlib import Path

import numpy as np
import pytest

from smidgen.data.cleaning.decontaminate import Decontaminate, DecontaminateConfig, items_of
from smidgen.data.cleaning.diversity import Diversity, DiversityConfig, shared_evenly
from smidgen.data.cleaning.mixing import MixConfig, SourceShare, copies, plan_epochs
from smidgen.data.cleaning.personal import Personal, PersonalConfig, luhn
from smidgen.data.cleaning.step import Dropped, Kept, Record
from smidgen.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to wei.rossi+a@mail.example.com.", "Write to <EMAIL>."),
        ("from 192.0.2.249, then", "from <IP>, then"),
        ("at 2001:db8::ff00:42:8329 now", "at <IP> now"),
        ("card 4111 1111 1111 1111 please", "card <CARD> please"),
        ("card 4111-1111-1111-1111.", "card <CARD>."),
        ("his number 078-05-1120 was", "his number <SSN> was"),
        ("call +1-202-555-0182 or (555) 555-0192", "call <PHONE> or <PHONE>"),
        ("call 202-555-0182, 202.555.0182, 1-202-555-0182", "call <PHONE>, <PHONE>, <PHONE>"),
        ("call +49 (30) 1234 5678 or +44 20 7946 0018", "call <PHONE> or <PHONE>"),
        ("lives at 258 Example Street, Springfield.", "lives at <STREET>."),
        ("lives at 12 Old Mill Road, Springfield, IL 62704", "lives at <STREET>"),
    ],
)
def test_what_reaches_a_person_is_masked(text: str, masked: str):
    verdict = Personal(PersonalConfig())(text)
    assert isinstance(verdict, Kept)
    assert verdict.text == masked
    assert sum(verdict.changes.values()) == masked.count("<")


@pytest.mark.parametrize(
    "text",
    [
        "From 1914-1918 and in 2014-09-11 the 1939-45 war",
        "pi is 3.14159265358979 and e 2.718281828459045",
        "version 1.2.3.4 and v10.0.0.1",
        "ISBN 978-3-16-148410-0, 1234 5678 9012 3456",
        "@smidgen says a@b",
        "scores of 12:30:45 and 300.300.300.300",
        "the number 1000000000000000 and 0000 0000 0000 0000",
        "In 1990 Main Street was long; 5 roads",
        "sections 555-12-3456-7 and 666-12-3456",
        "std::vector a::b and C::D",
    ],
)
def test_ordinary_numbers_stay(text: str):
    assert Personal(PersonalConfig())(text) == Kept(text)


def test_only_the_kinds_asked_for_are_masked():
    config = PersonalConfig(kinds=("email",), mask="[{kind}]")
    assert Personal(config)("a.b@example.com 192.0.2.1") == Kept("[EMAIL] 192.0.2.1", {"personal:email": 1})


def test_luhn_knows_every_single_wrong_digit():
    assert luhn("4111111111111111")
    for at in range(16):
        wrong = list("4111111111111111")
        wrong[at] = str((int(wrong[at]) + 3) % 10)
        assert not luhn("".join(wrong))


QUESTION = "Which of the rivers that meet at the old mill is loud enough in spring to wake the child of the miller"


@pytest.fixture
def items(tmp_path: Path) -> Path:
    rows = [
        {"question": QUESTION, "choices": {"text": ["the northern one", "neither"], "label": ["A", "B"]}},
        {"goal": "open a jar", "sol1": "turn the lid", "sol2": "break it"},
    ]
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize(
    "item", [QUESTION + "?", QUESTION.upper(), "Open a jar: turn the lid.", QUESTION.replace(" ", "\n")]
)
def test_items_are_cut_however_they_are_set(items: Path, item: str):
    text = f"One paragraph.\n\nBefore it. {item} After it.\n\nAnother one."
    verdict = Decontaminate(DecontaminateConfig(against=(items,)))(text)
    assert verdict == Kept("One paragraph.\n\nAnother one.", {"decontaminate:paragraph": 1})
    dropped = Decontaminate(DecontaminateConfig(against=(items.parent,), action="drop"))(text)
    assert isinstance(dropped, Dropped)
    assert isinstance(Decontaminate(DecontaminateConfig(against=(items,)))(item), Dropped)


def test_what_merely_sounds_alike_stays(items: Path):
    text = "Turn the lid of a jar to open it. Which of the rivers is loud in spring?"
    assert Decontaminate(DecontaminateConfig(against=(items,)))(text) == Kept(text)


def test_items_of_a_record_are_its_strings_and_its_pairs():
    assert list(items_of({"a": "x", "b": ["y", {"c": "z"}], "n": 3})) == ["x", "y", "z", "x y", "x z", "y z"]


def test_files_without_items_are_refused(tmp_path: Path):
    (tmp_path / "empty.jsonl").write_text("")
    for path in (tmp_path, tmp_path / "empty.jsonl"):
        with pytest.raises(DataError, match="no evaluation items"):
            Decontaminate(DecontaminateConfig(against=(path,)))("text")


def subjects() -> list[Record]:
    """Ninety documents about one thing and ten about another."""
    generator = np.random.default_rng(0)
    vocabularies = [[f"{subject}{n}" for n in range(60)] for subject in ("mill", "star")]
    texts = [" ".join(generator.choice(vocabularies[n >= 90], 80)) for n in range(100)]
    return [Record(str(n), text) for n, text in enumerate(texts)]


def test_a_small_budget_covers_the_breadth():
    records = subjects()
    whole = sum(len(record.text) for record in records)
    step = Diversity(DiversityConfig(max_bytes=whole // 4, clusters=2, seed=1))
    judge = step.judge(step.decide([step.collect(records)]))
    kept = [record for record in records if isinstance(judge(record), Kept)]
    size = sum(len(record.text) for record in kept)
    assert whole // 4 <= size + 600
    assert size <= whole // 4 + 2 * 600
    assert sum(int(record.id) >= 90 for record in kept) == 10  # a plain sample of a quarter would have two or three


def test_with_room_for_all_all_stay():
    records = subjects()
    step = Diversity(DiversityConfig(max_bytes=10**9))
    judge = step.judge(step.decide([step.collect(records)]))
    assert all(judge(record) == Kept(record.text) for record in records)


def test_water_rises_evenly():
    sizes = np.array([5, 100, 50, 0])
    np.testing.assert_array_equal(shared_evenly(sizes, 65), [5, 30, 30, 0])
    np.testing.assert_array_equal(shared_evenly(sizes, 10**6), sizes)
    assert shared_evenly(sizes, 107).sum() == 107


SIZES = {"books": 1000, "code": 100, "chat": 10}


def test_sources_as_they_are_are_one_epoch_each():
    assert plan_epochs(SIZES, {}, MixConfig()) == pytest.approx(dict.fromkeys(SIZES, 1.0))
    assert plan_epochs(SIZES, {}, MixConfig(symbols=555)) == pytest.approx(dict.fromkeys(SIZES, 0.5))


def test_weights_are_shares_of_the_mixture():
    shares = {"books": SourceShare(weight=7), "code": SourceShare(weight=3), "chat": SourceShare(epochs=2)}
    epochs = plan_epochs(SIZES, shares, MixConfig(symbols=320))
    assert epochs["chat"] == 2
    assert epochs["books"] * 1000 == pytest.approx(210)
    assert epochs["code"] * 100 == pytest.approx(90)


def test_a_source_is_not_gone_through_too_often():
    shares = {name: SourceShare(weight=1) for name in SIZES}
    epochs = plan_epochs(SIZES, shares, MixConfig(symbols=600, max_epochs=4))
    assert epochs["chat"] == 4
    assert epochs["code"] == pytest.approx(2.8)
    assert sum(epochs[name] * SIZES[name] for name in SIZES) == pytest.approx(600)


def test_a_temperature_evens_sources_out():
    even = plan_epochs(SIZES, {}, MixConfig(temperature=2, symbols=100, max_epochs=100))
    assert even["chat"] / even["books"] == pytest.approx(10.0)  # (1/10)^(1/2) of the symbols of a hundredth of the size


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"bokks": SourceShare(weight=1)}, "no source is called 'bokks'"),
        ({"books": SourceShare(weight=1)}, "chat, code has no weight"),
        ({"books": SourceShare(weight=1, epochs=2)}, "two of weight"),
    ],
)
def test_mixtures_that_cannot_be_meant_are_refused(shares: dict[str, SourceShare], message: str):
    with pytest.raises(ConfigError, match=message):
        plan_epochs(SIZES, shares, MixConfig())


def test_epochs_become_whole_documents():
    counts = [copies(str(n), 2.25) for n in range(4000)]
    assert set(counts) == {2, 3}
    assert np.mean(counts) == pytest.approx(2.25, abs=0.03)
    assert counts == [copies(str(n), 2.25) for n in range(4000)]
    assert {copies(str(n), 0.0) for n in range(100)} == {0}
