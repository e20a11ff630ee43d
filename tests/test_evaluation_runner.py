"""The runner: what a model says is what is graded, through the engine, and the baselines stand beside it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from smidgen.errors import DataError
from smidgen.evaluation.runner import run_task
from smidgen.inference import Engine, SamplingParams
from smidgen.models import LlamaConfig, build_model
from smidgen.models.attention import AttentionConfig
from smidgen.models.stack import StackConfig
from smidgen.tasks.base import Example, Grade, default_reward, exact_match
from smidgen.tokenizers.bytes import ByteTokenizer
from smidgen.tokenizers.chat import Message, encode_chat

COLOURS = ("red", "blue", "red", "green", "red", "pink")


@dataclass
class Colours:
    """Asks for a colour that the question itself names."""

    name: str = "colours"
    long_questions: frozenset[int] = field(default_factory=frozenset)

    def examples(self) -> Iterator[Example]:
        for index, colour in enumerate(COLOURS):
            padding = "very " * 40 if index in self.long_questions else ""
            question = f"A {padding}{colour} hat."
            kind = "warm" if colour == "red" else "cold"
            yield Example(f"colours/{index}", question, colour, kind=kind, chance=1 / 3)

    def prompt(self, example: Example) -> list[Message]:
        return [Message("user", example.question)]

    def grade(self, example: Example, answer: str) -> Grade:
        return exact_match(answer, example.answer, max_words=1)

    def reward(self, example: Example, answer: str) -> float:
        return default_reward(self.grade(example, answer))


def llama() -> nn.Module:
    stack = StackConfig(d_model=32, layers=(0, 1), attention=AttentionConfig(n_heads=2, n_kv_heads=1))
    return build_model(LlamaConfig(vocab_size=264, max_seq_len=96, stack=stack), seed=0)


@pytest.fixture(scope="module")
def taught() -> nn.Module:
    """A model that has learnt the six answers by heart; the last one in capitals."""
    model, tokenizer, task = llama(), ByteTokenizer(), Colours()
    ids, targets = torch.zeros(6, 64, dtype=torch.long), torch.full((6, 64), -100)
    for index, example in enumerate(task.examples()):
        answer = "PINK!" if index == 5 else example.answer
        opening = encode_chat(tokenizer, task.prompt(example), add_generation_prompt=True)
        row = torch.tensor([*opening, *tokenizer.encode(answer), tokenizer.special_id("<|im_end|>")])
        ids[index, : len(row) - 1] = row[:-1]
        targets[index, len(opening) - 1 : len(row) - 1] = row[len(opening) :]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    loss = torch.tensor(9.0)
    while loss > 0.02:
        loss = nn.functional.cross_entropy(model(ids).transpose(1, 2), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def test_scores_are_those_of_the_answers(taught: nn.Module) -> None:
    calls: list[tuple[int, int]] = []
    engine = Engine(taught, ByteTokenizer(), max_rows=4)
    result = run_task(Colours(), engine, progress=lambda done, total: calls.append((done, total)))
    assert [item.answer for item in result.items] == [*COLOURS[:5], "PINK!"]
    assert result.strict.value == pytest.approx(5 / 6)
    assert result.lenient.value == 1
    assert result.format.value == 1
    assert result.strict.low < result.strict.value < result.strict.high
    assert calls[-1] == (6, 6)
    assert (result.unasked, result.cut) == (0, 0)


def test_baselines_are_per_kind(taught: nn.Module) -> None:
    result = run_task(Colours(), Engine(taught, ByteTokenizer()))
    assert result.chance == pytest.approx(1 / 3)
    # Each item is guessed from the others of its kind: the three reds agree, the three cold ones all differ.
    assert {kind.kind: kind.majority for kind in result.kinds} == {"warm": 1, "cold": 0}
    assert result.majority == pytest.approx(1 / 2)
    assert sum(kind.strict.n for kind in result.kinds) == 6


def test_batches_and_limits_change_no_answer(taught: nn.Module) -> None:
    one = run_task(Colours(), Engine(taught, ByteTokenizer(), max_rows=1))
    many = run_task(Colours(), Engine(taught, ByteTokenizer(), max_rows=6), limit=3)
    assert [item.answer for item in one.items[:3]] == [item.answer for item in many.items]
    assert many.strict.n == 3


def test_a_prompt_that_does_not_fit_is_counted_and_wrong(taught: nn.Module) -> None:
    result = run_task(Colours(long_questions=frozenset({1})), Engine(taught, ByteTokenizer()))
    assert result.unasked == 1
    assert not result.items[1].asked
    assert result.items[1].grade.strict == 0
    assert result.strict.n == 6


def test_an_untrained_model_scores_nothing_and_its_babble_is_counted() -> None:
    result = run_task(Colours(), Engine(llama(), ByteTokenizer()), options=SamplingParams(max_symbols=5))
    assert result.strict.value == 0
    assert result.strict.high > 0
    assert result.cut == 6


def test_an_answer_has_room_in_the_symbols_of_the_tokenizer() -> None:
    """Twelve words are few tokens and many bytes: 48 bytes used to cut right answers."""
    long = Colours()
    answers = [Example("colours/long", "Which?", "to bring the lantern to Oscar before it was dark outside the mill")]
    long.examples = lambda: iter(answers)
    result = run_task(long, Engine(llama(), ByteTokenizer()))
    assert result.options.max_symbols > len(answers[0].answer) > 48


def test_the_result_is_plain_json(taught: nn.Module) -> None:
    result = run_task(Colours(), Engine(taught, ByteTokenizer()))
    stored = json.loads(json.dumps(result.as_dict(most_items=3)))
    assert stored["n"] == 6
    assert len(stored["items"]) == 3
    assert stored["options"]["temperature"] == 0
    assert stored["kinds"][0]["strict"]["n"] == 3


def test_no_example_is_an_error(taught: nn.Module) -> None:
    with pytest.raises(DataError, match="no example"):
        run_task(Colours(), Engine(taught, ByteTokenizer()), limit=0)
