"""Self-play: a step's rows are the model's turns, rated by role; past selves leave no trace; resuming is exact."""

import copy
from pathlib import Path

import pytest
import torch

from smidgen.data.supervised import ExampleStream, StepLayout, encode_examples
from smidgen.errors import ConfigError, DataError, RunError
from smidgen.evaluation.games import Policy, win_rates
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.inference.scoring import score_sequences
from smidgen.models import LlamaConfig, build_model
from smidgen.models.attention import AttentionConfig
from smidgen.models.layers import SwiGLUConfig
from smidgen.models.stack import StackConfig
from smidgen.runs import read_records
from smidgen.runtime import Runtime
from smidgen.surgery.adapter import attach
from smidgen.surgery.config import read_adapter
from smidgen.tasks.games import load_game, load_player, transcripts
from smidgen.tokenizers.bytes import ByteTokenizer
from smidgen.tokenizers.chat import Message
from smidgen.training import Outside, TrainConfig, fit
from smidgen.training.config import AdamWConfig, ScheduleConfig, StepBudget
from smidgen.training.objectives.next_token import next_token
from smidgen.training.objectives.policy import Policy as PolicyObjective
from smidgen.training.objectives.policy import PolicyConfig
from smidgen.training.objectives.preference import Preference, PreferenceConfig
from smidgen.training.past import PastSelf, trained_weights
from smidgen.training.rollouts import follow
from smidgen.training.selfplay import Played, SelfPlay, SelfPlayConfig, spread
from smidgen.training.spin import Spin, SpinConfig, answer_anew

pytest.importorskip("textarena")
CPU = Runtime(torch.device("cpu"), torch.float32)
TOKENIZER = ByteTokenizer()
SHAPE = LlamaConfig(
    vocab_size=TOKENIZER.vocab_size,
    max_seq_len=128,
    stack=StackConfig(
        d_model=32, layers=(0, 1), attention=AttentionConfig(n_heads=2, qk_norm=True), mlp=SwiGLUConfig(d_ff=64)
    ),
)
SHORT = SamplingParams(temperature=1.0, max_symbols=6)


def config_for(steps: int, rate: float) -> TrainConfig:
    return TrainConfig(
        budget=StepBudget(steps=steps),
        optimizer=AdamWConfig(learning_rate=rate, weight_decay=0.0),
        schedule=ScheduleConfig(warmup=0.0, decay=0.0),
        compile="off",
        precision="fp32",
        spike_factor="off",
    )


@pytest.fixture(scope="module")
def taught():
    """A model that knows the rules of a small game of Nim from transcripts, and nothing else."""
    model = build_model(SHAPE)
    turns = [turn.messages for turn in transcripts("nim:piles=2", 40)]
    examples = encode_examples(TOKENIZER, turns, 128)
    stream = ExampleStream(examples.batch, examples.lengths, StepLayout(examples=16))
    fit(model, stream.batches_from, next_token, config_for(120, 1e-2), CPU)
    return model


GAME = "nim:piles=2"
NIM = SelfPlayConfig(matches=24, opening=0, discount=1.0, sampling=SHORT, past_every=1, past_kept=2)


def play(
    model, config: SelfPlayConfig, directory: Path | None = None, on_played=lambda played: None, game: str = GAME
) -> SelfPlay:
    return SelfPlay(model, TOKENIZER, game, config, 0, CPU, directory, on_played)


def test_a_model_taught_the_rules_learns_to_win_by_playing_itself(taught):
    model, optimal, random = copy.deepcopy(taught), load_player("optimal"), load_player("random")

    def rates(opponent):
        return win_rates(GAME, Policy(Engine(model, TOKENIZER, max_rows=64), SHORT), opponent, n=60)

    before = rates(random)
    assert before.both.illegal.value < 0.1
    seen: list[Played] = []
    selfplay = play(model, NIM, on_played=seen.append)
    fit(model, selfplay.batches_from, PolicyObjective(PolicyConfig()), config_for(25, 3e-3), CPU)
    after = rates(random)
    assert after.roles["as player 0"].wins.low > before.roles["as player 0"].wins.value
    assert rates(optimal).roles["as player 0"].wins.value > 0.9
    assert [played.step for played in seen] == list(range(25))
    assert seen[-1].scores["nim:piles=2/player 0/self"] > seen[0].scores["nim:piles=2/player 0/self"]


def test_a_row_is_a_turn_with_what_was_seen_and_said_and_the_models_own_log_probabilities(taught):
    batches = play(taught, NIM).play(0)
    for batch in batches:
        for row in range(len(batch.ids)):
            said = batch.weights[row].bool()
            ids = torch.cat([batch.ids[row, :1], batch.targets[row]])
            length = int(said.nonzero().max()) + 2
            text = TOKENIZER.decode(ids[:length].tolist())
            assert text.startswith("user\n nim as player")
            scores = score_sequences(taught, [ids[:length].tolist()])[0]
            torch.testing.assert_close(
                batch.extra["rollout_log_probs"][row][said], scores[said[: length - 1]], rtol=0, atol=1e-4
            )


def test_what_a_role_earns_is_compared_with_what_that_role_has_earned(taught):
    seen: list[Played] = []
    selfplay = play(taught, NIM, on_played=seen.append)
    first = torch.cat([batch.extra["advantages"] for batch in selfplay.play(0)])
    assert len(first) == seen[0].turns
    assert selfplay.memory.baselines.keys() == {f"nim:piles=2/player {role}/self" for role in (0, 1)}
    mine, other = (selfplay.memory.baselines[f"nim:piles=2/player {role}/self"] for role in (0, 1))
    assert mine == pytest.approx(-other)
    assert abs(mine) <= 1


def test_with_a_discount_the_last_move_is_credited_most():
    assert spread(-2.0, 3, 0.5) == [-0.5, -1.0, -2.0]
    assert spread(1.0, 4, 1.0) == [1.0] * 4
    assert spread(1.0, 0, 0.5) == []


@pytest.mark.parametrize(
    ("opponents", "names"),
    [
        ({"self": 1.0}, {"self"}),
        ({"random": 0.5, "optimal": 0.5}, {"random", "optimal"}),
        ({"self": 1.0, "past": 1.0, "mixed": 2.0}, {"self", "past", "mixed"}),
    ],
)
def test_opponents_are_those_of_the_config_in_both_roles(taught, opponents, names):
    seen: list[Played] = []
    config = NIM.model_copy(update={"opponents": opponents, "matches": 8})
    rows = play(taught, config, on_played=seen.append).play(0)
    assert seen[0].scores.keys() == {f"nim:piles=2/player {role}/{name}" for role in (0, 1) for name in names}
    assert sum(len(batch.ids) for batch in rows) == seen[0].turns


def test_a_past_self_moves_as_it_did_and_leaves_the_weights_as_they_are(taught):
    model = copy.deepcopy(taught)
    engine = Engine(model, TOKENIZER, max_rows=8)
    policy = Policy(engine, SHORT)
    games = [load_game("tictactoe") for _ in range(8)]
    then, moved = trained_weights(model), policy.moves(games, range(8))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    follow(engine, model)
    now, moves_now = trained_weights(model), policy.moves(games, range(8))
    again = PastSelf(policy, model, then).moves(games, range(8))
    assert [move.text for move in again] == [move.text for move in moved]
    assert [move.record.log_probs for move in again] == [move.record.log_probs for move in moved]
    assert all(torch.equal(now[name], weight) for name, weight in trained_weights(model).items())
    assert [m.record.log_probs for m in policy.moves(games, range(8))] == [m.record.log_probs for m in moves_now]


@pytest.mark.parametrize("name", ["lora:r=2", "tinylora:3"])
def test_an_adapter_plays_and_its_past_selves_are_as_small_as_it_is(taught, tmp_path: Path, name: str):
    model = copy.deepcopy(taught)
    adapter = attach(model, read_adapter(name))
    base = {key: weight.detach().clone() for key, weight in model.named_parameters() if not weight.requires_grad}
    config = NIM.model_copy(update={"opponents": {"self": 1.0, "past": 1.0}, "matches": 8})
    selfplay = play(model, config, tmp_path)
    fit(model, selfplay.batches_from, PolicyObjective(PolicyConfig()), config_for(4, 1e-1), CPU)
    past = selfplay.memory.selves[-1]
    assert sum(weight.numel() for weight in past.values()) == adapter.n_parameters
    assert any(not torch.equal(weight, model.get_parameter(key)) for key, weight in past.items())
    assert all(torch.equal(weight, model.get_parameter(key)) for key, weight in base.items())
    # What moved is what trains: an engine prepared anew says the same of the same symbols.
    games = [load_game("tictactoe") for _ in range(4)]
    follow(selfplay.policy.engine, model)
    fresh = Policy(Engine(prepare_for_decoding(model), TOKENIZER, max_rows=8), SHORT)
    for one, two in zip(selfplay.policy.moves(games, range(4)), fresh.moves(games, range(4)), strict=True):
        assert one.record.log_probs == pytest.approx(two.record.log_probs, abs=1e-4)


def test_a_run_that_goes_on_is_the_run_that_was_not_interrupted(taught, tmp_path: Path):
    config = NIM.model_copy(update={"opponents": {"self": 1.0, "past": 1.0}, "matches": 6})
    objective = PolicyObjective(PolicyConfig())

    def run(directory: Path, budgets: tuple[int, ...]):
        model, saved, played = copy.deepcopy(taught), [], []
        for steps in budgets:
            model = copy.deepcopy(taught) if not saved else model
            outside = Outside(
                save_state=lambda *state: saved.append(copy.deepcopy(state)),
                load_state=lambda: saved[-1] if saved else None,
                should_stop=lambda steps=steps: len(played) >= steps,
            )
            selfplay = play(model, config, directory, played.append)
            fit(model, selfplay.batches_from, objective, config_for(5, 1e-3), CPU, outside)
        return trained_weights(model), [(p.step, dict(p.scores)) for p in played]

    whole, told = run(tmp_path / "whole", (9,))
    parts, told_again = run(tmp_path / "parts", (3, 9))
    assert told == told_again
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_what_a_killed_run_played_after_its_last_state_is_played_again(taught, tmp_path: Path):
    config = NIM.model_copy(update={"opponents": {"self": 1.0, "past": 1.0}, "matches": 6})
    played = play(taught, config, tmp_path).batches_from(0)
    before = [next(played) for _ in range(5)]
    again = play(taught, config, tmp_path).batches_from(2)
    for micros in before[2:]:
        for one, two in zip(micros, next(again), strict=True):
            assert torch.equal(one.ids, two.ids)
            assert torch.equal(one.extra["advantages"], two.extra["advantages"])
    steps = [record["step"] for record in read_records(tmp_path / "selfplay.jsonl")]
    assert steps == [0, 1, 2, 3, 4]


def test_going_on_where_nothing_was_left_is_refused(taught, tmp_path: Path):
    for directory in (None, tmp_path):
        with pytest.raises(RunError, match="cannot go on at step 3"):
            next(play(taught, NIM, directory).batches_from(3))


@pytest.mark.parametrize(("oldest", "first"), [(0, 0), (3, 1), (9, 3)])
def test_past_selves_go_when_no_state_needs_them(taught, tmp_path: Path, oldest: int, first: int):
    config = NIM.model_copy(update={"opponents": {"past": 1.0}, "matches": 2})
    for _ in range(2):  # beginning again forgets what was there
        selfplay = play(taught, config, tmp_path)
        selfplay.oldest_state = lambda: oldest
        batches = selfplay.batches_from(0)
        for _ in range(5):
            next(batches)
    assert sorted(path.name for path in tmp_path.glob("self-*")) == [
        f"self-{n:08d}.safetensors" for n in range(first, 5)
    ]


@pytest.mark.parametrize(
    ("game", "opponents", "told"),
    [
        ("negotiation", {"optimal": 1.0}, "nobody knows optimal play"),
        ("go", {"self": 1.0}, "is no game"),
    ],
)
def test_what_cannot_be_played_is_refused_before_anything_is(taught, game, opponents, told):
    with pytest.raises(ConfigError, match=told):
        play(taught, NIM.model_copy(update={"opponents": opponents}), game=game)


def test_a_position_that_leaves_no_room_for_a_move_is_refused(taught):
    policy = Policy(Engine(taught, TOKENIZER, max_rows=1, max_len=24), SHORT)
    with pytest.raises(DataError, match="leaves no room for a move"):
        policy.moves([load_game("tictactoe")], [0])


def test_an_opponent_that_is_none_is_refused():
    with pytest.raises(ValueError, match="'god' is no opponent"):
        SelfPlayConfig(opponents={"god": 1.0})


def test_win_rates_are_shares_with_intervals_half_in_each_role():
    optimal, random = load_player("optimal"), load_player("random")
    rates = win_rates("tictactoe", optimal, random, n=50, at_once=8)
    assert rates.both.losses.value == 0
    assert rates.both.wins.n == 50 == 2 * rates.roles["as O"].wins.n
    assert rates.both.wins.low < rates.both.wins.value <= rates.both.wins.high
    assert win_rates("tictactoe", optimal, random, n=50, at_once=50) == rates
    assert sum(rates.rewards) == pytest.approx(50 * (rates.both.wins.value - rates.both.losses.value))
    with pytest.raises(ConfigError, match="even number"):
        win_rates("tictactoe", optimal, random, n=3)


TALKS = [(Message("user", f"{a} plus 1?"), Message("assistant", f"{a + 1}")) for a in range(8)]
SPIN = SpinConfig(prompts=8, round_steps=3, pairs=8, sampling=SHORT, max_symbols=64)


def test_spin_prefers_the_datas_answers_to_the_models_own(tmp_path: Path):
    model, told, records = build_model(SHAPE), [], []
    spin = Spin(model, TOKENIZER, TALKS, SPIN, 0, CPU, tmp_path, told.append)
    objective = Preference(PreferenceConfig())
    fit(model, spin.batches_from, objective, config_for(6, 3e-3), CPU, Outside(on_record=[records.append]))
    assert [record["loss"] for record in records[::3]] == pytest.approx(
        [0.6931, 0.6931], abs=1e-3
    )  # reference = itself
    assert records[2]["loss"] < 0.6
    assert records[2]["accuracy"] == pytest.approx(1)
    assert [line[:7] for line in told] == ["round 1", "round 2"]
    assert "own answers" in told[0]


def test_a_round_goes_on_with_its_own_pairs(tmp_path: Path):
    model = build_model(SHAPE)
    whole = Spin(model, TOKENIZER, TALKS, SPIN, 0, CPU, tmp_path, print).batches_from(0)
    expected = [next(whole) for _ in range(3)]
    again = Spin(model, TOKENIZER, TALKS, SPIN, 0, CPU, tmp_path, print).batches_from(1)
    for micros in expected[1:]:
        for one, two in zip(micros, next(again), strict=True):
            assert torch.equal(one.targets, two.targets)
            assert torch.equal(one.extra["reference_log_probs"], two.extra["reference_log_probs"])
    with pytest.raises(RunError, match="is gone"):
        next(Spin(model, TOKENIZER, TALKS, SPIN, 0, CPU, tmp_path, print).batches_from(7))


def test_spin_needs_answers_to_play_against(tmp_path: Path):
    engine = Engine(build_model(SHAPE), TOKENIZER)
    with pytest.raises(DataError, match="conversation 1 does not end with an answer"):
        answer_anew(engine, [(Message("user", "hello"),)], SHORT, 0)
    long = (Message("user", "x" * 200), Message("assistant", "y"))
    own = answer_anew(engine, [TALKS[0], long], SHORT, 0)
    assert (len(own.preferences), own.too_long) == (1, 1)
    with pytest.raises(DataError, match="none of 1 prompts leaves room"):
        answer_anew(engine, [long], SHORT, 0)
    with pytest.raises(DataError, match="no conversations"):
        Spin(build_model(SHAPE), TOKENIZER, [], SPIN, 0, CPU, tmp_path)
