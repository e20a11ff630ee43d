"""`smidgen eval --suite`: one table, kept beside the model, resumed where it stopped; bad input is one line."""

import gzip
import json
import os
from pathlib import Path

import pytest
import torch

from conftest import REPOSITORY, Outcome, Smidgen
from smidgen.checkpoint import load_model, save_model
from smidgen.checkpoint.adapters import save_adapter
from smidgen.errors import DataError
from smidgen.evaluation import likelihood
from smidgen.inference import Engine
from smidgen.journey.measuring import Measuring
from smidgen.journey.suite import IN_CONVERSATION, WHOLE
from smidgen.models import LlamaConfig, build_model
from smidgen.models.attention import AttentionConfig
from smidgen.models.stack import StackConfig
from smidgen.surgery import attach, read_adapter
from smidgen.surgery.text import to_text
from smidgen.tokenizers.bytes import ByteTokenizer
from suite_files import make_suite_files
from task_files import make_task_files, write_rows


def make_model(folder: Path, context: int = 512) -> Path:
    stack = StackConfig(d_model=32, layers=(0,), attention=AttentionConfig(n_heads=2, n_kv_heads=1))
    model = build_model(LlamaConfig(vocab_size=264, max_seq_len=context, stack=stack), seed=0)
    save_model(folder, model, ByteTokenizer(), torch.float32)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model")


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """Every set of the suite: the few rows of each that its tests are made with."""
    return make_suite_files(make_task_files(tmp_path / "sets"))


OWN = """
from smidgen.tasks import Example

class Own:
    def examples(self):
        yield Example("own/0", "What?", "that")
        yield Example("own/1", "Who?", "he")
        yield "no example"

    def grade(self, example, answer):
        return float(answer == example.answer)
"""


def refused(told: Outcome, message: str) -> None:
    assert told.code == 2, told
    assert message in told.err, told.err
    assert "Traceback" not in told.err
    assert sum(line.startswith("smidgen:") for line in told.err.splitlines()) == 1, told.err


def evals(model: Path) -> list[dict]:
    return json.loads((model / "evals.json").read_text())["evals"]


def test_the_whole_suite_is_one_table_and_is_kept(smidgen: Smidgen, model: Path, sets: Path, tmp_path: Path):
    (tmp_path / "text.txt").write_text("The fox went over the hill. " * 20)
    told = smidgen("eval", model, tmp_path / "text.txt", "--suite", "--data", sets, "--limit", 2)
    assert told.code == 0, told
    lines = told.out.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("task "))
    names = [line.split()[0] for line in lines[first + 1 : first + 2 + len(WHOLE)]]
    assert names == ["bits_per_byte:text.txt", *WHOLE]
    for word in ("95% interval", "chance", "corrected", "2 of 1,838", "strict", "lenient", "format", "protocol:"):
        assert word in told.out, word
    assert f"prompts of lm-eval 0.4.13 ({', '.join(IN_CONVERSATION)}: of Smidgen), context" in told.out
    record = evals(model)[-1]
    assert [task["name"] for task in record["tasks"]] == names
    wanted = {"version", "metric", "value", "n", "of", "chance", "items_hash"}
    assert all(wanted <= task.keys() for task in record["tasks"])
    for task in record["tasks"]:
        kept = [json.loads(line) for line in (model / "evals" / task["items"]).read_text().splitlines()]
        assert len(kept) == task["n"]
        assert all({"id", "hash", "score"} <= line.keys() for line in kept)
    assert record["parameters"] > 0
    assert record["file_bytes"] > 4 * record["parameters"]


def test_chosen_tasks_alone_and_what_their_names_mean(smidgen: Smidgen, model: Path, sets: Path):
    """With --suite gsm8k is the harness's five-shot prompt, without it a question in conversation."""
    both = ("eval", model, "--data", sets, "--limit", 2, "--json")
    suite = json.loads(smidgen(*both, "--suite", "--task", "gsm8k", "--task", "piqa").out)["tasks"]
    assert [(task["name"], task["version"]) for task in suite] == [("gsm8k", "3.0"), ("piqa", "1.0")]
    alone = json.loads(smidgen(*both, "--task", "gsm8k", "--task", "arc_easy").out)["tasks"]
    assert [task["name"] for task in alone] == ["gsm8k:chat", "arc_easy"]
    assert alone[0]["version"] != "3.0"
    assert alone[0]["chance"] == 0


def test_a_second_evaluation_asks_nothing_twice(
    smidgen: Smidgen, model: Path, sets: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = ("eval", model, "--suite", "--task", "arc_easy", "--task", "gsm8k", "--data", sets, "--samples", 2)
    first = smidgen(*asked)
    assert first.code == 0, first
    monkeypatch.setattr(likelihood, "score_spans", lambda *_: pytest.fail("asked again"))
    monkeypatch.setattr(Engine, "step", lambda _: pytest.fail("asked again"))
    second = smidgen(*asked)
    assert second.code == 0, second
    records = evals(model)
    assert records[0]["tasks"] == records[1]["tasks"]
    assert "pass@1" in records[0]["tasks"][1]["metrics"]
    assert "more sampled for pass@k" in first.out


def test_a_stopped_evaluation_goes_on_and_damage_is_told(
    smidgen: Smidgen, model: Path, sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = ("eval", model, "--suite", "--task", "gsm8k", "--data", sets)
    step, left = Engine.step, [150]

    def stopping(engine: Engine):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return step(engine)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "step", stopping)
        told = smidgen(*asked)
    assert told.code == 130
    assert "goes on from here" in told.err
    assert not (model / "evals.json").exists()
    assert smidgen(*asked).code == 0
    kept = next((tmp_path / "cache").rglob("gsm8k*.jsonl"))
    lines = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(b"".join([lines[0][:30] + b"\n", *lines[1:], lines[-1][:20]]))
    again = smidgen(*asked)
    assert again.code == 0
    assert "2 kept answers were damaged" in again.err
    assert [r["tasks"][0]["value"] for r in evals(model)] == [evals(model)[0]["tasks"][0]["value"]] * 2


def test_what_does_not_fit_the_context_is_counted(smidgen: Smidgen, tmp_path: Path, sets: Path):
    """A byte model of 64 symbols: prompts lose their beginning, which is told with the number of items."""
    short = make_model(tmp_path / "short", 64)
    told = smidgen("eval", short, "--suite", "--task", "boolq", "--task", "gsm8k", "--data", sets)
    assert told.code == 0, told
    assert "did not fit the context and lost the beginning" in told.out
    counted = {task["name"]: task["cut"] for task in evals(short)[-1]["tasks"]}
    assert counted["gsm8k"] > 0
    assert counted["boolq"] > 0


def test_items_found_in_training_text_are_told_apart(smidgen: Smidgen, model: Path, sets: Path, tmp_path: Path):
    question = "How many legs have three spiders that lost one leg each on the way to the market today?"
    other = "Which of these is the colour of the sky on a bright day in the summer of the north?"
    choices = {"text": ["a", "b"], "label": ["A", "B"]}
    rows = [{"question": q, "choices": choices, "answerKey": "A"} for q in (question, "What is wet?", other)]
    write_rows(sets / "arc_easy/test.jsonl", rows)
    (tmp_path / "trained.txt").write_text(f"Once upon a time. {question} Nobody knew.")
    told = smidgen(
        "eval", model, "--suite", "--task", "arc_easy", "--data", sets, "--contamination", tmp_path / "trained.txt"
    )
    assert told.code == 0, told
    assert "1 item (" in told.out
    assert "without them" in told.out
    found = evals(model)[-1]["tasks"][0]["contamination"]
    assert (found["touched"], found["items"]) == (1, 3)


def test_an_adapter_has_scores_of_its_own(smidgen: Smidgen, model: Path, sets: Path, tmp_path: Path):
    loaded = load_model(model)
    adapter = attach(loaded.model, read_adapter("lora:r=2"))
    adapter.load_state({name: tensor + 0.5 for name, tensor in adapter.state().items()})
    save_adapter(tmp_path / "adapter", adapter)
    asked = ("eval", model, "--suite", "--task", "copa", "--data", sets)
    assert smidgen(*asked).code == 0
    told = smidgen(*asked, "--adapter", tmp_path / "adapter")
    assert told.code == 0, told
    assert str(tmp_path / "adapter/evals.json") in told.out
    assert len(evals(model)) == 1
    names = [evals(place)[0]["model"] for place in (model, tmp_path / "adapter")]
    assert names[1].startswith(names[0] + "+")


def test_an_adapter_that_is_a_line_or_none_is_told(
    smidgen: Smidgen, model: Path, sets: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = ("eval", model, "--suite", "--task", "copa", "--data", sets)
    loaded = load_model(model, dtype=torch.float32)
    line = to_text(attach(loaded.model, read_adapter("tinylora:3")))
    told = smidgen(*asked, "--adapter", line)
    assert told.code == 0, told
    assert told.err.count("not kept: an adapter that is a line of text") == 1
    assert not (model / "evals.json").exists()
    refused(smidgen(*asked, "--adapter", "nowhere"), "nowhere: is no adapter")
    monkeypatch.setattr("smidgen.journey.assess.choose", lambda *_: pytest.fail("before any set is read"))
    refused(smidgen(*asked, "--adapter", model), "is no adapter")


def test_what_cannot_be_kept_is_evaluated_all_the_same(
    smidgen: Smidgen, model: Path, sets: Path, monkeypatch: pytest.MonkeyPatch
):
    writable = os.access
    monkeypatch.setattr("os.access", lambda place, mode: mode != os.W_OK and writable(place, mode))
    told = smidgen("eval", model, "--suite", "--task", "copa", "--data", sets)
    assert told.code == 0, told
    assert "copa" in told.out
    assert told.err.count("not kept:") == 1
    assert not (model / "evals.json").exists()


def test_a_disk_that_takes_nothing_at_the_end_does_not_cost_the_table(smidgen: Smidgen, model: Path, sets: Path):
    (model / "evals").write_text("in the way")
    told = smidgen("eval", model, "--suite", "--task", "copa", "--data", sets)
    assert told.code == 0, told
    assert "copa" in told.out
    assert "not kept:" in told.err
    assert "added to" not in told.out


def test_options_that_change_nothing_are_told_once(smidgen: Smidgen, model: Path, sets: Path, tmp_path: Path):
    (tmp_path / "text.txt").write_text("The fox went over the hill. " * 20)
    told = smidgen("eval", model, "text.txt", "--limit", 3, "--samples", 2, "--contamination", "text.txt")
    assert told.code == 0, told
    for option in ("limit", "samples", "contamination"):
        assert told.err.count(f"--{option} changes nothing") == 1, told.err
    told = smidgen("eval", model, "--suite", "--task", "copa", "--data", sets, "--samples", 2)
    assert "--samples changes nothing: no task is asked that is answered in text." in told.err
    told = smidgen("eval", model, "--suite", "--task", "gsm8k", "--data", sets, "--samples", 2, "--limit", 1)
    assert "changes nothing" not in told.err


def test_what_a_limit_leaves_is_told_for_each_kind_of_task(smidgen: Smidgen, model: Path, sets: Path):
    named = [word for name in ("blimp", "piqa", "sentiment") for word in ("--task", name)]
    told = smidgen("eval", model, "--suite", *named, "--data", sets, "--limit", 1)
    assert told.code == 0, told
    assert "a part (--limit): the first 1 items: blimp, piqa, sentiment." in told.out
    told = smidgen("eval", model, "--suite", *named, "--data", sets, "--limit", 2).out
    assert "the first 2 items, of each of its kinds as many: blimp." in told


@pytest.mark.parametrize(("task", "whose"), [("arithmetic", "Smidgen"), ("copa", "lm-eval 0.4.13")])
def test_whose_prompts_they_are_is_told(smidgen: Smidgen, model: Path, sets: Path, task: str, whose: str):
    told = smidgen("eval", model, "--suite", "--task", task, "--data", sets, "--limit", 2)
    assert f"prompts of {whose}, context" in told.out, told


def test_items_found_nowhere_are_told_once(smidgen: Smidgen, model: Path, sets: Path, tmp_path: Path):
    (tmp_path / "trained.txt").write_text("Nothing of it stands here.")
    asked = ("eval", model, "--suite", "--task", "copa", "--task", "piqa", "--data", sets)
    told = smidgen(*asked, "--contamination", "trained.txt")
    assert told.out.count("no item was found") == 1
    assert "no item was found in trained.txt of copa, piqa." in told.out


def test_a_task_in_a_python_file_is_read_to_its_end_first(smidgen: Smidgen, model: Path, tmp_path: Path):
    """The last example may be the broken one; with a limit it is not reached."""
    (tmp_path / "own.py").write_text(OWN)
    (model / "model.safetensors").unlink()
    refused(smidgen("eval", model, "--task", "own.py"), "examples() gave 'no example'")
    refused(smidgen("eval", model, "--task", "own.py", "--limit", 2), "model.safetensors")


def test_two_tasks_of_one_name_are_refused(smidgen: Smidgen, model: Path, tmp_path: Path):
    for folder in "ab":
        write_rows(tmp_path / folder / "mine.jsonl", [{"question": f"{folder}{n}?", "answer": "x"} for n in range(40)])
    refused(smidgen("eval", model, "--task", "a/mine.jsonl", "--task", "b/mine.jsonl"), "two of the tasks are called")


def test_a_model_s_name_is_looked_for_before_the_sets(smidgen: Smidgen, tmp_path: Path):
    refused(smidgen("eval", "nowhere", "--suite", "--data", tmp_path / "none"), "nowhere")


def test_the_two_gsm8k_have_names_of_their_own(smidgen: Smidgen, model: Path, sets: Path):
    assert smidgen("eval", model, "--task", "gsm8k", "--data", sets, "--limit", 1).code == 0
    assert evals(model)[0]["tasks"][0]["name"] == "gsm8k:chat"


def test_one_task_s_error_leaves_the_others(smidgen: Smidgen, model: Path, sets: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise DataError("no question fits.")

    monkeypatch.setattr(Measuring, "_choices", refuse)
    told = smidgen("eval", model, "--suite", "--data", sets, "--limit", 1)
    assert told.code == 0, told
    assert "not asked: copa: no question fits." in told.out
    assert [task["name"] for task in evals(model)[0]["tasks"]] == ["gsm8k", *IN_CONVERSATION]


def test_a_set_that_is_not_here_is_told_and_the_others_are_asked(
    smidgen: Smidgen, model: Path, sets: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (sets / "copa/validation.jsonl").unlink()
    told = smidgen("eval", model, "--suite", "--data", sets, "--limit", 1)
    assert told.code == 0, told
    assert "not asked: copa: no copa/validation.jsonl" in told.err
    [line] = [line for line in told.out.splitlines() if line.startswith("not asked")]
    assert line.startswith("not asked: copa: no copa/validation.jsonl in ")
    assert "hub" not in line, "which was said before"
    assert "piqa" in told.out
    refused_line = smidgen("eval", model, "--suite", "--task", "copa", "--data", sets)
    assert refused_line.code == 2
    assert "no copa/validation.jsonl" in refused_line.err


def break_columns(sets: Path) -> str:
    write_rows(sets / "arc_easy/test.jsonl", [{"query": "What?", "answerKey": "A"}])
    return "arc_easy/test.jsonl"


def empty_choices(sets: Path) -> str:
    row = {"question": "What?", "choices": {"text": [], "label": []}, "answerKey": "A"}
    write_rows(sets / "arc_easy/test.jsonl", [row])
    return "column 'choices'"


def tear_file(sets: Path) -> str:
    whole = gzip.compress(b'{"question": "What?"}\n' * 2000)
    (sets / "arc_easy/test.jsonl").unlink()
    (sets / "arc_easy/test.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    return "arc_easy/test.jsonl.gz"


@pytest.mark.parametrize("break_it", [break_columns, empty_choices, tear_file])
def test_a_broken_set_is_one_line_before_anything_is_computed(smidgen: Smidgen, model: Path, sets: Path, break_it):
    """Before the weights are loaded; of the whole suite the others are asked."""
    message = break_it(sets)
    refused(smidgen("eval", model, "--suite", "--task", "arc_easy", "--data", sets), message)
    (model / "model.safetensors").unlink()
    told = smidgen("eval", model, "--suite", "--data", sets)
    assert any(line.startswith("not asked: arc_easy") and message in line for line in told.err.splitlines()), told.err


def test_other_mistakes_are_one_line(smidgen: Smidgen, model: Path, sets: Path, tmp_path: Path):
    refused(smidgen("eval", "nowhere", "--suite", "--data", sets), "nowhere")
    refused(smidgen("eval", model, "--suite", "--task", "arc_esy", "--data", sets), "arc_easy")
    refused(smidgen("eval", model, "--suite", "--data", tmp_path / "none"), "is no folder")
    named = ("eval", model, "--suite", "--task", "copa", "--data", sets)
    refused(smidgen(*named, "--contamination", tmp_path / "nothing"), "nothing")
    (model / "evals.json").write_text("{")
    refused(smidgen("eval", model, "--suite", "--task", "copa", "--data", sets), "is damaged")


def test_a_model_without_a_chat_template_is_asked_what_needs_none(
    smidgen: Smidgen, model: Path, sets: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ByteTokenizer, "chat_template", None)
    told = smidgen("eval", model, "--suite", "--data", sets, "--limit", 1)
    assert told.code == 0, told
    skipped = [line.split(":")[1].strip() for line in told.out.splitlines() if line.startswith("not asked")]
    assert skipped == list(IN_CONVERSATION)
    assert "gsm8k" in told.out
    refused(smidgen("eval", model, "--task", "village", "--limit", 1), "no chat template")


def test_the_sets_of_the_suite_where_they_are_here(smidgen: Smidgen, model: Path):
    """All of the published sets can be read, a few items of each asked."""
    data = REPOSITORY.parent / "shared/data/eval"
    if not data.is_dir():
        pytest.skip("needs the evaluation sets in ../shared/data/eval")
    told = smidgen("eval", model, "--suite", "--data", data, "--limit", 2, "--json")
    assert told.code == 0, told
    assert [task["name"] for task in json.loads(told.out)["tasks"]] == list(WHOLE)
