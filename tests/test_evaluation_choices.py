"""Choice tasks: ties and chance told honestly, nothing left out in silence, and a killed run goes on where it was."""

import math
import random
from collections.abc import Mapping

import pytest
import torch

from model_zoo import tiny
from smidgen.errors import ConfigError, DataError, RunError
from smidgen.evaluation import choices as choices_file
from smidgen.evaluation.choices import ChoiceResult, ItemScore, run_choices, share_of_best
from smidgen.evaluation.kept import Answer, item_key
from smidgen.evaluation.likelihood import Scorer
from smidgen.journey.kept import KeptLines, decode_likelihoods, open_kept
from smidgen.models import LlamaConfig, build_model
from smidgen.tasks.choice import Choice, ChoiceItem, ChoiceTask
from smidgen.tokenizers.bytes import ByteTokenizer

ALL = ("accuracy", "normalized", "greedy", "perplexity")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def item(number, n=4, length=3, kind="", seed=0):
    draw = random.Random(f"{seed} {number}")

    def word(size):
        return "".join(draw.choice(LETTERS) for _ in range(size))

    prompt = f"Question: {word(draw.randint(3, 12))}\nAnswer:"
    candidates = [word(length or draw.randint(1, 9)) for _ in range(n)]
    choices = tuple(Choice(prompt, f" {candidate}") for candidate in candidates)
    return ChoiceItem(f"words/test/{number}", kind, choices, draw.randrange(n), tuple(map(len, candidates)))


def task(items, metrics=("accuracy", "normalized"), published=None, name="words"):
    items = list(items)
    return ChoiceTask(name, "1.0", "words.yaml", metrics, metrics[0], published or len(items), lambda: items)


def scorer(seed=0, batch_symbols=200, constant=False, max_len=None, dtype=torch.float32):
    config = LlamaConfig(**(tiny().model_dump() | {"vocab_size": 264, "max_seq_len": 64}))
    model = build_model(config, seed)
    if constant:
        with torch.no_grad():
            model.model.embed_tokens.weight.zero_()
    return Scorer(model.to(dtype), ByteTokenizer(), max_len, batch_symbols)


class Memory:
    """A `Kept` in a dict; raises KeyboardInterrupt when told to, before or after it has kept a batch."""

    def __init__(self, dies_at=None):
        self.answers, self.batches, self.dies_at = {}, 0, dies_at

    def find(self, key: str) -> Answer | None:
        return self.answers.get(key)

    def add(self, answers: Mapping[str, Answer]) -> None:
        self.answers |= answers
        self.batches += 1
        if self.batches == self.dies_at:
            raise KeyboardInterrupt


def counted(scoring):
    """Count the pairs that a scorer is given from now on."""
    asked = []
    score = scoring.score
    scoring.score = lambda encoded: asked.extend(encoded) or score(encoded)
    return asked


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n", [2, 4, 5])
def test_a_constant_model_lands_exactly_at_chance(n, dtype):
    result = run_choices(task((item(i, n) for i in range(30)), ALL), scorer(constant=True, dtype=dtype))
    for metric in ("accuracy", "normalized"):
        assert result.metrics[metric].value == pytest.approx(1 / n)
        assert result.corrected(metric, result.metrics[metric].value) == pytest.approx(0)
    assert result.metrics["greedy"].value == 0
    assert result.metrics["perplexity"].value == pytest.approx(264**4, rel=1e-4)
    assert result.chance == pytest.approx(1 / n)


def test_a_random_model_lands_at_chance():
    result = run_choices(task(item(i, length=None) for i in range(400)), scorer(seed=3, batch_symbols=4096))
    for estimate in result.metrics.values():
        assert estimate.low <= 0.25 <= estimate.high
        assert estimate.n == 400


def test_ties_earn_their_share():
    assert share_of_best([-1.0, -1.0, -2.0], 0) == 0.5
    assert share_of_best([-1.0, -1.0, -2.0], 2) == 0
    assert share_of_best([-1.0, -1.0 - 1e-8, -1.0], 1) == pytest.approx(1 / 3)
    assert share_of_best([-1.0, -1.001], 0) == 1
    same = item(0)
    twins = ChoiceItem("twins", "", (same.choices[0], same.choices[0]), 1, (3, 3))
    assert run_choices(task([twins]), scorer()).items[0].scores == {"accuracy": 0.5, "normalized": 0.5}


def test_metrics_are_those_of_the_harness():
    asked = [item(i, length=None) for i in range(12)]
    result = run_choices(task(asked, ALL), scorer())
    for one, scored in zip(asked, result.items, strict=True):
        nats = scored.answer.nats
        per_character = [value / length for value, length in zip(nats, one.lengths, strict=True)]
        assert scored.scores["accuracy"] == (nats.index(max(nats)) == one.right)
        assert scored.scores["normalized"] == (per_character.index(max(per_character)) == one.right)
        assert scored.scores["perplexity"] == -nats[one.right]
    right = [scored.answer.nats[one.right] for one, scored in zip(asked, result.items, strict=True)]
    perplexity = result.metrics["perplexity"]
    assert perplexity.value == pytest.approx(math.exp(-sum(right) / len(right)))
    assert perplexity.low < perplexity.value < perplexity.high
    assert result.corrected("perplexity", 7.0) is None


def test_a_cloze_is_right_if_it_is_what_the_model_would_say():
    asking = scorer(seed=5)
    model, tokenizer = asking.model, asking.tokenizer
    ids = [tokenizer.bos_id, *tokenizer.encode("cloze")]
    with torch.no_grad():
        said = int(model(torch.tensor([ids]))[0, -1].argmax())
    # What a random model says is seldom a letter: let it.
    with torch.no_grad():
        weight = model.model.embed_tokens.weight
        weight[[said, ord("x")]] = weight[[ord("x"), said]]
    items = [ChoiceItem(str(n), "", (Choice("cloze", text),), 0, (1,)) for n, text in enumerate("xy")]
    result = run_choices(task(items, ("greedy", "perplexity")), asking)
    assert [scored.scores["greedy"] for scored in result.items] == [1, 0]
    assert result.as_dict()["chance"] == 0
    assert result.as_dict()["corrected"] == result.as_dict()["value"] == 0.5


@pytest.mark.parametrize("dies_at", [1, 2, 5])
def test_killed_and_resumed_is_bit_for_bit_the_same_and_scores_nothing_again(dies_at, monkeypatch):
    monkeypatch.setattr(choices_file, "WINDOW_ITEMS", 16)
    asked = task(item(i, length=None) for i in range(40))
    whole = run_choices(asked, scorer())
    kept = Memory(dies_at)
    with pytest.raises(KeyboardInterrupt):
        run_choices(asked, scorer(), kept=kept)
    done, again = len(kept.answers), scorer()
    assert 0 < done < 40
    pairs = counted(again)
    told = []
    resumed = run_choices(asked, again, kept=kept, progress=lambda *now: told.append(now))
    assert resumed.items == whole.items
    assert resumed.as_dict() == whole.as_dict()
    assert resumed.reused == done
    assert len(pairs) == 4 * (40 - done)
    assert told[-1] == (40, 40)
    assert run_choices(asked, again, kept=kept).items == whole.items
    assert len(pairs) == 4 * (40 - done)


def test_a_larger_limit_scores_only_what_is_new():
    kept, asking = Memory(), scorer()
    asked = task(item(i) for i in range(20))
    run_choices(asked, asking, limit=8, kept=kept)
    pairs = counted(asking)
    result = run_choices(asked, asking, kept=kept)
    assert len(pairs) == 4 * 12
    assert result.reused == 8
    for mine, alone in zip(result.items, run_choices(asked, scorer()).items, strict=True):
        assert mine.answer.nats == pytest.approx(alone.answer.nats, abs=1e-4)


def test_answers_in_a_file_survive_a_kill_at_any_byte(tmp_path):
    asked = task(item(i, length=None) for i in range(16))
    whole = run_choices(asked, scorer(), kept=KeptLines(tmp_path / "whole.jsonl", decode_likelihoods))
    data = (tmp_path / "whole.jsonl").read_bytes()
    lines = data.count(b"\n")
    assert lines >= 3
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    for at in (0, 1, ends[0] - 1, ends[0], ends[0] + 1, ends[1] + 40, len(data) - 1, len(data)):
        path = tmp_path / f"{at}.jsonl"
        path.write_bytes(data[:at])
        kept = KeptLines(path, decode_likelihoods)
        assert kept.dropped == (at not in (0, *ends))
        resumed = run_choices(asked, scorer(), kept=kept)
        assert resumed.items == whole.items
        assert sorted(path.read_bytes().split(b"\n")) == sorted(data.split(b"\n"))
        again = KeptLines(path, decode_likelihoods)
        assert again.dropped == 0
        assert all(again.find(item_key(one)) for one in asked.items())


def test_a_damaged_line_costs_its_own_items_only(tmp_path):
    asked = task(item(i) for i in range(16))
    path = tmp_path / "kept.jsonl"
    whole = run_choices(asked, scorer(), kept=KeptLines(path, decode_likelihoods))
    first, second, *rest = path.read_text().splitlines()
    for damaged in (second[:-9], second.replace("nats", "cats"), "null", "[1]", second.replace("[-", "[true, -", 1)):
        path.write_text("\n".join([first, damaged, *rest]) + "\n")
        kept = KeptLines(path, decode_likelihoods)
        assert kept.dropped == 1
        assert run_choices(asked, scorer(), kept=kept).items == whole.items
    with pytest.raises(RunError, match="cannot be kept there"):
        KeptLines(tmp_path, decode_likelihoods)


def test_another_model_version_protocol_or_text_is_another_question(tmp_path):
    asked = task([item(0)])
    protocol = scorer().protocol
    kept = open_kept(tmp_path, "0123", asked, protocol)
    run_choices(asked, scorer(), kept=kept)
    assert open_kept(tmp_path, "0123", asked, protocol).find(item_key(item(0)))
    changed = task([item(0)], name="other")
    for model, which, how in (
        ("4567", asked, protocol),
        ("0123", changed, protocol),
        ("0123", asked, protocol | {"context": 8}),
    ):
        assert open_kept(tmp_path, model, which, how).find(item_key(item(0))) is None
    assert open_kept(tmp_path, "0123", asked, protocol).find(item_key(item(0, seed=1))) is None


def test_a_limit_takes_of_each_kind_the_first_and_says_so():
    asked = task(item(i, kind="ab"[i // 10]) for i in range(20))
    result = run_choices(asked, scorer(), limit=5)
    assert [scored.id.rsplit("/")[-1] for scored in result.items] == ["0", "1", "2", "10", "11"]
    record = result.as_dict()
    assert (record["n"], record["of"], record["limit"]) == (5, 20, 5)
    assert set(record["kinds"]) == {"a", "b"}
    assert record["kinds"]["a"]["n"] == 3
    assert record["mean_of_kinds"] == pytest.approx(sum(kind["value"] for kind in record["kinds"].values()) / 2)
    assert record["items_hash"] != run_choices(asked, scorer()).as_dict()["items_hash"]
    assert [row["id"] for row in result.rows()] == [scored.id for scored in result.items]


def test_items_that_do_not_fit_are_counted():
    long = ChoiceItem("long", "", (Choice("x" * 90, " a"), Choice("x" * 90, " b")), 0, (1, 1))
    impossible = ChoiceItem("impossible", "", (Choice("x", " a"), Choice("x", "b" * 90)), 0, (1, 90))
    result = run_choices(task([item(0), long, item(1), impossible]), scorer())
    assert [scored.id for scored in result.items] == [item(0).id, "long", item(1).id]
    assert (result.cut, result.unfit) == (1, ("impossible",))
    record = result.as_dict()
    assert (record["n"], record["of"], record["cut"], record["unfit"]) == (3, 4, 1, 1)
    with pytest.raises(DataError, match="no item fits a context of 64"):
        run_choices(task([impossible]), scorer())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (ChoiceItem("i", "", (), 0, ()), "item i has no candidate"),
        (ChoiceItem("i", "", (Choice("a", " b"), Choice("a", " ")), 0, (1, 0)), "candidate 2 of 2 is empty"),
        (ChoiceItem("i", "", (Choice("a", " b"),), 0, (1,)), "item i has one candidate"),
        (ChoiceItem("i", "", (Choice("a", " b"), Choice("a", " c")), 2, (1, 1)), "number 3 of 2"),
        (ChoiceItem("i", "", (Choice("a", " b"), Choice("a", " c")), 0, ()), "lengths"),
    ],
)
def test_an_item_that_cannot_be_asked_is_named(broken, message):
    with pytest.raises(DataError, match=message):
        run_choices(task([broken]), scorer())


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="limit 0"):
        run_choices(task([item(0)]), scorer(), limit=0)


def test_a_perplexity_beyond_all_numbers_is_still_one():
    asked = ItemScore("i", "", Answer((-1000.0,), (False,), (1,), 0), {"perplexity": 1000.0}, 0.0)
    only = task([item(0, n=1)], metrics=("perplexity",))
    found = ChoiceResult(only, {}, (asked, asked), (), None, "", 0).metrics["perplexity"]
    assert all(math.isfinite(value) and value > 8e307 for value in (found.value, found.low, found.high))
