"""What of an evaluation stood in training text: all of it that did, and the score with and without it."""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from conftest import REPOSITORY
from smidgen.data.ngrams import NgramIndex
from smidgen.evaluation.contamination import ItemText, look_for, texts_of_choices, texts_of_examples
from smidgen.tasks.base import Example
from smidgen.tasks.choice import Choice, ChoiceItem

SHARED = REPOSITORY.parent / "shared/data"
QUESTION = "Which is a response of the autonomic nervous system that helps maintain equilibrium in the body?"


def choice(number: int, context: str, *continuations: str, right: int = 0) -> ChoiceItem:
    choices = tuple(Choice(context, continuation) for continuation in continuations)
    return ChoiceItem(f"set/test/{number}", "", choices, right, tuple(map(len, continuations)))


def test_the_words_of_the_prompt_are_not_looked_for():
    items = [
        choice(
            n, f"{text}\nQuestion: Is this sentence positive or negative?\nAnswer:", " negative", " positive", right=1
        )
        for n, text in enumerate(["a charming journey", "no fun at all", "unflinchingly bleak", "a deep film", "meh"])
    ]
    assert [one.text for one in texts_of_choices(items)][:2] == ["a charming journey", "no fun at all"]


def test_question_and_right_answer_are_looked_for_as_they_would_stand_in_a_text():
    [one] = texts_of_choices([choice(7, f"Question: {QUESTION}\nAnswer:", " sweating", " shivering", right=1)])
    assert (one.id, one.text.split("\n")) == ("set/test/7", [QUESTION, "shivering"])
    [lettered] = texts_of_choices(
        [choice(8, "Question: Where do foxes live?\nA. den\nB. the sea\nAnswer:", " A", " B", right=1)]
    )
    assert lettered.text.split("\n") == ["Where do foxes live?", "the sea"]
    [told] = texts_of_examples([Example("own/1", "What is 2 + 2?", "4")])
    assert told.text == "What is 2 + 2?\n4"


def test_shares_scores_and_places():
    items = [ItemText(f"t/{n}", f"{QUESTION} Item number {n} {'of the set ' * 20}") for n in range(3)]
    items += [ItemText("t/short", "three words only"), ItemText("t/other", QUESTION.replace("body", "mind") + " yes")]
    texts = ["nothing of note", f"A page. {QUESTION.upper()} shivering", f"And again: {QUESTION} Really?"]
    found = look_for({"t": items, "none": [ItemText("n/1", "some other words that stand nowhere at all here")]}, texts)
    exposure = found["t"]
    assert set(exposure.touched) == {"t/0", "t/1", "t/2", "t/other"}
    assert (exposure.texts, exposure.unsearchable, exposure.share) == (3, {"t/short"}, 1.0)
    assert exposure.touched["t/other"].covered > 0.8 > 0.3 > exposure.touched["t/0"].covered
    assert exposure.touched["t/0"].texts == 2
    assert exposure.touched["t/0"].passages[0].startswith("WHICH IS A RESPONSE")
    scores = {"t/0": 1.0, "t/1": 1.0, "t/other": 0.0, "t/short": 0.5}
    told = exposure.as_dict(scores)
    assert (told["items"], told["touched"], told["whole"], told["unsearchable"]) == (4, 3, 1, 1)
    assert told["score_touched"]["value"] == pytest.approx(2 / 3)
    assert told["score_clean"]["value"] == 0.5
    assert not found["none"].touched
    assert found["none"].as_dict({"n/1": 1.0})["score_touched"] is None
    assert json.dumps(told)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield from map(json.loads, file)
        return
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor(max_window_size=1 << 31).stream_reader(file)
        yield from map(json.loads, io.TextIOWrapper(reader, encoding="utf-8"))


def answered(task: str, row: dict[str, Any]) -> str:
    if task == "arc_easy":
        return f"{row['question']} {row['choices']['text'][row['choices']['label'].index(row['answerKey'])]}"
    return f"{row['goal']} {row['sol1' if row['label'] == 0 else 'sol2']}" if task == "piqa" else row["text"]


@pytest.mark.skipif(not (SHARED / "messy").is_dir(), reason="needs ../shared/data: documents with known test items")
def test_every_hidden_item_is_found_and_no_clean_document_is_accused():
    hidden = {r["id"]: r for r in rows(SHARED / "messy/labels.jsonl.gz")}
    documents = [
        r for r in rows(SHARED / "messy/messy.jsonl.zst") if hidden[r["id"]]["label"] in ("clean", "eval_contamination")
    ]
    sets = {"arc_easy": "test", "piqa": "validation", "lambada_openai": "test"}
    items = [
        (task, number, answered(task, row))
        for task, split in sets.items()
        for number, row in enumerate(rows(SHARED / f"eval/{task}/{split}.jsonl.gz"))
    ]
    found = {
        (documents[f.text]["id"], *items[f.item][:2])
        for f in NgramIndex(text for *_, text in items).find(d["text"] for d in documents)
    }
    known = {(id, r["task"], r["row"]) for id, r in hidden.items() if r["label"] == "eval_contamination"}
    assert len(known) == 60
    assert known <= found
    assert not [one for one in found if hidden[one[0]]["label"] == "clean"], "of 4,300 clean documents"
