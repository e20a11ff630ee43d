"""The same decisions, item by item, as lm-eval's own backend on the same files: our scorer against `--model hf`.

Both in fp32. Two sums of the same numbers in another order differ in the last digits, so an item whose two best
candidates are closer than that is a near tie: it is counted and may go either way, all others may not.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import REPOSITORY
from model_zoo import randomized, tiny
from smidgen.checkpoint import load_model, save_model
from smidgen.evaluation.choices import ChoiceResult, run_choices
from smidgen.evaluation.likelihood import Scorer
from smidgen.inference import prepare_for_decoding
from smidgen.runtime import cache_home
from smidgen.tasks.choice import Choice, ChoiceItem, ChoiceTask
from smidgen.tasks.suite import load_suite_task
from smidgen.tokenizers.bpe import BpeConfig, train_bpe

pytest.importorskip("lm_eval")

NATS = 5e-3
"""How close two likelihoods are the same: 9e-5 was the most seen behind a context, 2e-3 without one (BLiMP), where one
rare symbol stands before the sentence and carries activations of thousands."""
ITEMS = {"blimp": 165, "copa": 100, "winogrande": 100, "openbookqa": 100, "arc_easy": 60}
"""525 items of five tasks whose texts are short: some minutes on one core, nearly all of them the other backend's."""

DATA = REPOSITORY.parent / "shared/data/eval"
MODEL = cache_home() / "models/smollm2-135m"


def ours(folder: Path, task: ChoiceTask, limit: int | None) -> ChoiceResult:
    loaded = load_model(folder, dtype=torch.float32)
    return run_choices(task, Scorer(prepare_for_decoding(loaded.model), loaded.tokenizer), limit=limit)


def theirs(folder: Path, items: Sequence[ChoiceItem], batch_size: int) -> list[list[tuple[float, bool]]]:
    """What lm-eval's HF backend says to every candidate of every item."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(str(folder), dtype="float32", device="cpu", batch_size=batch_size)
    asked = [
        Instance("loglikelihood", {}, (choice.context, choice.continuation), number)
        for number, item in enumerate(items)
        for choice in item.choices
    ]
    said = iter(lm.loglikelihood(asked, disable_tqdm=True))
    return [list(itertools.islice(said, len(item.choices))) for item in items]


def compare(result: ChoiceResult, folder: Path, batch_size: int) -> dict[str, Any]:
    """Compare every item; return the largest difference, the near ties, and where decisions differ otherwise."""
    by_id = {item.id: item for item in result.task.items()}
    items = [by_id[item.id] for item in result.items]
    widest, near, different = 0.0, 0, []
    for scored, item, answers in zip(result.items, items, theirs(folder, items, batch_size), strict=True):
        nats = np.array([log_prob for log_prob, _ in answers])
        widest = max(widest, float(np.abs(nats - scored.answer.nats).max()))
        for lengths in (np.ones(len(nats)), np.array(item.lengths)):
            here, there = np.array(scored.answer.nats) / lengths, nats / lengths
            best = np.sort(there)
            close = len(nats) > 1 and best[-1] - best[-2] < NATS / lengths.min()
            near += bool(close)
            if not close and here.argmax() != there.argmax():
                different.append((item.id, here.tolist(), there.tolist()))
    return {"items": len(items), "widest": widest, "near": near, "different": different}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = "the fox went over the hill to look for the moon in the water of the lake and it was not there"
    tokenizer, _ = train_bpe([words] * 20, BpeConfig(vocab_size=300))
    folder = tmp_path_factory.mktemp("parity") / "model"
    save_model(folder, randomized(tiny().model_copy(update={"vocab_size": tokenizer.vocab_size})), tokenizer)
    return folder


def test_a_small_model_decides_as_in_the_other_backend(small: Path):
    """Contexts that candidates share, that differ, are empty or too long; a candidate that is another's beginning."""
    words = ["fox", "hill", "moon", "water", "lake", "over", "look", "went", "was", "there"]
    made = []
    for n in range(48):
        a, b, c = (words[(n * k + k) % len(words)] for k in (3, 7, 11))
        context = ["", f"the {a} went", f"to look for the {b} ", f"{a}\n{b}:"][n % 4] * (40 if n % 12 == 5 else 1)
        texts = (f" the {b}", f" the {b} of the {c}", f" {c}", f" {a} and {c}")[: 2 + n % 3]
        choices = tuple(Choice(f"{context}{' so' * (i if n % 3 == 0 else 0)}", text) for i, text in enumerate(texts))
        made.append(ChoiceItem(f"made/{n}", "", choices, 0, tuple(len(text) - 1 for text in texts)))
    metrics = ("accuracy", "normalized")
    task = ChoiceTask("made", "1.0", "none", metrics, "accuracy", len(made), lambda: made)
    found = compare(ours(small, task, None), small, batch_size=8)
    assert not found["different"], found["different"][:2]
    assert found["items"] == 48
    assert found["widest"] < 1e-4
    assert found["near"] <= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ITEMS)
def test_smollm2_decides_as_in_the_other_backend(name: str):
    if not DATA.is_dir() or not MODEL.is_dir():
        pytest.skip("needs the evaluation sets in ../shared/data/eval, and smidgen pull smollm2-135m")
    task = load_suite_task(name, DATA)
    assert isinstance(task, ChoiceTask)
    found = compare(ours(MODEL, task, ITEMS[name]), MODEL, batch_size=16)
    told = f"{name}: {found['items']} items, at most {found['widest']:.1e} nats apart, {found['near']} near ties"
    assert not found["different"], f"{told}; different: {found['different'][:2]}"
    assert found["items"] == ITEMS[name]
    assert found["widest"] < NATS, told
    assert found["near"] <= 0.02 * 2 * found["items"], told
    print(told)
