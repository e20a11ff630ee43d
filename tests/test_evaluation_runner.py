"""The runner: what a model says is what is graded, through the engine, and the baselines stand beside it."""

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from smidgen.errors import DataError
from smidgen.evaluation.asking import Answer, Prompt
from smidgen.evaluation.passes import Sampled, estimate_passes, pass_at_k
from smidgen.evaluation.runner import run_completions, run_task
from smidgen.inference import Engine, SamplingParams
from smidgen.models import LlamaConfig, build_model
from smidgen.models.attention import AttentionConfig
from smidgen.models.stack import StackConfig
from smidgen.tasks.base import Example, Grade, default_reward, exact_match
from smidgen.tasks.completion import CompletionItem, CompletionTask
from smidgen.tokenizers.bytes import ByteTokenizer
from smidgen.tokenizers.chat import Message, encode_chat, encode_chat_weighted
from smidgen.training.rollouts import rollout

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
        row = torch.tensor(encode_chat_weighted(tokenizer, [*task.prompt(example), Message("assistant", answer)])[0])
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


class Verbatim(Colours):
    """Takes an answer as it stands, as somebody's own task may."""

    def grade(self, example: Example, answer: str) -> Grade:
        return Grade(float(answer == example.answer), float(answer == example.answer), True)


def test_what_is_taught_is_right_to_the_letter_in_the_test_and_in_rollouts(taught: nn.Module) -> None:
    engine, task = Engine(taught, ByteTokenizer()), Verbatim()
    result = run_task(task, engine, sampled=Sampled(temperature=0.01))
    assert [item.grade.strict for item in result.items] == [1, 1, 1, 1, 1, 0]
    assert [item.sampled[0].strict for item in result.items] == [1, 1, 1, 1, 1, 0]
    groups = rollout(engine, task, list(task.examples()), 1, SamplingParams(max_symbols=16), seed=0)
    assert [group[0].reward for group in groups] == [1, 1, 1, 1, 1, 0]
    assert [group[0].text for group in groups] == [*COLOURS[:5], "PINK!"]


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


def counting(contexts: list[str], max_symbols: int = 6) -> CompletionTask:
    """Texts to go on with; what is right is to say nothing before a full stop."""
    return CompletionTask(
        name="counting",
        version="1.0",
        source="none",
        shots=0,
        published=100,
        read=lambda: [
            CompletionItem(f"counting/{n}", context, (".",), max_symbols, Example(f"counting/{n}", context, ""))
            for n, context in enumerate(contexts)
        ],
        grader=lambda example, text: Grade(float(text == example.answer), float(len(text) < 3), True),
    )


def test_a_text_is_gone_on_with_up_to_its_stop(taught: nn.Module) -> None:
    """Taught to answer in a conversation, the model opened like one answers likewise; a stop cuts what it says."""
    engine = Engine(taught, ByteTokenizer(), max_rows=3)
    plain = run_completions(counting(["1 2 3", "one two"]), engine)
    for item in plain.items:
        context = engine.tokenizer.encode(item.example.question)
        whole = engine.generate([[engine.tokenizer.bos_id, *context]], SamplingParams(max_symbols=6))[0].text
        assert item.answer == whole.partition(".")[0]
    assert plain.of == 2
    assert plain.options.stop == (".",)


def test_a_text_longer_than_the_context_loses_its_beginning_and_is_counted(taught: nn.Module) -> None:
    engine = Engine(taught, ByteTokenizer(), max_rows=2)
    result = run_completions(counting(["a" * 300 + " 1 2 3", "1 2 3"]), engine)
    assert (result.shortened, result.unasked) == (1, 0)
    assert result.items[0].shortened == 300 + 7 - (96 - 6)
    assert result.as_dict()["shortened"] == 1


def test_a_limit_is_told_beside_all_there_are(taught: nn.Module) -> None:
    engine = Engine(taught, ByteTokenizer(), max_rows=2)
    assert run_task(Colours(), engine, limit=2).of == 6
    assert run_completions(counting(["a", "b", "c"]), engine, limit=2).of == 3


@dataclass
class Remembering:
    """Keeps answers by item and options."""

    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)

    def find_answer(self, prompt: Prompt) -> Answer | None:
        return self.answers.get((prompt.item, prompt.options.model_dump_json()))

    def keep_answer(self, prompt: Prompt, answer: Answer) -> None:
        self.answers[prompt.item, prompt.options.model_dump_json()] = answer


def test_what_is_kept_is_not_asked_again(taught: nn.Module) -> None:
    kept, sampled = Remembering(), Sampled(n=2)
    first = run_task(Colours(), Engine(taught, ByteTokenizer()), kept=kept, sampled=sampled)
    assert len(kept.answers) == 6 * 3
    silent = Engine(taught, ByteTokenizer())
    silent.step = lambda: pytest.fail("the model was asked")  # pyright: ignore[reportAttributeAccessIssue]
    again = run_task(Colours(), silent, kept=kept, sampled=sampled)
    assert [item.answer for item in again.items] == [item.answer for item in first.items]
    assert again.passes == first.passes


def test_sampled_answers_stand_beside_the_greedy_one_and_depend_on_nothing_around_them(taught: nn.Module) -> None:
    hot = Sampled(n=4, temperature=3.0, top_p=1.0)
    all_at_once = run_task(Colours(), Engine(taught, ByteTokenizer(), max_rows=7), sampled=hot)
    alone = run_task(Colours(), Engine(taught, ByteTokenizer(), max_rows=1), limit=2, sampled=hot)
    assert [item.sampled for item in alone.items] == [item.sampled for item in all_at_once.items[:2]]
    assert all_at_once.strict.value == pytest.approx(5 / 6)
    assert list(all_at_once.passes) == [1, 2, 4]
    values = [estimate.value for estimate in all_at_once.passes.values()]
    assert values == sorted(values)
    assert values[0] < 5 / 6, "at this temperature the model errs"
    assert json.loads(json.dumps(all_at_once.as_dict()))["pass@4"]["n"] == 6


def test_pass_at_k_is_the_mean_over_all_choices_of_k() -> None:
    for n in range(1, 7):
        for right in range(n + 1):
            scores = [1.0] * right + [0.0] * (n - right)
            for k in range(1, n + 1):
                best = [max(chosen) for chosen in itertools.combinations(scores, k)]
                assert pass_at_k(scores, k) == pytest.approx(sum(best) / len(best))
                assert pass_at_k(scores, k) == pytest.approx(1 - math.comb(n - right, k) / math.comb(n, k))
    likeness = [0.1, 0.7, 0.4, 0.4]
    best = [max(chosen) for chosen in itertools.combinations(likeness, 2)]
    assert pass_at_k(likeness, 2) == pytest.approx(sum(best) / len(best))


def test_pass_at_k_is_unbiased_where_the_plug_in_is_not() -> None:
    """Answers right with a chance of 0.3, five of them: pass@3 is 1 - 0.7^3 on average over all outcomes."""
    p, n, k = 0.3, 5, 3
    chances = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    ours = sum(chance * pass_at_k([1.0] * c + [0.0] * (n - c), k) for c, chance in enumerate(chances))
    plug_in = sum(chance * (1 - (1 - c / n) ** k) for c, chance in enumerate(chances))
    assert ours == pytest.approx(1 - (1 - p) ** k)
    assert plug_in < ours - 0.03


def test_pass_at_k_beyond_the_answers_is_not_defined() -> None:
    with pytest.raises(ValueError, match="pass@3 of 2"):
        pass_at_k([1.0, 0.0], 3)
    assert list(estimate_passes([[0.0] * 6], Sampled(n=6))) == [1, 2, 4, 6]
