"""`smidgen compare`: what two evaluations show together, what they do not, and what cannot be compared."""

import json
import math
from pathlib import Path

import pytest

from conftest import Outcome, Smidgen
from evaluated import answers, evaluate, make_model, rewrite
from smidgen.errors import RunError
from smidgen.reports.entrants import find_entrants
from smidgen.reports.leaderboard import leaderboard_notes
from smidgen.reports.standing import EvalFiles, read_standing


def refused(result: Outcome, *words: str) -> None:
    assert result.code == 2, result
    assert not [word for word in words if word not in result.err], result.err
    assert "Traceback" not in result.err
    assert len(result.err.strip().splitlines()) <= 2, result.err


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A model, and one that is better at one task and alike at the other."""
    a, b = (make_model(tmp_path / name) for name in ("small", "large"))
    evaluate(a, {"arc_easy": answers(0.3), "piqa": answers(0.5, seed=1, prefix="piqa/validation")})
    evaluate(b, {"arc_easy": answers(0.42), "piqa": answers(0.505, seed=1, prefix="piqa/validation")})
    return a, b


def test_a_difference_is_called_only_where_it_is_one(smidgen: Smidgen, pair: tuple[Path, Path]):
    told = json.loads(smidgen("compare", *pair, "--json").out)
    arc, piqa = told["tasks"]
    assert (arc["task"], arc["verdict"]) == ("arc_easy", "B better")
    assert arc["difference"]["low"] > 0
    assert arc["a_wins"] == 0
    assert (piqa["task"], piqa["verdict"]) == ("piqa", "no difference shown")
    assert told["mean"]["value"] == pytest.approx((arc["difference"]["value"] + piqa["difference"]["value"]) / 2)
    back = json.loads(smidgen("compare", *reversed(pair), "--json").out)["tasks"][0]
    assert back["verdict"] == "A better"
    assert back["difference"]["value"] == -arc["difference"]["value"]


def test_it_reads_well_in_a_terminal(smidgen: Smidgen, pair: tuple[Path, Path]):
    result = smidgen("compare", *pair)
    assert result.code == 0, result.err
    table = result.out.splitlines()[2:5]
    assert max(map(len, table)) <= 80, result.out
    assert [row.split()[-1] for row in table] == ["shown", "better", "no"]
    for words in ("B better", "accuracy (arc_easy, piqa)", "Mean over tasks", "chance alone", "exact sign test"):
        assert words in result.out
    assert "*" not in result.out


def test_other_items_are_said_and_left_out(smidgen: Smidgen, tmp_path: Path):
    a = evaluate(make_model(tmp_path / "a"), {"arc_easy": answers(0.3, 400)})
    b = evaluate(make_model(tmp_path / "b"), {"arc_easy": answers(0.6, 100)}, more={"limit": 100, "of": 400})
    result = smidgen("compare", a, b)
    assert "arc_easy*" in result.out
    assert "compared on the 100 both were asked (A alone 300): arc_easy." in result.out
    assert "A part of the set only, which says little of the rest: arc_easy A 400, B 100 of 400." in result.out


def test_items_of_one_name_that_are_others_are_never_compared(smidgen: Smidgen, tmp_path: Path):
    a = evaluate(make_model(tmp_path / "a"), {"arc_easy": answers(0.3)})
    other = [row | {"hash": "changed"} for row in answers(0.6)]
    b = evaluate(make_model(tmp_path / "b"), {"arc_easy": other})
    refused(smidgen("compare", a, b), "cannot be compared", "the same 400 names stand for other items")
    none = evaluate(make_model(tmp_path / "c"), {"arc_easy": answers(0.6, first=1000)})
    refused(smidgen("compare", a, none), "400 and 400 items, none of them the same")


def test_versions_and_tasks_that_do_not_match(smidgen: Smidgen, tmp_path: Path):
    a = evaluate(make_model(tmp_path / "a"), {"arc_easy": answers(0.3), "piqa": answers(0.3, prefix="p")})
    b = evaluate(make_model(tmp_path / "b"), {"arc_easy": answers(0.3)}, more={"version": "2.0"})
    refused(smidgen("compare", a, b), "A was asked version 1.0, B version 2.0", "piqa: only A was asked")
    refused(smidgen("compare", a, b, "--task", "sst2"), "neither model was asked it", "arc_easy, piqa")
    same = json.loads(
        smidgen("compare", a, evaluate(make_model(tmp_path / "c"), {"piqa": answers(0.3, prefix="p")}), "--json").out
    )
    assert same["left_out"] == {"arc_easy": "only A was asked"}
    assert same["tasks"][0]["why"] == "the same on every item"


def test_by_another_metric(smidgen: Smidgen, pair: tuple[Path, Path]):
    told = json.loads(smidgen("compare", *pair, "--metric", "normalized", "--task", "arc_easy", "--json").out)
    assert [task["metric"] for task in told["tasks"]] == ["normalized"]
    refused(smidgen("compare", *pair, "--metric", "rouge"), "rouge was not kept of its items, but accuracy, normalized")


def test_a_task_without_that_metric_is_left_out_and_said(smidgen: Smidgen, tmp_path: Path):
    bare = [{key: row[key] for key in ("id", "hash", "score")} for row in answers(0.4, prefix="p")]
    a, b = (evaluate(make_model(tmp_path / n), {"arc_easy": answers(0.3), "mine": bare}) for n in "ab")
    told = json.loads(smidgen("compare", a, b, "--metric", "normalized", "--json").out)
    assert [task["task"] for task in told["tasks"]] == ["arc_easy"]
    assert told["left_out"] == {"mine": "normalized was not kept of its items, but accuracy"}


def test_perplexities_are_told_as_such_and_their_difference_in_nats(smidgen: Smidgen, tmp_path: Path):
    for name, nats in (("a", 3.0), ("b", 2.0)):
        rows = [row | {"scores": {"perplexity": nats}} for row in answers(0.3)]
        more = {"metrics": {"accuracy": 0.3, "perplexity": math.exp(nats)}}
        evaluate(make_model(tmp_path / name), {"lambada": rows}, more=more)
    asked = ("compare", tmp_path / "a", tmp_path / "b", "--metric", "perplexity")
    [task] = json.loads(smidgen(*asked, "--json").out)["tasks"]
    assert (task["a"], task["b"]) == (pytest.approx(math.exp(3)), pytest.approx(math.exp(2)))
    assert (task["difference"]["value"], task["difference_in"]) == (pytest.approx(-1), "nats")
    told = smidgen(*asked).out
    assert "20.09" in told
    assert "in nats" in told


def test_less_is_better_where_it_is(smidgen: Smidgen, tmp_path: Path):
    text = [{"id": f"d{n}", "hash": "x", "score": 1.5 + n / 1000, "weight": 100.0 + n} for n in range(50)]
    less = [row | {"score": row["score"] - 0.1} for row in text]
    more = {"metric": "bits_per_byte", "chance": None, "corrected": None, "value": 1.5}
    a = evaluate(make_model(tmp_path / "a"), {"my text": text}, more=more)
    b = evaluate(make_model(tmp_path / "b"), {"my text": less}, more=more)
    [task] = json.loads(smidgen("compare", a, b, "--json").out)["tasks"]
    assert task["verdict"] == "B better"
    assert task["a"] == pytest.approx(sum(r["score"] * r["weight"] for r in text) / sum(r["weight"] for r in text))
    assert "-0.1" in smidgen("compare", a, b).out


def test_ways_of_asking_that_differ_are_told(smidgen: Smidgen, pair: tuple[Path, Path]):
    rewrite(pair[0], lambda content: content["evals"][0]["protocol"].update(dtype="float32"))
    assert "asked in different ways (dtype: A float32, B bfloat16)" in smidgen("compare", *pair).out
    assert "same weights" in smidgen("compare", pair[0], pair[0]).out


def test_ways_of_asking_are_compared_task_by_task(smidgen: Smidgen, tmp_path: Path):
    """Bits per byte have a protocol of their own; how other answers were sampled says nothing of a score."""
    text = [{"id": f"d{n}", "hash": "x", "score": 1.5 + n / 1000, "weight": 100.0} for n in range(50)]
    for name, context in (("a", 256), ("b", 512)):
        model = evaluate(make_model(tmp_path / name), {"arc_easy": answers(0.3)}, fingerprint=name)
        more = {"metric": "bits_per_byte", "corrected": None, "value": 1.5}
        more["protocol"] = {"context": context, "stride": 128, "precision": "bfloat16"}
        evaluate(model, {"bits_per_byte:t.txt": text}, fingerprint=name, more=more)
        rewrite(model, lambda content, name=name: content["evals"][0]["protocol"].update(sampled=name))
    told = smidgen("compare", tmp_path / "a", tmp_path / "b")
    assert "asked in different ways (context: A 256, B 512 at bits_per_byte:t.txt)." in told.out, told
    [arc, bits] = json.loads(smidgen("compare", tmp_path / "a", tmp_path / "b", "--json").out)["tasks"]
    assert (arc["asked_differently"], bits["asked_differently"]) == ([], ["context: A 256, B 512"])
    notes = "\n".join(leaderboard_notes(find_entrants(tmp_path)))
    assert "asked in different ways: context (256, 512) at bits_per_byte:t.txt." in notes


def test_what_is_no_evaluated_model_is_one_clear_line(smidgen: Smidgen, pair: tuple[Path, Path], tmp_path: Path):
    bare = make_model(tmp_path / "bare")
    refused(smidgen("compare", pair[0], bare), "was never evaluated", f"smidgen eval {bare}")
    refused(smidgen("compare", pair[0], tmp_path / "nowhere"), "no such directory")
    (tmp_path / "empty").mkdir()
    refused(smidgen("compare", tmp_path / "empty", pair[0]), "holds no config.json")
    refused(smidgen("compare", "smollm2-135m", pair[0]), "is not here yet", "smidgen pull smollm2-135m")
    refused(smidgen("compare", "runs/a", pair[0]), "no such directory", "smidgen pull runs/a")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"format": 1, "evals": [', "is damaged"),
        ("[]", "names no format"),
        ('{"format": 2, "evals": []}', "later version (format 2"),
        ('{"format": 1}', "no list 'evals'"),
        ('{"format": 1, "evals": [{"tasks": []}]}', "evaluation 1 is no record"),
        ('{"format": 1, "evals": [{"model": "x", "tasks": [{"name": "a", "n": 3}]}]}', "task a has no 'value'"),
        (f'{{"format": 1, "evals": [{{"model": "x", "tasks": [{{"name": "a", "n": 1{"0" * 400}}}]}}]}}', "task a has"),
    ],
)
def test_a_damaged_or_later_record_is_refused(smidgen: Smidgen, pair: tuple[Path, Path], content: str, words: str):
    (pair[1] / "evals.json").write_text(content)
    refused(smidgen("compare", *pair), "evals.json", words)


@pytest.mark.parametrize("items", ["../../mine.txt", "{absolute}", "..", 7])
def test_a_record_never_has_files_deleted_elsewhere(tmp_path: Path, items: object):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    model = evaluate(make_model(tmp_path / "m"), {"arc_easy": answers(0.3)})
    named = str(mine) if items == "{absolute}" else items
    rewrite(model, lambda content: content["evals"][0]["tasks"][0].update(items=named))
    with pytest.raises(RunError, match="'items' must be the name of a file"):
        evaluate(model, {"arc_easy": answers(0.4)})
    assert mine.read_text() == "mine"


def test_an_answer_with_line_ends_of_any_kind_is_one_line(smidgen: Smidgen, tmp_path: Path):
    rows = [row | {"answer": "one\u2028two\u2029three\x85four"} for row in answers(0.3)]
    a, b = (evaluate(make_model(tmp_path / name), {"arc_easy": rows}) for name in "ab")
    assert smidgen("compare", a, b).code == 0
    [file] = (b / "evals").iterdir()
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    assert smidgen("compare", a, b).code == 0


def test_damaged_item_scores_are_refused(smidgen: Smidgen, pair: tuple[Path, Path]):
    [file] = (pair[1] / "evals").glob("arc_easy*")
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-1]))
    refused(smidgen("compare", *pair), "holds 399 items, 400 were asked")
    file.write_text("\n".join([*lines[:-1], lines[-1][:10]]))
    refused(smidgen("compare", *pair), "is damaged", "Evaluate arc_easy again")
    for damage in ({"weight": "x"}, {"weight": -1}, {"scores": [1]}, {"scores": {"normalized": "x"}}, {"score": None}):
        file.write_text("\n".join([*lines[:-1], json.dumps(json.loads(lines[-1]) | damage)]))
        refused(smidgen("compare", *pair), "no item", "Evaluate arc_easy again")
    file.unlink()
    refused(smidgen("compare", *pair), "are missing")


def test_a_trial_does_not_take_the_place_of_the_whole(tmp_path: Path):
    model = evaluate(make_model(tmp_path / "m"), {"arc_easy": answers(0.3, 400)})
    evaluate(model, {"arc_easy": answers(0.9, 20)}, more={"limit": 20, "of": 400})
    standing = read_standing(EvalFiles.beside(model))
    assert standing is not None
    [score] = standing.scores
    assert (score.n, score.is_part) == (400, False)
    assert len(list((model / "evals").iterdir())) == 1
    evaluate(model, {"arc_easy": answers(0.5, 400)})
    evaluate(model, {"sst2": answers(0.5, 10, prefix="s")}, fingerprint="other weights")
    later = read_standing(EvalFiles.beside(model))
    assert later is not None
    assert ([score.name for score in later.scores], later.others) == (["sst2"], 3)


def test_a_later_whole_takes_the_place_of_a_longer_one(tmp_path: Path):
    model = evaluate(make_model(tmp_path / "m"), {"my text": answers(0.3, 400)})
    evaluate(model, {"my text": answers(0.5, 300)})
    standing = read_standing(EvalFiles.beside(model))
    assert standing is not None
    assert [score.n for score in standing.scores] == [300]


def test_the_card_has_the_table_and_keeps_the_rest(tmp_path: Path):
    model = evaluate(make_model(tmp_path / "m"), {"arc_easy": answers(0.3, 20)}, more={"limit": 20, "of": 2376})
    card = (model / "README.md").read_text()
    assert card.startswith("# m\n\nMine to edit.\n")
    assert "20 of 2,376 |" in card
    assert "only a part of the published items was asked" in card
    (model / "README.md").write_text(card.replace("Mine", "Still mine") + "\nMy last words.\n")
    evaluate(
        model,
        {"piqa": answers(0.5, prefix="p")},
        more={"contamination": {"share": 0.02, "score_clean": {"value": 0.4}}},
    )
    card = (model / "README.md").read_text()
    assert card.startswith("# m\n\nStill mine to edit.\n")
    assert card.rstrip().endswith("My last words.")
    assert card.count("## Evaluations") == 1
    assert "| 2.0% of items; 40.0% without |" in card
    assert "not looked" in card
