"""The village questions: what is lenient, what chance is, which tales are asked about."""

from itertools import islice

from smidgen.tasks import VillageQuestions, load_task
from smidgen.tasks.base import normalize_answer


def test_the_command_line_asks_the_test_questions_in_their_order():
    asked, known = load_task("village"), VillageQuestions("test", 500)
    assert [e.id for e in islice(asked.examples(), 500)] == [e.id for e in known.examples()]
    assert all(0 < example.chance <= 1 for example in known.examples())


def test_lenient_forgives_case_articles_and_punctuation():
    task = VillageQuestions(n_examples=200)
    example = next(e for e in task.examples() if e.answer.startswith("the "))
    grade = task.grade(example, example.answer.removeprefix("the ").upper() + ".")
    assert (grade.strict, grade.lenient) == (0, 1)
    assert not task.grade(example, "").formatted
    assert not task.grade(example, "word " * 30).formatted
    assert normalize_answer(" The  Kite! ") == "kite"


def test_chance_is_far_below_what_a_reader_scores():
    chances = [example.chance for example in VillageQuestions(n_examples=400).examples()]
    assert 0.25 < sum(chances) / len(chances) < 0.5


def test_validation_and_test_ask_different_questions():
    asked = [{e.question for e in VillageQuestions(split, 200).examples()} for split in ("validation", "test")]
    assert not asked[0] & asked[1]
