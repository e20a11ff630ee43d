"""Games by the command line: transcripts are made and trained on, a model plays to learn and is measured around it."""

import json
import sys
from pathlib import Path

import pytest
import torch

from conftest import REPOSITORY, Smidgen
from smidgen.checkpoint import load_model, save_model
from smidgen.data.supervised import ExampleStream, StepLayout, encode_examples
from smidgen.models import LlamaConfig, build_model
from smidgen.models.attention import AttentionConfig
from smidgen.models.layers import SwiGLUConfig
from smidgen.models.stack import StackConfig
from smidgen.runs import RunDirectory, read_records
from smidgen.runtime import Runtime
from smidgen.tasks.games import transcripts
from smidgen.tokenizers.bytes import ByteTokenizer
from smidgen.training import TrainConfig, fit
from smidgen.training.config import AdamWConfig, ScheduleConfig, StepBudget
from smidgen.training.objectives.next_token import next_token

pytest.importorskip("textarena")
TOKENIZER = ByteTokenizer()
GAME = "nim:piles=2"
PLAY = ("--limit", "20", "by.play.matches=16", "by.play.opening=0", "test_symbols=6", "precision=fp32")
SPEC = 'name = "made"\ndocuments = {n}\n[generator]\ntype = "games"\ngame = "{game}"\n{more}'


def shape(max_seq_len: int = 128) -> LlamaConfig:
    attention = AttentionConfig(n_heads=2, qk_norm=True)
    stack = StackConfig(d_model=32, layers=(0, 1), attention=attention, mlp=SwiGLUConfig(d_ff=64))
    return LlamaConfig(vocab_size=TOKENIZER.vocab_size, max_seq_len=max_seq_len, stack=stack)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 30,000 parameters that knows the rules of a small game of Nim, and nothing else."""
    torch.manual_seed(0)
    model = build_model(shape())
    examples = encode_examples(TOKENIZER, [turn.messages for turn in transcripts(GAME, 40)], 128)
    stream = ExampleStream(examples.batch, examples.lengths, StepLayout(examples=16))
    config = TrainConfig(
        budget=StepBudget(steps=120),
        optimizer=AdamWConfig(learning_rate=1e-2, weight_decay=0.0),
        schedule=ScheduleConfig(warmup=0.0, decay=0.0),
        compile="off",
        precision="fp32",
    )
    fit(model, stream.batches_from, next_token, config, Runtime(torch.device("cpu"), torch.float32))
    path = tmp_path_factory.mktemp("taught") / "base"
    save_model(path, model, TOKENIZER, torch.float32)
    return path


def test_a_model_plays_to_learn_and_is_measured_before_and_after(smidgen: Smidgen, tmp_path: Path, taught: Path):
    told = smidgen("adapt", taught, "--task", f"game:{GAME}", "--steps", "25", "--lr", "3e-3", *PLAY, "--limit", "60")
    assert told.code == 0, told.err
    run = RunDirectory(tmp_path / "runs" / "base-nim-selfplay-full")
    figures = run.read_final_metrics()
    base, adapted = figures["tasks"]
    assert (base["name"], adapted["name"]) == (f"{GAME}, base", f"{GAME}, adapted")
    assert base["n"] == 2 * 60
    assert [share["name"] for share in base["shares"]] == [
        f"{score} against {player}"
        for player in ("random", "optimal")
        for score in ("wins", "draws", "losses", "wrong moves")
    ]
    assert adapted["rates"]["optimal"]["roles"]["as player 0"]["wins"]["value"] > 0.9
    gain = next(gain for gain in figures["gains"] if gain["score"] == "wins against random")
    assert gain["low"] > 0
    assert "adapted against base" in told.out
    assert "games against the optimal player" in told.out
    assert len(list(read_records(run.path / "selfplay" / "selfplay.jsonl"))) == 25
    page = run.report.read_text()
    assert "wins against random" in page
    assert "Wrong moves" in page
    assert load_model(run.model).model.config == load_model(taught).model.config


def test_a_run_that_was_stopped_ends_as_one_that_was_not(smidgen: Smidgen, tmp_path: Path, taught: Path, monkeypatch):
    from smidgen.adapting import selfplay

    more = ("--adapter", "lora:r=2", "--steps", "4", *PLAY, "by.play.opponents={self=1,past=1}", "by.play.past_every=1")
    asked = ("adapt", taught, "--task", f"game:{GAME}", *more, "--name")
    whole, seen = selfplay.fit_lesson, {"n": 0}

    def stops_after_two(lesson, *rest):
        def stop() -> bool:
            seen["n"] += 1
            return seen["n"] > 2

        return whole(type(lesson)(**{**vars(lesson), "should_stop": stop}), *rest)

    monkeypatch.setattr(selfplay, "fit_lesson", stops_after_two)
    assert "Go on with the same command" in smidgen(*asked, "it").out
    monkeypatch.setattr(selfplay, "fit_lesson", whole)
    assert smidgen(*asked, "it").code == smidgen(*asked, "straight").code == 0
    runs = [RunDirectory(tmp_path / "runs" / name) for name in ("it", "straight")]
    one, two = (next((run.path / "adapter").glob("*.safetensors")).read_bytes() for run in runs)
    assert one == two
    steps = [record["step"] for record in read_records(runs[0].metrics) if record["kind"] == "selfplay"]
    assert steps == [0, 1, 2, 3]
    assert "is finished" in smidgen(*asked, "it").out


def test_transcripts_are_made_trained_on_and_learned_from(smidgen: Smidgen, tmp_path: Path, taught: Path):
    (tmp_path / "games.toml").write_text(SPEC.format(n=40, game=GAME, more='players = ["mixed", "optimal"]'))
    told = smidgen("data", "synthesize", "games.toml", "--out", "made")
    assert told.code == 0, told.err
    rows = [json.loads(line) for line in (tmp_path / "made" / "text.jsonl").read_text().splitlines()]
    talks = {(row["messages"][0]["content"], row["messages"][1]["content"]) for row in rows}
    assert len(talks) == len(rows)
    assert {seen.splitlines()[0] for seen, _ in talks} == {"nim as player 0", "nim as player 1"}
    made = json.loads((tmp_path / "made" / "provenance.json").read_text())
    assert made["counts"]["written"] == made["counts"]["kept"] + made["counts"]["dropped"]["exact copy"]
    assert made["textarena"]
    learned = smidgen(
        "adapt", taught, "--task", f"game:{GAME}", "--by", "sft", "--examples", "made/text.jsonl",
        "--adapter", "bias", "--steps", "2", *PLAY[:2], "test_symbols=6", "shots=2",
    )  # fmt: skip
    assert learned.code == 0, learned.err
    assert "against random" in learned.out
    assert f"No control, which shows 2 worked examples (shots=0 asks for none): {GAME} is a game." in learned.out
    trained = smidgen(
        "train", REPOSITORY / "recipes/tictactoe.toml", "data.path=made", "train.budget={type='steps', steps=2}"
    )
    assert trained.code == 0, trained.err


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("--task", "game:go"), "'go' is no game"),
        (("--task", "game:tic_tac_toe"), "Did you mean tictactoe?"),
        (("--task", "game:nim:stones=3"), "stones"),
        (("--task", "arithmetic", "--by", "selfplay"), "by selfplay plays a game; arithmetic is none"),
        (("--task", f"game:{GAME}", "--by", "rl"), "by rl asks questions, and a game has none"),
        (("--task", f"game:{GAME}", "--by", "sft"), "from a file"),
        (("--task", f"game:{GAME}", "by.objective.kl=0.1"), "no reference"),
        (("--task", f"game:{GAME}", "by.play.sampling.temperature=0"), "one game many times"),
        (("--task", f"game:{GAME}", "--limit", "3"), "an even number"),
        (("--task", f"game:{GAME}", "by.play.opponents={god=1}"), "'god' is no opponent"),
    ],
)
def test_what_cannot_be_played_is_one_line(smidgen: Smidgen, taught: Path, asked: tuple, told: str):
    refused = smidgen("adapt", taught, "--steps", "1", *asked)
    assert refused.code == 2
    assert told in refused.err
    assert "Traceback" not in refused.err


def test_a_model_that_cannot_read_the_game_leaves_nothing(smidgen: Smidgen, tmp_path: Path, taught: Path, monkeypatch):
    save_model(tmp_path / "short", build_model(shape(24)), TOKENIZER)
    asked = ("--task", f"game:{GAME}", "--steps", "1", *PLAY)
    assert "leaves no room for a move" in smidgen("adapt", "short", *asked).err
    with monkeypatch.context() as silent:
        silent.setattr(ByteTokenizer, "chat_template", None)
        assert "has no chat template" in smidgen("adapt", taught, *asked).err
    monkeypatch.setitem(sys.modules, "textarena", None)
    assert "smidgen[games]" in smidgen("adapt", taught, *asked).err
    assert not (tmp_path / "runs").exists()


def test_a_model_that_knows_no_move_has_nothing_to_learn_from(smidgen: Smidgen, tmp_path: Path):
    torch.manual_seed(0)
    save_model(tmp_path / "base", build_model(shape()), TOKENIZER)
    refused = smidgen("adapt", "base", "--task", f"game:{GAME}", "--steps", "1", *PLAY)
    assert refused.code == 2
    assert "nothing to learn from. Teach it the rules first" in refused.err
