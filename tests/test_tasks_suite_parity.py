"""Every string we score is the one lm-evaluation-harness scores, every right answer its, every divisor its."""

import random
from collections.abc import Callable
from functools import cache
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness_tasks import FILES, harness_config, harness_task
from smidgen.errors import DataError
from smidgen.tasks.choice import ChoiceItem, ChoiceTask
from smidgen.tasks.completion import CompletionTask
from smidgen.tasks.files import Files, read_rows
from smidgen.tasks.suite import SUITE, Shelf, load_suite_task
from smidgen.tasks.suite.blimp import PARADIGMS
from smidgen.tasks.suite.gsm8k import FEW_SHOT_SEED, MAX_SYMBOLS
from suite_files import make_suite_files

pytest.importorskip("lm_eval", reason="lm-eval is not installed")

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "eval"
NAMES = {"accuracy": "acc", "normalized": "acc_norm", "greedy": "acc", "perplexity": "perplexity"}
"""What the harness calls our metrics."""
SAMPLE = 25
"""Rows of a published file in the fast tier."""

Rows = list[dict[str, Any]]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return make_suite_files(tmp_path / "eval")


@pytest.fixture
def published() -> Path:
    if not FOLDER.is_dir():
        pytest.skip("the published sets are not beside the repository")
    return FOLDER


def load(name: str, folder: Path) -> Any:
    return load_suite_task(name, folder, lambda line: None)


def rows_at(folder: Path, name: str, split: str) -> Rows:
    path = Files(folder).seek(name, split)
    assert path is not None
    return [record.fields for record in read_rows(path)]


class Pair(NamedTuple):
    """One of the harness's tasks beside ours: BLiMP is a task a paradigm there."""

    file: str
    split: str
    items: list[ChoiceItem]
    rows: Rows
    task: ChoiceTask


def choice_pair(folder: Path, name: str) -> Pair:
    """Read the task, or paradigm, on both sides."""
    task = load(name, folder)
    items = list(task.items())
    _, split, _ = items[0].id.split("/")
    config = harness_config(FILES[name])
    return Pair(
        FILES[name], config.get("test_split") or config["validation_split"], items, rows_at(folder, name, split), task
    )


@cache
def blimp_items(folder: Path) -> tuple[ChoiceTask, dict[str, list[ChoiceItem]]]:
    task = load("blimp", folder)
    return task, {kind: list(group) for kind, group in groupby(task.items(), key=lambda item: item.kind)}


def blimp_pair(folder: Path, paradigm: str) -> Pair:
    task, items = blimp_items(folder)
    if paradigm not in items:
        pytest.skip(f"{paradigm} is not among the local files")
    return Pair(f"blimp/{paradigm}.yaml", "train", items[paradigm], rows_at(folder, "blimp", paradigm), task)


def compare_choices(pair: Pair, step: int = 1) -> None:
    items, rows = pair.items[::step], pair.rows[::step]
    theirs = harness_task(pair.file, {pair.split: rows})
    requests = [[r.args for r in group] for _, group in groupby(theirs.instances, key=lambda r: r.doc_id)]
    assert len(requests) == len(items) == len(rows)
    assert {NAMES[metric] for metric in pair.task.metrics} == set(theirs._metric_fn_list)
    for item, asked, doc in zip(items, requests, theirs.eval_docs, strict=True):
        assert [(choice.context, choice.continuation) for choice in item.choices] == asked, item.id
        assert len(item.lengths) == len(item.choices)
        if theirs.OUTPUT_TYPE == "multiple_choice":
            assert list(item.lengths) == [len(text) for text in theirs.doc_to_choice(doc)], item.id
            compare_decisions(item, doc, theirs)


def compare_decisions(item: ChoiceItem, doc: Any, theirs: Any) -> None:
    """Give the candidates some log-probabilities and see which scores the harness makes of them."""
    n = len(item.choices)
    rng = random.Random(item.id)
    drawn = [[rng.uniform(-40, -1) for _ in range(n)] for _ in range(2)]
    for nats in [*drawn, *([float(k == i) - 2 for k in range(n)] for i in range(n))]:
        scores = theirs.process_results(doc, [(value, False) for value in nats])
        assert scores["acc"] == float(max(range(n), key=nats.__getitem__) == item.right), item.id
        if "acc_norm" in scores:
            each = [value / length for value, length in zip(nats, item.lengths, strict=True)]
            assert scores["acc_norm"] == float(max(range(n), key=each.__getitem__) == item.right), item.id


CHOICES = [name for name in FILES if name != "gsm8k"]


@pytest.mark.parametrize("name", CHOICES)
def test_choices_are_the_harness_s_on_awkward_rows(written: Path, name: str) -> None:
    compare_choices(choice_pair(written, name))


@pytest.mark.parametrize("paradigm", ["adjunct_island", "passive_1"])
def test_pairs_are_the_harness_s_on_awkward_rows(written: Path, paradigm: str) -> None:
    compare_choices(blimp_pair(written, paradigm))


@pytest.mark.parametrize("name", CHOICES)
def test_choices_are_the_harness_s_on_published_rows(published: Path, name: str) -> None:
    pair = choice_pair(published, name)
    compare_choices(pair, max(1, len(pair.items) // SAMPLE))


@pytest.mark.parametrize("paradigm", PARADIGMS[::8])
def test_pairs_are_the_harness_s_on_published_rows(published: Path, paradigm: str) -> None:
    compare_choices(blimp_pair(published, paradigm), 100)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHOICES)
def test_every_choice_there_is_is_the_harness_s(published: Path, name: str) -> None:
    compare_choices(choice_pair(published, name))


@pytest.mark.slow
@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_every_pair_there_is_is_the_harness_s(published: Path, paradigm: str) -> None:
    compare_choices(blimp_pair(published, paradigm))


def compare_completions(folder: Path, n: int | None, answers: Callable[[str], list[str]]) -> None:
    ours: CompletionTask = load("gsm8k", folder)
    # The harness's draw depends on an item's place, so the sample is a beginning.
    items = list(islice(ours.items(), n))
    rows = rows_at(folder, "gsm8k", "test")[:n]
    theirs = harness_task(FILES["gsm8k"], {"test": rows, "train": rows_at(folder, "gsm8k", "train")})
    assert ours.shots == theirs.config.num_fewshot
    assert len(items) == len(theirs.instances) == len(rows)
    for item, request, row in zip(items, theirs.instances, rows, strict=True):
        context, options = request.args
        assert item.context == context, item.id
        assert list(item.stops) == options["until"]
        assert item.max_symbols == options.get("max_gen_toks", MAX_SYMBOLS)
        for answer in answers(row["answer"]):
            scores = filtered_scores(theirs, request, row, answer)
            grade = ours.grade(item, answer)
            assert (grade.strict, grade.lenient) == (scores["strict-match"], scores["flexible-extract"]), answer


def filtered_scores(theirs: Any, request: Any, row: dict[str, Any], answer: str) -> dict[str, float]:
    """Return the harness's score of an answer by filter, cut at the stops as its models do."""
    for stop in request.args[1]["until"]:
        answer = answer.split(stop)[0]
    request.resps = [answer]
    scores = {}
    for pipeline in theirs._filters:
        pipeline.apply([request])
        scores[pipeline.name] = theirs.process_results(row, [request.filtered_resps[pipeline.name]])["exact_match"]
    return scores


def answers_like(right: str) -> list[str]:
    number = right.rpartition("#### ")[2]
    return [
        right,
        "",
        f"#### {number}.",
        f"#### ${number}",
        f"so {number}, or ${number}.00 it is {number}",
        f"#### {number}\n\nQuestion: and 7?\nAnswer: #### 7",
        f"#### 7 and #### {number}",
        f"####{number}",
        f"#### {number} 12",
        f"It is {number}</s> 3",
        f"#### {number},.",
        "#### .",
        "$.,",
        "no number",
        number.replace(",", ""),
    ]


def test_completions_are_the_harness_s_on_awkward_rows(written: Path) -> None:
    compare_completions(written, None, answers_like)


def test_completions_are_the_harness_s_on_published_rows(published: Path) -> None:
    compare_completions(published, SAMPLE, answers_like)


@pytest.mark.slow
def test_every_completion_there_is_is_the_harness_s(published: Path) -> None:
    compare_completions(published, None, lambda right: [right])


def test_the_harness_s_defaults_are_ours() -> None:
    from lm_eval.defaults import DEFAULT_MAX_GEN_TOKS, DEFAULT_OTHER_SEED

    assert (FEW_SHOT_SEED, MAX_SYMBOLS) == (DEFAULT_OTHER_SEED, DEFAULT_MAX_GEN_TOKS)


def test_versions_and_splits_are_the_harness_s(written: Path) -> None:
    """Where nothing is local, the harness's own data set is asked for, with its configuration and split."""
    for name, file in FILES.items():
        config, task, asked = harness_config(file), load(name, written), []

        def fetch(repository: str, pattern: str, asked: list[tuple[str, str]] = asked) -> Path:
            asked.append((repository, pattern))
            raise DataError("not now.")

        with pytest.raises(DataError, match="not now"):
            SUITE[name](Shelf(None, lambda line: None, fetch))
        split = config.get("test_split") or config["validation_split"]
        assert asked == [(config["dataset_path"], f"{config.get('dataset_name') or '*'}/{split}/*.parquet")]
        assert task.version == str((config.get("metadata") or {}).get("version", "Yaml"))
        assert task.source.endswith(file)


def test_blimp_is_the_harness_s_group(written: Path) -> None:
    group = harness_config("blimp/_blimp.yaml")
    assert group["task"] == [f"blimp_{paradigm}" for paradigm in PARADIGMS]
    assert load("blimp", written).version == str(group["metadata"]["version"])
    for paradigm in PARADIGMS:
        assert harness_config(f"blimp/{paradigm}.yaml")["dataset_name"] == paradigm


def test_the_harness_compared_with_is_the_one_named() -> None:
    from importlib.metadata import version

    from smidgen.tasks.suite import HARNESS

    ours, theirs = HARNESS.split()[1], version("lm-eval")
    if ours != theirs:
        pytest.skip(f"lm-eval {theirs} is installed; the prompts above agree with it too")
