"""Looking a text up in a table decides what the expressions it saves would have decided."""

import re
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.data.cleaning.characters import LETTER, MENDABLE, SIGN, SPACE, code_points, count_kinds, kinds_of
from smidgen.data.cleaning.offensive import Offensive, OffensiveConfig
from smidgen.data.cleaning.personal import Personal, PersonalConfig, _Numbers
from smidgen.data.cleaning.repair import _MAY_BE_MOJIBAKE, Repair, RepairConfig, _may_be_mojibake
from smidgen.data.cleaning.step import Kept

ANY = st.text(st.characters(), max_size=60)
NUMBERS = st.text("0127٣ .-:()+aF@Bb", max_size=40)
STREETS = st.lists(
    st.sampled_from(["12", "1945", "b", " ", "B", "Main", "of", "Street", "Ave", ",", "\n"]), max_size=12
)
WORDS = st.lists(st.sampled_from(["jerk", "off", "Jerk", "OFF", "é", "_", " ", "\n", ".", "stupid", "“", "Stupid"]))


@settings(deadline=None)  # the first builds tables
@given(ANY)
def test_kinds_are_those_of_the_expressions(text: str) -> None:
    counts = count_kinds(kinds_of(code_points(text)))
    assert counts[LETTER] == len(re.findall(r"[^\W\d_]", text))
    assert len(text) - counts[SPACE] == len("".join(text.split()))


@settings(deadline=None)  # the first builds tables
@given(ANY)
def test_what_is_not_mendable_repair_leaves_as_it_is(text: str) -> None:
    if count_kinds(kinds_of(code_points(text)))[MENDABLE]:
        return
    verdict = Repair(RepairConfig(mojibake=False, lost="keep", unwrap=False))(text)
    assert isinstance(verdict, Kept)
    assert not verdict.changes


@settings(deadline=None)  # the first builds tables
@given(st.text("aÂÃ é€", max_size=8))
def test_mojibake_is_suspected_where_the_expression_suspects_it(text: str) -> None:
    assert _may_be_mojibake(code_points(text), text) == bool(_MAY_BE_MOJIBAKE.search(text))


@settings(deadline=None)  # the first builds tables
@given(NUMBERS | STREETS.map("".join) | STREETS.map(" ".join))
def test_ruling_out_kinds_of_numbers_changes_no_verdict(text: str) -> None:
    step = Personal(PersonalConfig())
    ruled_out = step(text)
    with patch.object(_Numbers, "may_hold", lambda self, kind: True):
        assert step(text) == ruled_out


@settings(deadline=None)  # the first builds tables
@given(WORDS.map("".join))
def test_the_words_looked_for_in_a_text_find_what_the_whole_list_does(text: str) -> None:
    step = Offensive(OffensiveConfig(words=("éé", "стоп")))
    proposed = step._proposed(text)
    assert any(pattern.search(text) for pattern in proposed) == bool(step._listed.search(text))


@settings(deadline=None)  # the first builds tables
@given(st.text("अआ्ि a1½", max_size=20))
def test_vowel_signs_are_told_from_letters(text: str) -> None:
    counts = count_kinds(kinds_of(code_points(text)))
    assert counts[SIGN] == sum("\u0900" <= c <= "\u109f" and not c.isalpha() for c in text)


def test_the_classifier_taken_out_of_its_library_says_what_the_library_does() -> None:
    library = pytest.importorskip("profanity_check")
    texts = ["you stupid idiot", "The jerk of the pump is small.", "", "shut up and go to hell", "Ça va bien."] * 3
    found = Offensive(OffensiveConfig())._probabilities(texts)
    assert found == pytest.approx(library.predict_prob(texts).tolist(), abs=1e-9)
