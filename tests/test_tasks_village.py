"""The contract of a task, kept by the village questions."""

from smidgen.tasks import TASKS, VillageQuestions
from smidgen.tasks.base import normalize_answer


def test_every_task_keeps_the_contract():
    for name, make in TASKS.items():
        task = make(500)
        assert task.name == name
        examples = list(task.examples())
        assert [e.id for e in examples] == [e.id for e in task.examples()]
        assert len({e.id for e in examples}) == len(examples)
        for example in examples[:50]:
            messages = task.prompt(example)
            assert messages[-1].role == "user"
            assert example.question in messages[-1].content
            right = task.grade(example, example.answer)
            assert (right.strict, right.lenient, right.formatted) == (1, 1, True)
            assert task.reward(example, example.answer) == 1
            assert task.reward(example, "something else entirely") == 0
            assert 0 < example.chance <= 1


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
