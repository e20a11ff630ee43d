"""Laws of gradient-free search: it finds optima, resumes bit for bit, and is not fooled by luck."""

import math

import pytest
import torch

from model_zoo import MODELS, VOCAB, randomized
from smidgen.config import validate_config
from smidgen.errors import CheckpointError, ConfigError, TrainingError
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.surgery.adapter import attach
from smidgen.surgery.config import read_adapter
from smidgen.training.config import StepBudget, TimeBudget
from smidgen.training.evolution import CmaEsConfig, OpenAiEsConfig, centered_ranks
from smidgen.training.search import EvaluationBudget, SearchConfig, search

pytest.importorskip("cmaes")

STRATEGIES = {
    "cma_es": CmaEsConfig(sigma=0.3),
    "slow": CmaEsConfig(sigma=0.3, population=24, slow_when_noisy=True),
    "openai_es": OpenAiEsConfig(sigma=0.1, learning_rate=0.1, population=40),
}


def config_for(name="cma_es", generations=60, **changes):
    return SearchConfig(strategy=STRATEGIES[name], budget=StepBudget(steps=generations), **changes)


def target(n):
    return torch.linspace(-1, 1, n) if n > 1 else torch.tensor([0.7])


def quadratic(vectors, number):
    n = vectors.shape[1]
    return (-((vectors - target(n)) ** 2) * torch.linspace(1, 5, n)).sum(1).tolist()


@pytest.mark.parametrize("n", [1, 2, 13])
@pytest.mark.parametrize("name", STRATEGIES)
def test_finds_the_optimum_of_a_quadratic(name, n):
    found = search(quadratic, n, config_for(name, generations=250 if name == "slow" else 120))
    assert found.vector.dtype == torch.float32
    torch.testing.assert_close(found.vector, target(n), atol=0.1, rtol=0)
    assert found.score > found.start_score / 50
    assert found.ended in ("budget", "settled")


def noisy(vectors, number):
    """A score with the noise of few prompts, a part of it common to all candidates of a round."""
    draw = torch.Generator().manual_seed(number)
    common = torch.randn((), generator=draw)
    return [score + float(common + 0.3 * torch.randn((), generator=draw)) for score in quadratic(vectors, number)]


@pytest.mark.parametrize("name", STRATEGIES)
def test_resumed_equals_uninterrupted_bit_for_bit(name):
    config = config_for(name, generations=12)
    straight = search(noisy, 5, config)
    states = []
    stopped = search(
        noisy, 5, config, on_generation=lambda g: states.append(g.state), should_stop=lambda: len(states) == 5
    )
    assert (stopped.ended, stopped.generations) == ("interrupted", 5)
    assert math.isnan(stopped.score)
    torch.testing.assert_close(stopped.vector, stopped.state["mean"].float())
    kept = {key: tensor.clone() for key, tensor in states[-1].items()}
    resumed = search(noisy, 5, config, state=kept)
    assert torch.equal(straight.vector, resumed.vector)
    assert straight.state.keys() == resumed.state.keys()
    assert all(torch.equal(straight.state[key], resumed.state[key]) for key in straight.state if "seconds" not in key)
    assert all(torch.equal(kept[key], states[-1][key]) for key in kept)


def test_every_round_has_its_number_and_all_candidates_share_it():
    rounds = []

    def evaluate(vectors, number):
        rounds.append((number, len(vectors)))
        return quadratic(vectors, number)

    done = search(evaluate, 3, config_for(generations=4, finalists=2, final_rounds=3))
    assert rounds == [(n, 17) for n in range(4)] + [(n, 4) for n in range(4, 7)]
    assert done.evaluations == 4 * 17 + 3 * 4


def test_luck_wins_nothing():
    """All vectors are worth the same: the luckiest of 800 scores 3, what is kept is scored anew."""

    def lottery(vectors, number):
        draw = torch.Generator().manual_seed(number)
        return torch.randn(len(vectors), generator=draw).tolist()

    seen = []
    found = search(lottery, 4, config_for(generations=50, final_rounds=30), on_generation=seen.append)
    assert max(generation.best_score for generation in seen) > 2
    assert abs(found.score) < 1


def test_what_gains_nothing_leaves_the_start():
    found = search(lambda vectors, number: (vectors[:, 0] > 10).float().tolist(), 3, config_for(generations=5))
    assert not found.vector.any()
    assert found.score == found.start_score == 0


def test_a_search_without_a_signal_gives_up_with_the_reason():
    with pytest.raises(TrainingError, match=r"nothing to learn from: all candidates scored 0, in all of the first 10"):
        search(lambda vectors, number: [0.0] * len(vectors), 3, config_for())


def test_equal_scores_move_no_mean():
    assert centered_ranks(torch.tensor([1.0, 1.0, 1.0])).tolist() == [0, 0, 0]
    assert centered_ranks(torch.tensor([3.0, 1.0, 1.0, 7.0])).tolist() == pytest.approx([1 / 6, -1 / 3, -1 / 3, 0.5])


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_stops_with_one_line_and_the_state_kept(score):
    states = []

    def breaks(vectors, number):
        return [score if number == 2 and at == 3 else value for at, value in enumerate(quadratic(vectors, number))]

    with pytest.raises(TrainingError, match=r"score of vector 4 of 17 in round 2 is (nan|inf).*is kept"):
        search(breaks, 3, config_for(), on_generation=lambda g: states.append(g.state))
    assert int(states[-1]["generation"]) == 2


def test_bad_input_is_refused_in_one_line():
    with pytest.raises(TrainingError, match="17 vectors were to be scored, and 2 scores came back"):
        search(lambda vectors, number: [1.0, 2.0], 3, config_for())
    with pytest.raises(TrainingError, match="0 parameters"):
        search(quadratic, 0, config_for())
    with pytest.raises(ConfigError, match=r"5000 x 5000 matrix.*openai_es"):
        search(quadratic, 5000, config_for())
    state = search(quadratic, 3, config_for(generations=2)).state
    with pytest.raises(CheckpointError, match="searches over 3 parameters, not 4"):
        search(quadratic, 4, config_for(), state=state)
    with pytest.raises(CheckpointError, match="of another search: it lacks mean"):
        search(quadratic, 3, config_for(), state={})
    other = search(quadratic, 3, config_for("openai_es", generations=2)).state
    with pytest.raises(CheckpointError, match="of another"):
        search(quadratic, 3, config_for(), state=other)


def test_budgets_are_kept():
    config = SearchConfig(budget=EvaluationBudget(evaluations=100), final_rounds=1)
    assert search(quadratic, 3, config).generations == 6
    done = search(noisy, 3, SearchConfig(budget=TimeBudget(seconds=1.0)))
    assert 0.8 < done.seconds < 1.3
    assert done.ended == "budget"


def test_a_search_that_has_settled_ends_before_its_budget():
    done = search(quadratic, 2, config_for(generations=10_000))
    assert (done.ended, done.generations < 500) == ("settled", True)
    torch.testing.assert_close(done.vector, target(2), atol=1e-3, rtol=0)


def test_a_config_names_its_strategy():
    config = validate_config({"strategy": {"type": "openai_es", "sigma": 0.2}}, SearchConfig, "x")
    assert config.strategy == OpenAiEsConfig(sigma=0.2)
    with pytest.raises(ConfigError, match="population"):
        validate_config({"strategy": {"type": "openai_es", "population": 3}}, SearchConfig, "x")


def test_vectors_tried_side_by_side_teach_a_model_what_is_asked_of_it():
    """Each row of the engine tries its own TinyLoRA vector; what is wanted are symbols of the first half."""
    model = randomized(MODELS["gqa"])
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(4)  # surer of itself, so that small changes are seen
    adapter = attach(model, read_adapter("tinylora:13"))
    engine = Engine(prepare_for_decoding(model), max_rows=68, max_len=24)

    def earned(vectors, number):
        sampling = [SamplingParams(temperature=1.0, max_symbols=16, seed=4 * number + k) for k in range(4)]
        prompts = [[(number + 9 * k) % VOCAB, 5, 7] for k in range(4)]
        answers = [
            [engine.add(prompt, params, vector) for prompt, params in zip(prompts, sampling, strict=True)]
            for vector in vectors
        ]
        while engine.running or engine.waiting:
            engine.step()
        return [sum(symbol < VOCAB // 2 for one in pair for symbol in one.symbols) / 64 for pair in answers]

    config = SearchConfig(strategy=CmaEsConfig(sigma=0.5), budget=StepBudget(steps=30))
    found = search(earned, adapter.n_parameters, config)
    fresh = range(1000, 1010)
    before, after = (
        sum(earned(vector[None], number)[0] for number in fresh) / 10
        for vector in (torch.zeros_like(found.vector), found.vector)
    )
    assert after > before + 0.1
