"""Tasks by name, tables and Python files: what a person gives works, or is one clear line."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch

from conftest import REPOSITORY, Smidgen
from smidgen.checkpoint import save_model
from smidgen.errors import ConfigError, DataError, MissingExtraError, SmidgenError
from smidgen.models import LlamaConfig, build_model
from smidgen.models.attention import AttentionConfig
from smidgen.models.stack import StackConfig
from smidgen.tasks import TASKS, Task, load_task
from smidgen.tasks.arithmetic import LEVELS
from smidgen.tokenizers.bytes import ByteTokenizer
from task_files import make_task_files, write_rows

CAPITALS = [{"question": f"What is the capital of country {n}?", "answer": f"City {n}"} for n in range(40)]

OWN = """
from smidgen.tasks import Example

class Parity:
    def examples(self):
        return [Example(f"parity/{n}", f"Is {n} even, yes or no?", "yes" if n % 2 == 0 else "no") for n in range(10)]

    def training_examples(self, seed):
        for n in range(10, 14):
            yield Example(f"parity/train/{n}", f"Is {n} even?", "yes" if n % 2 == 0 else "no")

    def grade(self, example, answer):
        return answer.strip() == example.answer
"""


def refused(error: type[SmidgenError], said: str, act: Callable[[], object]) -> None:
    with pytest.raises(error) as raised:
        act()
    assert said in str(raised.value), raised.value
    assert len(str(raised.value).splitlines()) <= 2


def consume(task: Task, answer: str = "yes") -> None:
    for example in islice(task.examples(), 3):
        task.prompt(example)
        task.reward(example, answer)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arithmatic", "Did you mean arithmetic?"),
        ("chess", "Known: village, arithmetic"),
        ("arithmetic:eezy", "presets graded, sums"),
        ("arithmetic:digts=3", "did you mean 'digits'?"),
        ("arithmetic:digits=0", "digits"),
        ("arithmetic:operations=plus", "operations"),
        ("arithmetic:digits=1,n=lots", "n:"),
        ('arithmetic:levels=["foo"]', "there is no rung 'foo'. There are: sums, differences"),
        ('arithmetic:levels=["graded"]', "there is no rung 'graded'"),
        ("arithmetic:graded,negative=true", "negative does nothing beside levels"),
        ("arithmetic:graded,digits=9", "digits does nothing beside levels"),
        ("arithmetic:sums,digits=3", "digits does nothing beside largest"),
        ("countdown:numbers=1", "numbers"),
        ("village:hard", "keys n, seed"),
        ("translation:source=de", "nothing to translate"),
        ("translation:klingon", "presets en, de"),
        ("mine.py:n=3", "takes no options"),
        ("missing.py", "no such file"),
    ],
)
def test_a_task_that_cannot_be_meant_is_one_line(text: str, said: str):
    refused(ConfigError, said, lambda: load_task(text))


@pytest.mark.parametrize("options", ["digits=1,operations=+,steps=1,n=5", "1digit-add,n=5"])
def test_options_may_be_keys_or_a_preset_and_keys(options: str):
    assert len(list(load_task(f"arithmetic:{options}").examples())) == 5


def test_options_that_allow_no_question_are_refused():
    task = load_task("sorting:items=20,digits=1")
    refused(ConfigError, "allow no question", lambda: list(task.examples()))
    refused(ConfigError, "allow no question", lambda: next(task.training_examples(0)))


def test_missing_local_files_are_named(tmp_path: Path):
    for name in ("gsm8k", "sentiment", "translation", "summarization", "dialogue"):
        refused(DataError, "--data DIR", lambda name=name: load_task(name))
    refused(DataError, "no gsm8k/train.jsonl in", lambda: load_task("gsm8k", tmp_path))
    refused(
        DataError, "dialogsum/train.jsonl or dialogsum/validation.jsonl", lambda: load_task("summarization", tmp_path)
    )


def test_a_local_file_of_another_shape_is_refused_with_its_place(tmp_path: Path):
    make_task_files(tmp_path)
    write_rows(tmp_path / "sst2/validation.jsonl", [{"sentence": "fine", "label": 7}])
    refused(DataError, "validation.jsonl:1: label must be 0", lambda: list(load_task("sentiment", tmp_path).examples()))
    write_rows(tmp_path / "gsm8k/test.jsonl.gz", [{"question": "How many?", "answer": "five"}])
    refused(DataError, "#### number", lambda: list(load_task("gsm8k", tmp_path).examples()))
    write_rows(tmp_path / "daily_dialog/test.jsonl", [{"dialog": ["Hello .", "Hi !"]}])
    refused(DataError, "4 different replies", lambda: list(load_task("dialogue", tmp_path).examples()))


def test_what_training_shares_with_the_test_is_left_out_and_told(tmp_path: Path):
    make_task_files(tmp_path)
    rows = [{"sentence": f"A fine film number {n}", "label": 1} for n in range(6)]
    write_rows(tmp_path / "sst2/train.jsonl", rows)
    write_rows(tmp_path / "sst2/validation.jsonl", [{"sentence": "a fine film, number 3.", "label": 1}])
    told: list[str] = []
    task = load_task("sentiment", tmp_path, told.append)
    assert len({example.question for example in islice(task.training_examples(0), 50)}) == 5
    assert len(told) == 1
    assert "left out 1 training examples" in told[0]


def test_a_conversation_of_the_test_is_not_trained_on_whatever_reply_is_asked_for(tmp_path: Path):
    make_task_files(tmp_path)
    shared = {"dialog": ["Good morning .", "Is it ?", "It was .", "And now ?", "It is raining ."]}
    others = [{"dialog": [f"Hello {n} .", f"My name is not {n} ."]} for n in range(9)]
    write_rows(tmp_path / "daily_dialog/validation.jsonl", [*others, shared])
    write_rows(tmp_path / "daily_dialog/test.jsonl", [shared, *[{"dialog": [f"{n} ?", f"{n} ."]} for n in "abcde"]])
    told: list[str] = []
    task = load_task("dialogue", tmp_path, told.append)
    assert len({example.id for example in islice(task.training_examples(0), 30)}) == 9
    assert "left out 1" in told[-1]


def test_a_set_without_a_train_split_says_what_it_trains_on(tmp_path: Path):
    told: list[str] = []
    load_task("dialogue", make_task_files(tmp_path), told.append)
    assert told == [
        "task dialogue: daily_dialog has no train split here; training examples come from validation.jsonl."
    ]


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = make_task_files(tmp_path)
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.chrf", None)
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    for name in ("translation", "summarization"):
        refused(MissingExtraError, "smidgen[tasks]", lambda name=name: load_task(name, files))


def test_a_table_is_a_task(tmp_path: Path):
    path = write_rows(tmp_path / "capitals.jsonl", CAPITALS)
    task = load_task(str(path))
    tested = list(task.examples())
    assert 3 < len(tested) < 20
    trained = {example.question for example in islice(task.training_examples(0), 100)}
    assert not trained & {example.question for example in tested}
    assert len(trained) + len(tested) == 40
    assert task.prompt(tested[0])[0].content == tested[0].question
    assert task.grade(tested[0], tested[0].answer.upper() + "!").lenient == 1
    assert task.reward(tested[0], tested[0].answer) == 1 > task.reward(tested[0], "Paris") == 0


@pytest.mark.parametrize("grade", ["chrf", "rouge"])
def test_a_table_may_be_graded_by_likeness(tmp_path: Path, grade: str):
    rows = [{"question": f"q {n}", "answer": ["the long way\n home", "no way"]} for n in range(20)]
    task = load_task(f"{write_rows(tmp_path / 'a.jsonl', rows)}:grade={grade}")
    example = next(iter(task.examples()))
    assert task.grade(example, example.answer).strict == task.grade(example, "no way").strict == 1
    assert 0 < task.grade(example, "the way").strict < 1


def test_codes_are_no_numbers(tmp_path: Path):
    task = load_task(
        str(write_rows(tmp_path / "a.jsonl", [{"question": f"q {n}", "answer": "007"} for n in range(20)]))
    )
    assert task.grade(next(iter(task.examples())), "7").lenient == 0


def test_columns_may_be_named_and_the_test_set_be_a_file_of_its_own(tmp_path: Path):
    rows = [{"wer": f"Frage {n}", "was": n, "text": "x", "answer": "y"} for n in range(5)]
    path = write_rows(tmp_path / "a.jsonl.gz", rows)
    test = write_rows(tmp_path / "b.jsonl", [{"wer": "Frage 1", "was": 1}, {"wer": "Frage 9", "was": -9}])
    told: list[str] = []
    task = load_task(f"{path}:question=wer,answer=was,test={test}", say=told.append)
    assert [example.answer for example in task.examples()] == ["1", "-9"]
    assert {example.answer for example in islice(task.training_examples(0), 20)} == {"0", "2", "3", "4"}
    assert task.grade(list(task.examples())[1], "It is -9").lenient == 1
    assert "left out 1" in told[0]


def test_a_table_may_hold_several_right_answers_and_numbers_with_working(tmp_path: Path):
    several = write_rows(
        tmp_path / "s.jsonl", [{"question": f"q {n}", "answer": ["one", "1", "a one"]} for n in range(20)]
    )
    task = load_task(str(several))
    assert task.grade(next(iter(task.examples())), "1").strict == 1
    worked = write_rows(tmp_path / "w.jsonl", [{"prompt": f"q {n}", "answer": f"work\n#### {n}"} for n in range(20)])
    task = load_task(f"{worked}:grade=number")
    example = next(iter(task.examples()))
    assert task.grade(example, example.answer).strict == 1
    assert "work" not in example.answer


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("", "", "is empty"),
        ("\n\n", "", "is empty"),
        ('{"question": "a", "answer": "b"}\n{"question": "a", "ans', "", "line 2 is not valid JSON"),
        ('{"q": "a", "answer": "b"}', "", "no column for the question"),
        ('{"question": "a", "x": "b"}', "", "its columns: question, x"),
        ('{"question": "a", "answer": "b"}', ":answer=c", "no column 'c'"),
        ('{"question": "a", "answer": "b"}\n{"question": "c"}', "", ":2: no column 'answer'"),
        ('{"question": "a", "answer": null}', "", ":1: answer 'answer' must be text or a number, not None"),
        ('{"question": 5, "answer": "b"}', "", "must be text, not 5"),
        ('{"question": "a", "answer": {"b": 1}}', "", "must be text or a number"),
        ('{"question": "a", "answer": "many"}', ":grade=number", "'many' is no whole number"),
        ('{"question": "a", "answer": "b"}', ":grade=best", "grade"),
        ('{"question": "a", "answer": "b"}', "", "too few"),
        ('["a", "b"]', "", "not an object"),
    ],
)
def test_a_broken_table_is_one_line_with_the_place(tmp_path: Path, content: str, options: str, said: str):
    path = tmp_path / "mine.jsonl"
    path.write_text(content)
    refused(SmidgenError, said, lambda: load_task(f"{path}{options}"))


def test_a_missing_table_is_one_line(tmp_path: Path):
    refused(DataError, "cannot be read", lambda: load_task(str(tmp_path / "none.jsonl")))


def test_a_python_file_is_a_task_and_running_it_is_said(tmp_path: Path):
    path = tmp_path / "parity.py"
    path.write_text(OWN)
    told: list[str] = []
    task = load_task(str(path), say=told.append)
    assert f"Running {path}" in told[0]
    assert task.name == "parity"
    example = next(iter(task.examples()))
    assert task.prompt(example)[0].content == example.question
    assert task.grade(example, "yes").strict == 1 == task.reward(example, "yes")
    assert task.reward(example, "no") == 0
    assert len(list(islice(task.training_examples(0), 9))) == 9
    assert [m.content for m in task.few_shot(example, 1)] == ["Is 10 even?", "yes", example.question]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("return answer.strip()", "return 1 / 0 or answer"),
            "grade() failed: ZeroDivisionError: division by zero (line 13)",
        ),
        (("answer.strip() == example.answer", "'good'"), "grade() returned 'good', not a number from 0 to 1"),
        (("answer.strip() == example.answer", "float('nan')"), "grade() returned nan"),
        (("answer.strip() == example.answer", "7"), "grade() returned 7"),
        (("answer.strip() == example.answer", "None"), "grade() returned None"),
        (("return [Example(", "return [tuple] + [Example("), "examples() gave <class 'tuple'>, not an Example"),
        (("def grade", "def reward(self, example, answer): return answer\n\n    def grade"), "reward() returned 'yes'"),
        (("def grade", "def prompt(self, example): return 5\n\n    def grade"), "prompt() returned 5"),
        (("def grade(self, example, answer)", "def grade(self, example)"), "grade() failed: TypeError"),
        (("def grade", "def mark"), "no class with them"),
        (("class Parity:", "class Parity:\n    def __init__(self, n): pass"), "cannot be made without arguments"),
        (("import Example", "import Exmple"), "cannot be run: ImportError"),
        (("class Parity:", "class Parity"), "(line 4)"),
        (("class Parity:", "raise SystemExit(3)\nclass Parity:"), "SystemExit"),
        (("class Parity:", "task = 5\nclass Parity:"), "its task has no examples()"),
    ],
)
def test_a_slip_in_a_python_file_is_one_line(tmp_path: Path, change: tuple[str, str], said: str):
    path = tmp_path / "parity.py"
    path.write_text(OWN.replace(*change))
    assert OWN.replace(*change) != OWN
    refused(SmidgenError, said, lambda: consume(load_task(str(path), say=lambda line: None)))


def test_a_python_file_without_training_examples_is_only_evaluated(tmp_path: Path):
    path = tmp_path / "parity.py"
    path.write_text(OWN.replace("training_examples", "others"))
    task = load_task(str(path), say=lambda line: None)
    consume(task)
    refused(DataError, "cannot be trained on", lambda: next(task.training_examples(0)))
    example = next(iter(task.examples()))
    refused(DataError, "no worked examples to show", lambda: task.few_shot(example, 4))
    assert task.few_shot(example, 0) == task.prompt(example)


def test_a_task_put_together_from_parts_is_a_python_file_too(tmp_path: Path):
    path = tmp_path / "doubling.py"
    path.write_text(
        "from smidgen.tasks import Drawn, Example, QuestionTask, exact_match\n\n"
        "def draw(rng):\n"
        "    n = rng.randrange(10_000)\n"
        "    return Example('', f'{n}', str(2 * n), chance=1e-4)\n\n"
        "task = QuestionTask('doubling', 'Double {question}.', Drawn('doubling', draw, 50),\n"
        "                    lambda example, answer: exact_match(answer, example.answer, max_words=1))\n"
    )
    task = load_task(str(path), say=lambda line: None)
    assert len(list(task.examples())) == 50
    consume(task)
    assert len(task.few_shot(next(iter(task.examples())), 2)) == 5


def test_the_examples_of_the_manual_work(tmp_path: Path):
    page = (REPOSITORY / "docs/tasks.md").read_text()
    code, rows = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)[0] for kind in ("python", "json"))
    (tmp_path / "binary.py").write_text(code)
    task = load_task(str(tmp_path / "binary.py"), say=lambda line: None)
    for example in islice(task.examples(), 20):
        assert task.grade(example, example.answer).strict == 1 == task.reward(example, f" {example.answer}")
        wordy, wordier = f"It is {example.answer}", f"As far as I can tell, it is {example.answer}"
        assert 0.25 < task.reward(example, wordier) < task.reward(example, wordy) < 0.5
    (tmp_path / "commands.jsonl").write_text(rows)
    (tmp_path / "test.jsonl").write_text(rows)
    table = load_task(f"{tmp_path}/commands.jsonl:test={tmp_path}/test.jsonl")
    assert table.grade(list(table.examples())[1], "wc --lines").strict == 1
    assert all(name in page for name in (*TASKS, *LEVELS))


def test_tasks_are_text_alone(tmp_path: Path):
    heavy = "{'torch', 'sacrebleu', 'rouge_score', 'nltk'}"
    code = (
        f"import sys; from smidgen.tasks import load_task; load_task('json'); print(sorted({heavy} & {{*sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def tiny_model(folder: Path) -> Path:
    stack = StackConfig(d_model=32, layers=(0,), attention=AttentionConfig(n_heads=2, n_kv_heads=1))
    model = build_model(LlamaConfig(vocab_size=264, max_seq_len=256, stack=stack), seed=0)
    save_model(folder, model, ByteTokenizer(), torch.float32)
    return folder


def test_eval_asks_any_task_of_a_model_without_a_text(smidgen: Smidgen, tmp_path: Path):
    model = tiny_model(tmp_path / "model")
    write_rows(tmp_path / "capitals.jsonl", CAPITALS)
    tasks = ("--task", "arithmetic:easy,n=4", "--task", "capitals.jsonl", "--task", "sentiment")
    told = smidgen("eval", model, *tasks, "--data", make_task_files(tmp_path / "sets"), "--limit", 3)
    assert told.code == 0, told
    assert "bits per byte" not in told.out
    lines = told.out.strip().splitlines()[1:4]
    assert [line.split()[0] for line in lines] == ["arithmetic:easy,n=4", "capitals.jsonl", "sentiment"]
    assert all("strict" in line and "lenient" in line and "format" in line for line in lines)
    asked = json.loads(smidgen("eval", model, "--task", "letters", "--limit", 2, "--json").out)
    assert asked["validation"] is None
    assert asked["tasks"][0]["n"] == 2


def test_eval_refuses_a_task_before_it_loads_a_model(smidgen: Smidgen):
    told = smidgen("eval", "nowhere", "--task", "arithmatic")
    assert told.code == 2
    assert "Did you mean arithmetic?" in told.err
    assert len(told.err.strip().splitlines()) <= 2
