"""Laws of preference learning: the formula, what is compared with what, and a margin that rises."""

import json
import math

import pytest
import torch
from torch.nn import functional as F

from model_zoo import randomized, tiny
from smidgen.data.preferences import Preference as Pair
from smidgen.data.preferences import encode_preferences, read_preferences
from smidgen.data.supervised import StepLayout
from smidgen.errors import DataError, TrainingError
from smidgen.models import build_model
from smidgen.runtime import Runtime
from smidgen.tokenizers.bytes import ByteTokenizer
from smidgen.tokenizers.chat import Message
from smidgen.training import Outside, fit
from smidgen.training.config import StepBudget
from smidgen.training.fine_tuning import fine_tuning_config
from smidgen.training.objectives.preference import Preference, PreferenceConfig, reference_log_probs

CPU = Runtime(torch.device("cpu"), torch.float32)
BYTES = ByteTokenizer()
SHAPE = tiny().model_copy(update={"vocab_size": BYTES.vocab_size, "max_seq_len": 128})


def asked(text):
    return (Message("user", text),)


PAIRS = [
    Pair(asked(f"say {word}"), f"{word} it is", f"{word} not, {'no ' * n}")
    for n, word in enumerate(["a", "bcd", "efghij", "kl"])
]


def encoded(pairs=PAIRS, longest=128):
    return encode_preferences(BYTES, pairs, longest)


def scored(model, pairs):
    return pairs.compared_with(reference_log_probs(model, pairs.batch, pairs.lengths, micro_symbols=200))


def test_a_pair_weighs_one_and_only_what_differs_is_weighed():
    batch = encoded().batch([0, 1, 2, 3])
    assert batch.ids.shape[0] == 8
    torch.testing.assert_close(batch.weights.sum(1), torch.full((8,), 0.5))
    chosen, rejected = batch.targets[2], batch.targets[3]
    first = int((chosen != rejected).nonzero()[0])
    assert not batch.weights[2:4, :first].any()
    assert batch.weights[2, first] > 0 < batch.weights[3, first]


def test_the_loss_is_its_formula_with_its_gradient():
    model, reference = randomized(SHAPE), randomized(SHAPE, seed=5)
    pairs = scored(reference, encoded())
    batch = pairs.batch([2, 0, 3])
    config = PreferenceConfig(beta=0.3, label_smoothing=0.1)
    out = Preference(config)(model, batch)

    def answers(of):
        everything = of(batch.ids).log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]
        return (everything * (batch.weights > 0)).sum(1).view(-1, 2)

    with torch.no_grad():
        torch.testing.assert_close(
            batch.extra["reference_log_probs"].view(-1, 2), answers(reference), rtol=1e-4, atol=1e-3
        )
        before = answers(reference)
    moved = answers(model) - before
    margin = 0.3 * (moved[:, 0] - moved[:, 1])
    expected = (-0.9 * F.logsigmoid(margin) - 0.1 * F.logsigmoid(-margin)).sum()
    torch.testing.assert_close(out.loss, expected, rtol=1e-4, atol=1e-3)
    grads, wanted = (torch.autograd.grad(value, list(model.parameters())) for value in (out.loss, expected))
    torch.testing.assert_close(grads, wanted, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(out.metrics["margin"], margin.detach().sum(), rtol=1e-3, atol=1e-2)


def test_against_itself_a_model_prefers_nothing():
    model = randomized(SHAPE)
    out = Preference(PreferenceConfig())(model, scored(model, encoded()).batch([0, 1, 2, 3]))
    assert out.loss.item() == pytest.approx(4 * math.log(2), abs=1e-3)
    assert float(out.metrics["margin"]) == pytest.approx(0, abs=1e-3)


def test_pairs_that_were_not_scored_are_refused():
    with pytest.raises(TrainingError, match="needs reference_log_probs"):
        Preference(PreferenceConfig())(randomized(SHAPE), encoded().batch([0]))


def test_preferring_raises_the_margin():
    model = build_model(SHAPE)
    pairs = scored(model, encoded())
    stream = pairs.stream(StepLayout(examples=4, micro_symbols=256))
    config = fine_tuning_config("full", PreferenceConfig(beta=0.2), StepBudget(steps=12), 2e-3)
    records = []
    fit(
        model,
        stream.batches_from,
        Preference(PreferenceConfig(beta=0.2)),
        config,
        CPU,
        Outside(on_record=[records.append]),
    )
    assert records[0]["margin"] == pytest.approx(0, abs=1e-3)
    assert records[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)
    assert records[-1]["margin"] > 1
    assert records[-1]["bits_per_byte"] is None
    assert records[-1]["accuracy"] == 1
    assert records[-1]["chosen"] > records[-1]["rejected"]


ASKED, SAID, OTHER = (
    {"role": role, "content": content}
    for role, content in (("user", "say a"), ("assistant", "a it is"), ("assistant", "no"))
)


def test_pairs_are_read_from_the_usual_columns(tmp_path):
    said, other = [ASKED, SAID], [ASKED, OTHER]
    rows = [
        {"prompt": "say a", "chosen": "a it is", "rejected": "no"},
        {"chosen": said, "rejected": other},
        {"prompt": said[:1], "chosen": said, "rejected": other, "score": 3},
        {"prompt": said[:1], "chosen": [SAID], "rejected": [OTHER]},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert read_preferences(path) == [Pair(asked("say a"), "a it is", "no")] * 4


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "x", "chosen": "a"}, "pairs.jsonl:1: has no `rejected`.* it has prompt, chosen"),
        ({"chosen": "a", "rejected": "b"}, "has no `prompt`"),
        ({"chosen": [], "rejected": "b"}, "messages must be a list"),
        ({"chosen": [ASKED, SAID], "rejected": [SAID, ASKED]}, "rejected ends with a message of 'user'"),
        ({"chosen": [ASKED, ASKED], "rejected": [ASKED, SAID]}, "chosen ends with a message of 'user'"),
        ({"chosen": [ASKED, SAID], "rejected": [SAID, ASKED, SAID]}, "answers to different conversations"),
        ({"prompt": "say b", "chosen": [ASKED, SAID], "rejected": [ASKED, OTHER]}, "prompt is not what stands before"),
        ({"chosen": [SAID], "rejected": [OTHER]}, "has no `prompt`, and nothing stands before"),
    ],
)
def test_a_record_that_is_no_pair_is_refused_with_its_place(row, reason, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(DataError, match=reason):
        read_preferences(path)


def test_what_teaches_nothing_is_left_out_and_told():
    same = Pair(asked("x"), "yes", "yes")
    pairs = encoded([*PAIRS, same, Pair(asked("x"), "yes", "no " * 100)])
    assert len(pairs.pairs) == 4
    assert "1 more with the same answer twice" in pairs.note
    assert "1 of more than 128 are left out" in pairs.note
    with pytest.raises(DataError, match="all 1 pairs are the same"):
        encoded([same])
    with pytest.raises(DataError, match="no pairs"):
        encoded([])
