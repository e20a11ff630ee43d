"""The suite's files: every way one can be wrong is a line with file, row and column; the hub stands behind them."""

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smidgen.errors import ConfigError, DataError
from smidgen.tasks.choice import ChoiceTask
from smidgen.tasks.suite import SUITE, load_suite_task
from smidgen.tasks.suite.blimp import PARADIGMS
from smidgen.tasks.suite.shelf import PARQUET_BRANCH
from suite_files import ROWS, make_suite_files
from task_files import write_rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_suite_files(tmp_path / "eval")


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks the network; one that wants a hub brings its own."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)


def load(name: str, folder: Path | None) -> Any:
    return load_suite_task(name, folder, lambda line: None)


@pytest.mark.parametrize("name", SUITE)
def test_items_are_whole_stable_and_known_by_their_place(name: str, folder: Path) -> None:
    task = load(name, folder)
    items = list(task.items())
    assert items == list(load(name, folder).items())
    assert len({item.id for item in items}) == len(items) == task.rows < task.published
    assert task.name == name
    assert items[0].id.startswith(f"{name}/")
    assert items[0].id.endswith("/0")
    for item in items if isinstance(task, ChoiceTask) else ():
        assert 0 <= item.right < len(item.choices) == len(item.lengths)
        assert all(choice.continuation.startswith(" ") for choice in item.choices)
        assert min(item.lengths) > 0
        assert task.chance(item) == (0 if "perplexity" in task.metrics else 1 / len(item.choices))
        assert task.main in task.metrics


def test_partial_evaluation_shares_the_continuation_and_pairs_have_no_context(folder: Path) -> None:
    for item in load("winogrande", folder).items():
        assert len({choice.continuation for choice in item.choices}) == 1 < len({c.context for c in item.choices})
    assert {choice.context for item in load("blimp", folder).items() for choice in item.choices} == {""}


def test_numbers_written_as_text_are_read(folder: Path) -> None:
    """A table of comma-separated values has nothing but text."""
    items = list(load("piqa", folder).items())
    (folder / "piqa/validation.jsonl").unlink(missing_ok=True)
    (folder / "piqa/validation.jsonl.gz").unlink(missing_ok=True)
    rows = ROWS["piqa/validation"]
    table = "goal,sol1,sol2,label\n"
    for row in rows:
        table += ",".join('"' + str(value).replace('"', '""') + '"' for value in row.values()) + "\n"
    (folder / "piqa/validation.csv").write_text(table)
    assert list(load("piqa", folder).items()) == items


def test_a_name_of_digits_may_be_a_number(folder: Path) -> None:
    """Winogrande's answer is the text 1 or 2 where it was published, and a number where a table was made of it."""
    items = list(load("winogrande", folder).items())
    for path in folder.glob("winogrande/*"):
        path.unlink()
    rows = [row | {"answer": int(row["answer"])} for row in ROWS["winogrande/validation"]]
    write_rows(folder / "winogrande/validation.jsonl", rows)
    assert list(load("winogrande", folder).items()) == items
    write_rows(folder / "winogrande/validation.jsonl", [rows[0] | {"answer": True}])
    with pytest.raises(DataError, match="must be one of 1, 2, not True"):
        list(load("winogrande", folder).items())


def changed(name: str, **columns: Any) -> list[dict[str, Any]]:
    """Return two good rows and a bad one, which lacks the columns that are None."""
    good = ROWS[name][0]
    return [good, good, {column: value for column, value in (good | columns).items() if value is not None}]


@pytest.mark.parametrize(
    ("name", "columns", "said"),
    [
        ("piqa/validation", {"sol2": None}, r"no column 'sol2'; it has: goal, sol1, label"),
        ("piqa/validation", {"goal": " "}, r"column 'goal' must hold text, not ' '"),
        ("piqa/validation", {"label": 2}, r"column 'label' must be a whole number from 0 to 1, not 2"),
        ("piqa/validation", {"label": -1}, r"column 'label' must be a whole number from 0 to 1, not -1"),
        ("piqa/validation", {"label": ""}, r"column 'label' must be a whole number from 0 to 1, not ''"),
        ("piqa/validation", {"label": 0.0}, r"column 'label' must be a whole number from 0 to 1, not 0\.0"),
        ("arc_easy/test", {"choices": []}, r"column 'choices' must hold \{\"text\""),
        (
            "arc_easy/test",
            {"choices": {"text": [], "label": []}},
            r"column 'choices' must hold a list of texts, not \[\]",
        ),
        (
            "arc_easy/test",
            {"choices": {"text": ["a", ""], "label": ["A", "B"]}},
            r"'choices' .* number 1 of them is ''",
        ),
        (
            "arc_easy/test",
            {"choices": {"text": ["a"], "label": ["A", "B"]}},
            r"column 'choices' has 1 texts and 2 labels",
        ),
        ("arc_easy/test", {"answerKey": "E"}, r"column 'answerKey' must be one of A, B, C, D, not 'E'"),
        ("arc_easy/test", {"answerKey": 1}, r"column 'answerKey' must be one of A, B, C, D, not 1"),
        ("openbookqa/test", {"answerKey": ["A"]}, r"column 'answerKey' must be one of A, B, C, D, not \['A'\]"),
        ("hellaswag/validation", {"endings": ["a", "[step]"]}, r"column 'endings' .* mark-up in number 1"),
        ("hellaswag/validation", {"endings": "abcd"}, r"column 'endings' must hold a list of texts, not 'abcd'"),
        ("hellaswag/validation", {"label": "4"}, r"column 'label' must be a whole number from 0 to 3, not '4'"),
        ("winogrande/validation", {"sentence": "no gap"}, r"column 'sentence' must have a gap _"),
        ("winogrande/validation", {"sentence": "the gap is the end _ "}, r"column 'sentence' must have a gap _"),
        ("winogrande/validation", {"answer": ""}, r"column 'answer' must be one of 1, 2, not ''"),
        ("boolq/validation", {"label": None}, r"no column 'label'; it has: passage, question, answer"),
        ("sciq/test", {"correct_answer": ""}, r"column 'correct_answer' must hold text, not ''"),
        ("copa/validation", {"question": "why"}, r"column 'question' must be one of cause, effect, not 'why'"),
        ("lambada_openai/test", {"text": "no word behind "}, r"column 'text' ends with a space"),
        (
            "commonsense_qa/validation",
            {"choices": {"text": ["a"], "label": ["A"]}},
            r"'choices' must hold 5 answers, not 1",
        ),
        ("sst2/validation", {"sentence": 3}, r"column 'sentence' must hold text, not 3"),
        ("blimp/passive_1", {"sentence_bad": ""}, r"column 'sentence_bad' must hold text, not ''"),
        ("gsm8k/test", {"answer": "42"}, r"column 'answer' must end with a line `#### number`"),
        ("gsm8k/train", {"question": None}, r"no column 'question'; it has: answer"),
    ],
)
def test_a_bad_row_is_one_line_with_its_place(name: str, columns: dict[str, Any], said: str, folder: Path) -> None:
    task, _, split = name.partition("/")
    for path in folder.glob(f"{name}.*"):
        path.unlink()
    write_rows(folder / f"{name}.jsonl", changed(name, **columns))
    with pytest.raises(DataError, match=rf"{task}/{split}\.jsonl:3: .*{said}") as error:
        list(load(task, folder).items())
    assert "\n" not in str(error.value)


def test_a_broken_or_empty_file_is_said(folder: Path) -> None:
    for path in folder.glob("sst2/*"):
        path.unlink()
    path = folder / "sst2/validation.jsonl"
    path.write_text("")
    with pytest.raises(DataError, match="task sst2: its file has no row"):
        load("sst2", folder).items()
    path.write_text('{"sentence": "cut', encoding="utf-8")
    with pytest.raises(DataError, match=r"validation\.jsonl: line 1 is not valid JSON"):
        load("sst2", folder).items()
    path.rename(path.with_suffix(".jsonl.gz"))
    with pytest.raises(DataError, match=r"validation\.jsonl\.gz"):
        load("sst2", folder).items()


def test_too_few_worked_examples_are_said(folder: Path) -> None:
    for path in folder.glob("gsm8k/train*"):
        path.unlink()
    write_rows(folder / "gsm8k/train.jsonl", ROWS["gsm8k/train"][:4])
    with pytest.raises(DataError, match=r"train\.jsonl: has 4 rows, and 5 worked examples are shown"):
        load("gsm8k", folder).items()


def test_what_is_missing_is_named_with_where_to_put_it(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("piqa/*"):
        path.unlink()
    with pytest.raises(
        DataError, match=r"no piqa/validation\.jsonl in .*Put the rows of baber/piqa there.*\[hub\]"
    ) as e:
        load("piqa", folder)
    assert "\n" not in str(e.value)
    with pytest.raises(DataError, match=r"reads piqa/validation\.jsonl\. Name its folder: --data DIR\."):
        load("piqa", None)
    with pytest.raises(DataError, match=r"nowhere: is no folder\."):
        load("piqa", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"piqua is no task of the suite\. Did you mean piqa"):
        load("piqua", folder)


def test_another_split_and_missing_paradigms_are_said_and_noted(folder: Path) -> None:
    said: list[str] = []
    (path,) = folder.glob("sciq/*")
    path.rename(path.parent / path.name.replace("test", "validation"))
    sciq = load_suite_task("sciq", folder, said.append)
    assert next(iter(sciq.items())).id == "sciq/validation/0"
    blimp = load_suite_task("blimp", folder, said.append)
    assert said[0] == "task sciq: measured on the validation split, as the test split of sciq is not here."
    assert said[1].startswith("task blimp: 65 of 67 paradigms are not here: anaphor_gender_agreement, ")
    assert said[1].endswith(", animate_subject_passive and 62 more.")
    assert (sciq.notes, blimp.notes) == ((said[0][27:-1],), ("2 of 67 paradigms",))
    assert [item.kind for item in blimp.items()] == ["adjunct_island", "adjunct_island", "passive_1"]
    assert load("arc_easy", folder).notes == ()


def test_passages_without_titles_are_said(folder: Path) -> None:
    """Google's and SuperGLUE's BoolQ are the same rows, and another prompt."""
    for path in folder.glob("boolq/*"):
        path.unlink()
    for passage, notes in (("Ice -- Ice floats.", ()), ("Ice floats.", ("passages without the titles",))):
        write_rows(folder / "boolq/validation.jsonl", [ROWS["boolq/validation"][0] | {"passage": passage}])
        said: list[str] = []
        task = load_suite_task("boolq", folder, said.append)
        assert [note[:27] for note in task.notes] == list(notes)
        assert [line[12:39] for line in said] == list(notes)


class Hub:
    """A hub whose data sets are folders, as `huggingface_hub.snapshot_download` gives them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str]] = []

    def put(self, repository: str, file: str, rows: list[dict[str, Any]]) -> None:
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        path = self.folder / repository / file
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(arrow.Table.from_pylist(rows), path)

    def snapshot_download(self, repo_id: str, repo_type: str, revision: str, allow_patterns: list[str]) -> str:
        assert (repo_type, revision, len(allow_patterns)) == ("dataset", PARQUET_BRANCH, 1)
        self.asked.append((repo_id, *allow_patterns))
        if not (self.folder / repo_id).is_dir():
            raise RuntimeError("Got: ConnectError. Look at the long story\nof what happened")
        return str(self.folder / repo_id)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    return hub


def test_what_is_not_local_comes_from_the_hub_and_is_the_same(hub: Hub, folder: Path) -> None:
    hub.put("allenai/ai2_arc", "ARC-Easy/test/0000.parquet", ROWS["arc_easy/test"][:1])
    hub.put("allenai/ai2_arc", "ARC-Easy/test/0001.parquet", ROWS["arc_easy/test"][1:])
    hub.put("allenai/ai2_arc", "ARC-Challenge/test/0000.parquet", ROWS["arc_challenge/test"])
    hub.put("baber/piqa", "default/validation/0000.parquet", ROWS["piqa/validation"])
    hub.put("openai/gsm8k", "main/test/0000.parquet", ROWS["gsm8k/test"])
    hub.put("openai/gsm8k", "main/train/0000.parquet", ROWS["gsm8k/train"])
    for name in ("arc_easy", "arc_challenge", "piqa", "gsm8k"):
        assert list(load(name, None).items()) == list(load(name, folder).items())
    assert hub.asked[0] == ("allenai/ai2_arc", "ARC-Easy/test/*.parquet")
    assert hub.asked[2] == ("baber/piqa", "*/validation/*.parquet")
    hub.put("nyu-mll/blimp", "passive_1/train/0000.parquet", ROWS["blimp/passive_1"])
    assert [item.id for item in load("blimp", None).items()] == ["blimp/passive_1/0"]


def test_what_the_hub_cannot_give_is_said(hub: Hub, folder: Path) -> None:
    with pytest.raises(DataError, match=r"Put the rows of baber/piqa there\. From the hub: Got: ConnectError\.$"):
        load("piqa", None)
    hub.put("baber/piqa", "default/train/0000.parquet", ROWS["piqa/validation"])
    with pytest.raises(DataError, match="baber/piqa on the hub has no split validation"):
        load("piqa", None)
    hub.put("baber/piqa", "one/validation/0000.parquet", ROWS["piqa/validation"])
    hub.put("baber/piqa", "other/validation/0000.parquet", ROWS["piqa/validation"])
    with pytest.raises(DataError, match="baber/piqa on the hub has more than one split validation"):
        load("piqa", None)
    hub.put("nyu-mll/blimp", "passive_1/test/0000.parquet", ROWS["blimp/passive_1"])
    with pytest.raises(DataError, match="nyu-mll/blimp on the hub has no split train"):
        load("blimp", None)
    assert len(PARADIGMS) == len(set(PARADIGMS)) == 67


def test_packed_files_are_found(folder: Path) -> None:
    for path in folder.glob("copa/*"):
        path.unlink()
    rows = "".join(json.dumps(row) + "\n" for row in ROWS["copa/validation"])
    (folder / "copa/validation.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    assert load("copa", folder).rows == len(ROWS["copa/validation"])
