"""How answers are graded, case by case: what is right, what is right in another form, what only looks right."""

from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import pytest

from smidgen.tasks import Example, Task, load_task
from smidgen.tasks.arithmetic import LEVELS, work_out
from smidgen.tasks.dialogue import grade as grade_reply
from smidgen.tasks.expressions import find_expression, work_out_expression
from smidgen.tasks.grading import grade_choice, grade_likeness, grade_number, last_number
from smidgen.tasks.gsm8k import grade as grade_gsm8k
from task_files import make_task_files


def scores(grade) -> tuple[float, float, bool]:
    return grade.strict, grade.lenient, grade.formatted


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("42", (1, 1, True)),
        ("42.", (0, 1, False)),
        ("17 + 25 = 42", (0, 1, False)),
        ("The sum is 42, of course.", (0, 1, False)),
        ("42 and not 43", (0, 0, False)),
        ("43", (0, 0, True)),
        ("-42", (0, 0, True)),
        ("042", (0, 1, True)),
        ("42.0", (0, 1, False)),
        ("$42", (0, 1, False)),
        ("#### 42", (0, 1, False)),
        ("٤٢", (0, 0, False)),
        ("forty-two", (0, 0, False)),
    ],
)
def test_a_number_alone(answer: str, expected: tuple[float, float, bool]):
    assert scores(grade_number(answer, "42")) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("17 + 25 = 42\n#### 42", (1, 1, True)),
        ("#### 42", (1, 1, True)),
        ("42", (0, 1, False)),
        ("#### 42\nThat is it.", (0, 1, False)),
        ("#### 41\n#### 42", (0, 1, False)),
        ("so #### 42", (0, 1, False)),
        ("#### 41", (0, 0, True)),
    ],
)
def test_a_number_after_the_working(answer: str, expected: tuple[float, float, bool]):
    assert scores(grade_number(answer, "42", marked=True)) == expected


def test_numbers_are_read_as_people_write_them():
    assert last_number("1,234.50 and then -7") == -7
    assert last_number("it costs $1,234.50!") == Fraction(2469, 2)
    assert last_number("none") is None


@pytest.mark.parametrize(
    ("answer", "strict", "flexible"),
    [
        # What lm-eval's two filters and its exact match make of each, worked out by hand from gsm8k.yaml.
        ("16 - 7 = 9\n#### 9", 1, 1),
        ("#### 9\n\nQuestion: 5", 1, 0),
        ("#### $9", 0, 1),
        ("####9", 0, 1),
        ("#### 9.", 1, 1),
        ("#### 9.0", 0, 0),
        ("The answer is 9.", 0, 1),
        ("The answer is $9", 0, 1),
        ("She makes 9 dollars in 3 days", 0, 0),
        ("#### 8\n#### 9", 0, 1),
        ("nine", 0, 0),
    ],
)
def test_gsm8k_is_graded_as_lm_eval_grades_it(answer: str, strict: int, flexible: int):
    grade = grade_gsm8k(Example("", "", "", extra={"number": "9"}), answer)
    assert (grade.strict, grade.lenient) == (strict, max(strict, flexible))


def test_gsm8k_ignores_thousands_separators_and_drops_the_calculator(tmp_path: Path):
    task = load_task("gsm8k", make_task_files(tmp_path))
    example = next(e for e in task.examples() if e.extra["number"] == "1001")
    assert "<<" not in example.answer
    assert example.answer.endswith("#### 1,001")
    assert task.grade(example, "#### 1001").strict == 1 == task.grade(example, "1,001").lenient


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(3 + 5) * 2", 16),
        ("1/3", Fraction(1, 3)),
        ("7", 7),
        ("3 + 5 =", None),
        ("2 ** 9", None),
        ("7 // 2", None),
        ("-3 + 5", None),
        ("1/0", None),
        ("(1, 2)", None),
        ("03 + 1", None),
        ("1 2", None),
        ("", None),
    ],
)
def test_expressions_are_worked_out_exactly_and_never_run(text: str, value: Fraction | None):
    worked = work_out_expression(text)
    assert (worked.value if worked else None) == value


def test_an_expression_is_found_in_prose():
    found = find_expression("First 3 + 5 = 8, so (3 + 5) × 2 = 16.")
    assert found is not None
    assert (found.value, found.numbers) == (16, (2, 3, 5))


def test_countdown_takes_any_solution_that_keeps_the_rule():
    task = load_task("countdown")
    example = Example("", "16 from the numbers 5, 2, 3", "", extra={"target": 16, "numbers": [2, 3, 5]})
    assert scores(task.grade(example, "2 * (5 + 3)")) == (1, 1, True)
    assert scores(task.grade(example, "We take (3 + 5) * 2 = 16")) == (0, 1, False)
    assert scores(task.grade(example, "8 * 2")) == (0, 0, True)
    assert scores(task.grade(example, "16")) == (0, 0, True)
    assert scores(task.grade(example, "(3 + 5) * 2 + 2 - 2")) == (0, 0, True)
    rewards = [task.reward(example, said) for said in ("2 * (5 + 3)", "= 2 * (5 + 3)", "2 + 3 + 5", "8 * 2", "")]
    assert rewards == [1, 0.5, 0.1, 0, 0]


def test_arithmetic_is_worked_out_products_first():
    assert work_out("17 - 5 * 2 + 1") == [("5 * 2", 10), ("17 - 10", 7), ("7 + 1", 8)]
    task = load_task("arithmetic:hard,form=working")
    for example in islice(task.training_examples(0), 300):
        assert eval(example.question) == int(example.extra["number"])
        assert all(eval(line.replace("=", "==")) for line in example.answer.splitlines()[:-1])


@pytest.mark.parametrize("level", LEVELS)
def test_every_rung_of_the_ladder_has_questions_of_its_kind(level: str):
    task = load_task(f"arithmetic:{level}")
    tested = list(task.examples())
    small = level.startswith("1digit-") or "largest" in LEVELS[level]
    assert len(tested) >= (10 if small else 150), len(tested)
    assert len({e.question for e in tested}) == len(tested)
    for example in tested:
        assert eval(example.question) == int(example.extra["number"]) >= 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("7 + 5 = 12", (1, 1, True)),
        ("7+5 = 12.", (1, 1, True)),
        ("7 + 5 = 13", (0, 0, True)),
        ("12", (0, 1, False)),
        ("5 + 7 = 12", (0, 1, False)),
        ("7 + 5 = 12, as I said", (0, 1, False)),
        ("7 + 5 =", (0, 0, False)),
    ],
)
def test_an_equation_is_the_question_with_its_result(answer: str, expected: tuple[float, float, bool]):
    task = load_task("arithmetic:sums,form=equation")
    example = Example("", "7 + 5", "7 + 5 = 12", extra={"number": "12"})
    graded = task.grade(example, answer)
    assert (graded.strict, graded.lenient, graded.formatted) == expected


def test_the_same_sum_in_another_order_is_on_the_same_side():
    task = load_task("arithmetic:2by1-add")
    tested = {frozenset(e.question.split(" + ")) for e in task.examples()}
    trained = {frozenset(e.question.split(" + ")) for e in islice(task.training_examples(0), 3000)}
    assert not tested & trained
    assert len(trained) > 500


def test_json_is_graded_by_what_it_says():
    task = load_task("json")
    facts = {"name": "Mira", "age": 34, "job": "baker", "city": "Oslo"}
    example = Example("", "", "", extra={"facts": facts})
    right = '{"city": "Oslo", "job": "baker", "age": 34, "name": "Mira"}'
    assert scores(task.grade(example, right)) == (1, 1, True)
    assert scores(task.grade(example, f"```json\n{right}\n```")) == (0, 1, False)
    assert scores(task.grade(example, right.replace("34", '"34"').replace("Oslo", "oslo"))) == (0, 1, False)
    assert scores(task.grade(example, right.replace("34", "true"))) == (0, 0, False)
    assert scores(task.grade(example, right.replace("34", "35"))) == (0, 0, True)
    assert task.reward(example, right.replace("34", "35")) == pytest.approx(0.3)
    assert scores(task.grade(example, f"[{right}]")) == (0, 1, False)
    assert task.grade(example, right[:-1] + ', "pet": "cat"}').lenient == 0


def test_the_facts_stand_in_the_text():
    for example in islice(load_task("json").training_examples(1), 200):
        assert all(str(value) in example.question for value in example.extra["facts"].values())
        assert " a a" not in example.question
        assert " a e" not in example.question


def test_letters_are_counted_and_every_count_is_as_likely():
    task = load_task("letters:words=2")
    counts = [0, 0, 0]
    for example in islice(task.training_examples(0), 600):
        letter, text = example.question.split('"')[1::2]
        assert text.count(letter) == int(example.answer)
        counts[min(2, int(example.answer))] += 1
    assert min(counts) > 100


def test_sorting_takes_the_end_of_an_answer_leniently():
    task = load_task("sorting")
    example = Example("", "30, 4, 12", "4, 12, 30")
    assert scores(task.grade(example, "4, 12, 30")) == (1, 1, True)
    assert scores(task.grade(example, "30, 4, 12 sorted: 4 12 30")) == (0, 1, False)
    assert scores(task.grade(example, "4, 30, 12")) == (0, 0, True)
    assert task.reward(example, "4, 30, 12") == pytest.approx(0.25 / 3)
    assert task.reward(example, "4, 5, 6") == 0


@pytest.mark.parametrize(("name", "flat"), [("countdown", True), ("sorting", True), ("json", True), ("letters", False)])
def test_what_is_right_in_another_form_earns_a_half_or_less_the_longer_it_is(name: str, flat: bool):
    task = load_task(name)
    example = next(iter(task.examples()))
    short, long = (task.reward(example, f"{said} {example.answer}") for said in ("It:", "As far as I can tell it is"))
    assert short == long == 0.5 if flat else 0.25 < long < short < 0.5


def test_a_choice_that_says_both_is_no_choice():
    labels = ("negative", "positive")
    assert scores(grade_choice("positive", "positive", labels)) == (1, 1, True)
    assert scores(grade_choice("Positive.", "positive", labels)) == (0, 1, False)
    assert scores(grade_choice("positive or negative", "positive", labels)) == (0, 0, False)
    assert scores(grade_choice("negative", "positive", labels)) == (0, 0, True)


def test_a_reply_is_chosen_by_its_letter_or_its_words():
    example = Example("", "", "B", extra={"reply": "I don't know.", "letters": ("A", "B", "C", "D")})
    for answer, expected in (
        ("B", (1, 1, True)),
        ("B) I don't know.", (0, 1, False)),
        ("The answer is B.", (0, 1, False)),
        ("I don't know", (0, 1, False)),
        ("A or B", (0, 0, False)),
        ("A", (0, 0, True)),
        ("E", (0, 0, False)),
        ("b", (0, 0, False)),
    ):
        assert scores(grade_reply(example, answer)) == expected, answer


def test_an_article_is_no_letter():
    example = Example("", "", "A", extra={"reply": "I don't know.", "letters": ("A", "B", "C", "D")})
    for answer in (
        "A",
        "A.",
        "A) I don't know.",
        "I say A",
        "A is right",
        "It is A because",
        "A comes next",
        "A, I think",
    ):
        assert grade_reply(example, answer).lenient == 1, answer
    for answer in ("A walk would be nice.", "Yes! A walk", "A or B", "A and C", "A walk, so B"):
        assert grade_reply(example, answer).lenient == 0, answer
    assert grade_reply(replace(example, answer="B"), "A walk, so B").lenient == 1


def test_likeness_looks_past_an_announcement_and_strictly_allows_none():
    def same(said: str) -> float:
        return float(said == "Ein Hund.")

    assert scores(grade_likeness("Ein Hund.", same)) == (1, 1, True)
    assert scores(grade_likeness("Here it is:\n\nEin Hund.", same)) == (0, 1, False)
    assert scores(grade_likeness("Ein Hund.\nIt means dog.", same)) == (0, 1, False)
    assert scores(grade_likeness("", same)) == (0, 0, False)


@pytest.fixture
def likeness_tasks(tmp_path: Path) -> list[Task]:
    files = make_task_files(tmp_path)
    return [load_task(name, files) for name in ("translation", "summarization")]


def test_chrf_and_rouge_are_those_of_the_libraries(likeness_tasks: list[Task]):
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu import sentence_chrf

    translation, summarization = likeness_tasks
    example = next(iter(translation.examples()))
    expected = sentence_chrf("Da wartet 0 Hund", [example.answer]).score / 100
    assert translation.grade(example, "Da wartet 0 Hund").strict == pytest.approx(expected)
    example = next(iter(summarization.examples()))
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    expected = max(scorer.score(r, "A talk about a dog")["rougeL"].fmeasure for r in example.extra["references"])
    assert summarization.grade(example, "A talk about a dog").lenient == pytest.approx(expected)
    assert summarization.grade(example, example.extra["references"][1]).strict == 1
