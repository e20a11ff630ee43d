"""`smidgen adapt` as a person uses it: every way to learn, the line of text, stopping, and what cannot be meant."""

import json
from pathlib import Path

import pytest
import torch

from conftest import Smidgen
from model_zoo import randomized, tiny, tiny_bytes
from smidgen.checkpoint import load_model, save_model
from smidgen.checkpoint.adapters import load_adapter
from smidgen.config import validate_config
from smidgen.evaluation.discordance import discordance_p
from smidgen.models.llama import LlamaConfig
from smidgen.runs import RunDirectory, read_records
from smidgen.tokenizers.bytes import ByteTokenizer

CAPITALS = '''
"""How much of an answer are capital letters: something a tiny model can learn in seconds."""
from itertools import count, islice
from smidgen.tasks import Example, Grade
from smidgen.tokenizers.chat import Message

class Capitals:
    name = "capitals"
    def examples(self):
        return islice(self.training_examples(-1), 12)
    def training_examples(self, seed):
        for number in count():
            yield Example(f"capitals/{seed}/{number}", "say " + "so " * (number % 3) + str(number), "AB")
    def prompt(self, example):
        return [Message("user", example.question)]
    def grade(self, example, answer):
        return Grade(float(answer == "AB"), float("A" in answer), bool(answer.strip()))
    def reward(self, example, answer):
        REWARD
    def few_shot(self, example, k):
        return self.prompt(example)

task = Capitals()
'''
USUAL = "return sum(letter.isupper() for letter in answer) / (1 + len(answer))"
SHORT = ("by.preflight_prompts=2", "test_symbols=8", "shots=0")
RL = (*SHORT, "by.rollouts.sampling.max_symbols=8", "by.rollouts.cut_earns=true")
LONG = (*SHORT, "by.rollouts.sampling.max_symbols=96", "by.rollouts.cut_earns=true")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a tiny byte model and a task."""
    tokenizer = ByteTokenizer()
    shape = tiny().model_dump() | {"vocab_size": tokenizer.vocab_size, "max_seq_len": 128}
    save_model(tmp_path / "base", randomized(validate_config(shape, LlamaConfig, "shape")), tokenizer)
    save_model(tmp_path / "pooled", randomized(tiny_bytes(vocab_size=tokenizer.vocab_size, max_seq_len=128)), tokenizer)
    (tmp_path / "capitals.py").write_text(CAPITALS.replace("REWARD", USUAL))
    pairs = [{"prompt": f"say {n}", "chosen": "AB", "rejected": "ba"} for n in range(8)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return tmp_path


def figures_of(place: Path, name: str) -> dict:
    return RunDirectory(place / "runs" / name).read_final_metrics()


@pytest.mark.parametrize(
    ("adapter", "by", "more"),
    [
        ("tinylora:3", "rl", RL),
        ("lora:r=2", "sft", ("test_symbols=8",)),
        ("bias", "dpo", ("--examples", "pairs.jsonl", "test_symbols=8", "shots=0")),
        ("ia3", "spin", ("test_symbols=8", "shots=0", "by.play.prompts=4", "by.play.sampling.max_symbols=8")),
        (
            "tinylora:2",
            "search",
            (
                *SHORT,
                "by.prompts=2",
                "by.sampling.max_symbols=8",
                "by.cut_earns=true",
                "by.strategy.type=cma_es",
                "by.strategy.population=4",
            ),
        ),
        ("full", "sft", ("test_symbols=8", "shots=0")),
        ("lora_xs:r=2", "rl", (*RL, "base_bits=8")),
    ],
)
def test_every_way_to_learn_makes_the_whole_journey(smidgen: Smidgen, place: Path, adapter: str, by: str, more: tuple):
    told = smidgen(
        "adapt",
        "base",
        "--task",
        "capitals.py",
        "--adapter",
        adapter,
        "--by",
        by,
        "--steps",
        "2",
        "--name",
        "it",
        *more,
    )
    assert told.code == 0, told.err
    figures = figures_of(place, "it")
    names = {task["name"].partition(", ")[2] for task in figures["tasks"]}
    assert {"base", "adapted"} <= names
    assert figures["step"] == 2
    assert all("strict" in gain["score"] or gain["score"] in ("lenient", "format") for gain in figures["gains"])
    assert (place / "runs" / "it" / "report.html").is_file()
    assert "adapted against base" in told.out
    text = figures["adapter_text"]
    assert (text is None) == (figures["adapter_parameters"] > 1000)
    if text is not None:
        assert text in told.out.replace("\n", "")
        again = load_model(place / "base", dtype=torch.bfloat16)
        pasted, kept = load_adapter(text, again.model).state(), None
        kept = load_adapter(place / "runs" / "it" / "adapter", load_model(place / "base", dtype=torch.bfloat16).model)
        for name, tensor in kept.state().items():
            assert torch.equal(pasted[name], tensor)


BARE = """
from smidgen.tasks import Example

class Bare:
    def examples(self):
        return [Example(f"bare/{n}", f"say {n}", "AB") for n in range(4)]
    def grade(self, example, answer):
        return answer == example.answer
"""


@pytest.mark.parametrize("by", ["sft", "dpo"])
def test_a_task_that_has_nothing_to_show_goes_without_the_control_and_says_so(smidgen: Smidgen, place: Path, by: str):
    (place / "bare.py").write_text(BARE)
    (place / "talks.jsonl").write_text(json.dumps({"question": "say 1", "answer": "AB"}) + "\n")
    examples = {"sft": "talks.jsonl", "dpo": "pairs.jsonl"}[by]
    asked = ("--task", "bare.py", "--adapter", "tinylora:u=99", "--by", by, "--examples", examples, "--steps", "1")
    told = smidgen("adapt", "base", *asked, "--name", "it", "test_symbols=8")
    assert told.code == 0, told.err
    assert told.out.count("No control") == 1
    assert "neither few_shot(example, k) nor training_examples(seed)" in told.out
    assert "Only 84 of them say something of their own" in told.out
    assert len(figures_of(place, "it")["tasks"]) == 2


def test_an_adapter_is_used_merged_and_refused_by_another_base(smidgen: Smidgen, place: Path):
    asked = ("--task", "capitals.py", "--adapter", "tinylora:3", "--steps", "2", "--name", "it", *RL)
    assert smidgen("adapt", "base", *asked).code == 0
    text = figures_of(place, "it")["adapter_text"]
    assert smidgen("generate", "base", "so", "--adapter", text, "--max-symbols", "3").code == 0
    assert smidgen("eval", "base", "--task", "capitals.py", "--adapter", "runs/it/adapter", "--limit", "2").code == 0
    assert smidgen("merge", "base", "runs/it/adapter", "--out", "whole").code == 0
    assert smidgen("generate", "whole", "so", "--max-symbols", "3").code == 0
    assert smidgen("merge", "base", text, "--as", "lora", "--out", "peft").code == 0
    assert "--adapter runs/it/adapter" in smidgen("chat", "runs/it").err
    refused = smidgen("generate", "pooled", "so", "--adapter", text)
    assert refused.code == 2
    assert text.split(":")[2] in refused.err


def test_a_run_that_trained_can_be_a_base_and_one_that_adapts_takes_no_other_options(smidgen: Smidgen, place: Path):
    run = place / "runs" / "trained"
    run.mkdir(parents=True)
    (place / "base").rename(run / "model")
    (run / "recipe.toml").write_text('name = "trained"\n')
    asked = ("--task", "capitals.py", "--adapter", "tinylora:3", "--steps", "1", "--name", "it", *RL)
    assert smidgen("adapt", run, *asked).code == 0
    assert "is finished" in smidgen("adapt", "runs/it").out
    assert "cannot change a run" in smidgen("adapt", "runs/it", "--adapter", "ia3").err
    other = smidgen("adapt", run, *asked[:3], "lora:r=2", *asked[4:])
    assert other.code == 2
    assert "was begun otherwise" in other.err


def test_what_is_not_there_to_learn_from_is_said_before_anybody_is_examined(smidgen: Smidgen, place: Path):
    """It was said after two exams, minutes with a real model; and nothing is left of a run that never began."""
    (place / "silent.py").write_text(
        (place / "capitals.py").read_text() + "\nCapitals.training_examples = lambda self, seed: iter(())\n"
    )
    asked = ("adapt", "base", "--adapter", "tinylora:3", "--name", "it", "--steps", "1")
    for more, why in (
        (("--task", "capitals.py", "--by", "sft", "--examples", "nowhere.jsonl"), "nowhere.jsonl: is no file"),
        (("--task", "silent.py", *RL), "is empty"),
        (("--task", "silent.py", "--by", "sft"), "is empty"),
    ):
        told = smidgen(*asked, *more)
        assert told.code == 2
        assert why in told.err
        assert "Examining" not in told.out
        assert not (place / "runs" / "it").exists()


def test_a_run_that_goes_on_learns_no_longer_than_it_was_given(smidgen: Smidgen, place: Path, monkeypatch):
    from smidgen.adapting import conduct
    from smidgen.adapting.lesson import Learned

    seen = []

    def stops(lesson, config):
        seen.append(lesson.budget.seconds)
        return Learned("interrupted", 0, 0.0, 0.0)

    monkeypatch.setitem(conduct.METHODS, "rl", conduct.METHODS["rl"]._replace(learn=stops))
    asked = ("adapt", "base", "--task", "capitals.py", "--adapter", "tinylora:3", "--name", "it", "--time", "2m", *RL)
    assert smidgen(*asked).code == smidgen(*asked).code == smidgen("adapt", "runs/it").code == 0
    assert len(set(seen)) == 1
    assert len(seen) == 3
    assert seen[0] < 120


def test_a_byte_model_learns_from_rewards_too(smidgen: Smidgen, place: Path):
    told = smidgen("adapt", "pooled", "--task", "capitals.py", "--adapter", "tinylora:3", "--steps", "2", *RL)
    assert told.code == 0, told.err


def test_a_stopped_run_goes_on_and_a_finished_one_says_so(smidgen: Smidgen, place: Path, monkeypatch):
    from smidgen.adapting import methods

    asked = ("adapt", "base", "--task", "capitals.py", "--adapter", "lora:r=2", "--name", "it", "--steps", "3", *RL)
    whole = methods.fit_lesson
    seen = {"n": 0}

    def stops_after_one(lesson, batches_from, *rest, **more):
        def stop() -> bool:
            seen["n"] += 1
            return seen["n"] > 1

        return whole(type(lesson)(**{**vars(lesson), "should_stop": stop}), batches_from, *rest, **more)

    monkeypatch.setattr(methods, "fit_lesson", stops_after_one)
    stopped = smidgen(*asked)
    assert "Go on with the same command" in stopped.out
    monkeypatch.setattr(methods, "fit_lesson", whole)
    gone_on = smidgen(*asked)
    assert gone_on.code == 0, gone_on.err
    assert figures_of(place, "it")["step"] == 3
    straight = smidgen(*[word if word != "it" else "straight" for word in asked])
    assert straight.code == 0
    states = [
        load_adapter(place / "runs" / name / "adapter", load_model(place / "base", dtype=torch.bfloat16).model).state()
        for name in ("it", "straight")
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    steps = [r["step"] for r in read_records(place / "runs" / "it" / "metrics.jsonl") if r["kind"] == "rollouts"]
    assert len(steps) == len(set(steps))
    assert "is finished" in smidgen(*asked).out


def test_what_was_learned_before_a_reward_failed_is_kept(smidgen: Smidgen, place: Path):
    broken = "if example.id.endswith('/13') and __import__('pathlib').Path('broken').exists(): raise KeyError('colour')"
    (place / "capitals.py").write_text(CAPITALS.replace("REWARD", f"{broken}\n        {USUAL}"))
    (place / "broken").touch()
    asked = ("adapt", "base", "--task", "capitals.py", "--adapter", "tinylora:3", "--name", "it", "--steps", "5", *RL)
    refused = smidgen(*asked)
    assert (refused.code, "KeyError: 'colour'" in refused.err) == (2, True)
    (place / "broken").unlink()
    gone_on = smidgen(*asked)
    assert (gone_on.code, "Going on" in gone_on.out) == (0, True), gone_on.err
    steps = [r["step"] for r in read_records(place / "runs" / "it" / "metrics.jsonl") if r["kind"] == "rollouts"]
    assert steps == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("by", ["rl", "search"])
def test_prompts_that_leave_no_room_are_left_out_before_learning_too(smidgen: Smidgen, place: Path, by: str):
    text = CAPITALS.replace('"so " * (number % 3)', '"so " * (60 * (number % 2))')
    (place / "capitals.py").write_text(text.replace("REWARD", USUAL))
    searched = ("by.prompts=2", "by.sampling.max_symbols=8", "by.strategy.type=cma_es", "by.strategy.population=4")
    own = RL if by == "rl" else (*SHORT, *searched, "by.cut_earns=true")
    asked = ("adapt", "base", "--task", "capitals.py", "--adapter", "tinylora:2", "--by", by, "--steps", "2", *own)
    told = smidgen(*asked)
    assert told.code == 0, told
    assert told.out.count("Prompts like it are left out") + told.err.count("Prompts like it are left out") in (1, 2)
    assert "to each of 2 prompts" in told.out + told.err


def test_examples_of_one_id_are_all_learned_from(smidgen: Smidgen, place: Path):
    """Ids are for naming an example; a task of one's own may leave them empty."""
    text = CAPITALS.replace('f"capitals/{seed}/{number}"', '""').replace("in count()", "in range(50)")
    (place / "capitals.py").write_text(text.replace("REWARD", USUAL))
    asked = ("adapt", "base", "--task", "capitals.py", "--adapter", "bias", "--by", "sft", "--steps", "1", *SHORT[1:])
    assert "50 examples" in smidgen(*asked).out


@pytest.mark.parametrize(
    ("reward", "told"),
    [
        ("return 0.0", "nothing to learn from"),
        ("return 0.5", "tells nothing apart"),
        ("return float('nan')", "reward() returned nan"),
        ("raise KeyError('colour')", "reward() failed: KeyError"),
        ("return 'good'", "reward() returned 'good'"),
    ],
)
def test_rewards_that_teach_nothing_are_one_line(smidgen: Smidgen, place: Path, reward: str, told: str):
    (place / "capitals.py").write_text(CAPITALS.replace("REWARD", reward))
    refused = smidgen("adapt", "base", "--task", "capitals.py", "--steps", "2", "--adapter", "tinylora:3", *LONG)
    assert refused.code == 2
    assert told in refused.err
    assert len(refused.err.strip().splitlines()) <= 2


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("base",), "Name a task"),
        (("base", "--task", "arithmetic", "--by", "magic"), "no way to learn"),
        (("base", "--task", "arithmetic", "--adapter", "lorax"), "there is no adapter 'lorax'"),
        (("base", "--task", "arithmetic", "--by", "dpo"), "--examples"),
        (("base", "--task", "arithmetic", "--by", "search", "--adapter", "lora:r=2"), "tinylora, not lora"),
        (("base", "--task", "arithmetic", "--by", "search", "--lr", "1"), "no learning rate"),
        (("base", "--task", "arithmetic", "--by", "search", "by.answers=4"), "are the same answer"),
        (("base", "--task", "arithmetic", "--by", "search", "budget.type=tokens"), "trains on no symbols"),
        (("base", "--task", "arithmetic", "--by", "search", "--adapter", "tinylora:5000"), "1,000 numbers at most"),
        (("base", "--task", "arithmetic", "by.rollouts.sampling.temperature=0"), "one answer many times"),
        (("base", "--task", "arithmetic", "--adapter", "full", "base_bits=8"), "nothing is"),
        (("base", "--task", "arithmetic", "--time", "5m", "--steps", "3"), "Give one"),
        (("base", "--task", "arithmetic", "by.rollouts.answer=3"), "answer"),
        (("nowhere", "--task", "arithmetic", "--steps", "1"), "nowhere"),
        (("base", "--task", "capitals.py", "--time", "5s", *RL), "too short"),
    ],
)
def test_what_cannot_be_meant_is_one_line(smidgen: Smidgen, place: Path, asked: tuple, told: str):
    refused = smidgen("adapt", *asked)
    assert refused.code == 2
    assert told in refused.err
    assert "Traceback" not in refused.err


def test_the_exact_test_is_that_of_the_binomial():
    assert discordance_p([1, 1, 0], [1, 1, 0]) == 1
    assert discordance_p([1] * 10, [0] * 10) == pytest.approx(2 * 0.5**10)
    assert discordance_p([1] * 8 + [0, 0], [0] * 8 + [1, 1]) == pytest.approx(112 / 1024)
    assert discordance_p([1.0] * 3000 + [0.0], [0.0] * 3000 + [1.0]) == pytest.approx(0, abs=1e-300)
