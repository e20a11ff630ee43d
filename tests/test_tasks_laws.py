"""What holds of every task, by name, from a table or from a person's file: the right answer is right, junk is harmless,
and what is tested is never trained on."""

from collections import Counter
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.tasks import TASKS, Example, Task, load_task
from task_files import make_task_files

LIKENESS = {"translation", "translation:fr", "summarization", "summarization:scitldr"}
"""Tasks that measure likeness to a reference: a wrong answer may be a little like it."""

NAMES = [
    *(name for name in TASKS),
    *("arithmetic:1digit-add", "arithmetic:2digit-add", "arithmetic:medium", "arithmetic:hard", "arithmetic:expert"),
    *(
        "arithmetic:steps=2,form=working",
        "arithmetic:operations=/,negative=true",
        "arithmetic:digits=1,by=3,operations=-",
    ),
    *("countdown:easiest", "countdown:hard", "countdown:expert,n=50"),
    *("letters:words=3", "sorting:easy", "sorting:hard", "sorting:words"),
    *("sentiment:sentence_polarity", "summarization:scitldr", "dialogue:replies=2,turns=1"),
]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_task_files(tmp_path_factory.mktemp("sets"))


@cache
def load(name: str, data: Path) -> Task:
    return load_task(name, data, say=lambda line: None)


@cache
def first(name: str, data: Path, n: int = 60) -> list[Example]:
    return list(islice(load(name, data).examples(), n))


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_examples_are_the_same_every_time_and_have_names_of_their_own(name: str, data: Path):
    task, examples = load(name, data), first(name, data)
    assert task.name == name
    assert examples == list(islice(load_task(name, data, say=lambda line: None).examples(), 60))
    assert len({example.id for example in examples}) == len(examples) > 5
    assert all(0 <= example.chance <= 1 for example in examples)


def test_a_prompt_asks_the_question(name: str, data: Path):
    task = load(name, data)
    for example in first(name, data):
        messages = task.prompt(example)
        assert messages == task.prompt(example)
        assert [message.role for message in messages] == ["user"]
        assert example.question in messages[0].content
        assert "{question}" not in messages[0].content


def test_the_canonical_answer_is_right(name: str, data: Path):
    task = load(name, data)
    for example in [*first(name, data), *islice(task.training_examples(3), 40)]:
        grade = task.grade(example, example.answer)
        assert (grade.strict, grade.lenient, grade.formatted) == (1, 1, True), example
        assert task.reward(example, example.answer) == 1
        spaced = task.grade(example, f" {example.answer}\n")
        assert (spaced.strict, spaced.formatted) == (1, True)


def test_another_answer_is_wrong(name: str, data: Path):
    task, examples = load(name, data), first(name, data)
    differ = 0
    for example, other in zip(examples, examples[1:] + examples[:1], strict=True):
        if same_answer(example, other):
            continue
        differ += 1
        grade = task.grade(example, other.answer)
        if name in LIKENESS:
            assert 0 <= grade.strict == grade.lenient < 1
        else:
            assert (grade.strict, grade.lenient) == (0, 0), (example, other)
        assert task.reward(example, other.answer) < 0.5 or name in LIKENESS
        assert task.reward(example, "something else entirely") < 0.5
        assert task.grade(example, "").lenient == 0 == task.reward(example, "")
    assert differ > 3


def same_answer(one: Example, other: Example) -> bool:
    keys = ("number", "facts", "reply", "target")
    told = [[example.extra.get(key) for key in keys] for example in (one, other)]
    return one.answer == other.answer or (any(told[0]) and told[0] == told[1])


def test_what_is_tested_is_never_trained_on(name: str, data: Path):
    task = load(name, data)
    tested = {key(example) for example in islice(task.examples(), 1000)}
    for seed in range(3):
        assert not tested & {key(example) for example in islice(task.training_examples(seed), 200)}


def key(example: Example) -> str:
    return example.extra.get("key", example.question)


def test_a_seed_decides_what_is_trained_on(name: str, data: Path):
    task = load(name, data)
    one, again, other = ([e.question for e in islice(task.training_examples(seed), 40)] for seed in (7, 7, 8))
    assert one == again != other


def test_worked_examples_are_of_the_training_side_and_asked_the_same_way(name: str, data: Path):
    task, examples = load(name, data), first(name, data)
    messages = task.few_shot(examples[0], 3)
    assert [message.role for message in messages] == ["user", "assistant"] * 3 + ["user"]
    assert messages[-1:] == task.prompt(examples[0])
    assert messages[:-1] == task.few_shot(examples[1], 3)[:-1]
    tested = {task.prompt(example)[0].content for example in examples}
    assert not tested & {message.content for message in messages[:-1]}
    training = {task.prompt(e)[0].content: e.answer for e in islice(task.training_examples(0), 64)}
    assert all(
        training[asked.content] == said.content for asked, said in zip(messages[:6:2], messages[1:6:2], strict=True)
    )
    assert task.few_shot(examples[0], 0) == task.prompt(examples[0])


ANSWERS = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="0123456789+-*/().,=#$ \n", max_size=60),
    st.text(alphabet='{}[]":,name job age city 0123456789', max_size=60),
    st.text(alphabet="ABCD abcd positive negative:)\n", max_size=60),
    st.sampled_from(
        ("(" * 150, "{" * 5000, "9" * 6000, "1/0", "9" * 80 + "/" + "9" * 80, "\0", "#### ", "٣", "²", "\ud800")
    ),
)


@settings(max_examples=200, deadline=None)
@given(answer=ANSWERS, pick=st.integers(0, 1000))
def test_whatever_is_answered_gets_a_grade(data: Path, answer: str, pick: int):
    for name in NAMES:
        task, examples = load(name, data), first(name, data)
        example = examples[pick % len(examples)]
        for said in (answer, f"{answer} {example.answer}", f"{example.answer}{answer}"):
            grade = task.grade(example, said)
            assert 0 <= grade.strict <= grade.lenient <= 1
            assert isinstance(grade.formatted, bool)
            assert grade.formatted or not grade.strict
            assert grade.strict <= task.reward(example, said) <= 1


def test_no_answer_is_always_right(data: Path):
    """A constant answer earns about what chance or the most frequent answer does, never more than half."""
    for name in set(NAMES) - LIKENESS:
        task, examples = load(name, data), first(name, data)
        for constant in ("0", "1", "positive", "A", examples[0].answer):
            score = sum(task.grade(example, constant).strict for example in examples) / len(examples)
            assert score <= 0.65, (name, constant, score)


def test_every_rung_of_the_default_arithmetic_is_asked():
    kinds = Counter(example.kind for example in load_task("arithmetic").examples())
    assert len(kinds) == 4
    assert min(kinds.values()) >= kinds.total() / 6
