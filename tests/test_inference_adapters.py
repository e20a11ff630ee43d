"""Laws of decoding with adapters: the prepared is what trains, and a row with a vector is a model merged with it."""

import pytest
import torch

from model_zoo import BYTE_MODELS, EVERY_MODEL, randomized, tiny
from smidgen.errors import ConfigError, DataError
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.inference.adapted import AdaptedMap, find_cores
from smidgen.inference.inlay import InlaidMap
from smidgen.models.heads import ExitConfig, FutureConfig, HeadsConfig
from smidgen.surgery.adapter import attach
from smidgen.surgery.config import read_adapter

RUNGS = ("bias", "ia3", "lora:r=3", "lora_xs:r=3", "tinylora:3", "tinylora:u=2,r=3,groups=2")
SHAPES = (
    "gqa",
    "untied",
    "pairwise",
    "one-mlp",
    "depth-lora",
    "best",
    "bytes-space",
    "bytes-learned",
    "bytes-parallel",
)
ROWWISE = ("gqa", "pairwise", "depth-lora", "best", "window", "bytes-space", "bytes-learned", "bytes-entropy")
PROMPTS = [[5, 9, 80], list(range(30, 53)), [7], [1, 2, 3, 4, 5, 6], list(range(25)), [9, 9, 9, 9], list(range(25))]
LENGTHS = (10, 3, 7, 1, 10, 5, 8)


def some(n, **changes):
    return SamplingParams(max_symbols=n, stop_ids=frozenset(), **changes)


def make(config, adapter="tinylora:3", seed=0):
    """A model in which every part speaks, and an adapter on it that does something."""
    model = randomized(config, seed)
    generator = torch.Generator().manual_seed(seed)
    adapter = attach(model, read_adapter(adapter))
    with torch.no_grad():
        for weight in adapter.weights.values():
            weight += (0.5 if adapter.vector else 0.1) * torch.randn(weight.shape, generator=generator)
    return model, adapter


def vectors_of(adapter, n, seed=1):
    return torch.randn(n, adapter.n_parameters, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def merged_with(adapter, vector):
    """A plain model of its own, the vector in its weights."""
    before = adapter.vector.v.clone()
    adapter.vector.v.copy_(vector.view_as(before))
    merged = adapter.merged()
    adapter.vector.v.copy_(before)
    return merged


def recompute(model, prompt, n_new):
    """Generate greedily by running everything again for every symbol."""
    ids, log_probs = list(prompt), []
    for _ in range(n_new):
        with torch.no_grad():
            distribution = model(torch.tensor([ids]))[0, -1].log_softmax(-1)
        ids.append(int(distribution.argmax()))
        log_probs.append(float(distribution.max()))
    return ids[len(prompt) :], log_probs


def assert_same(sequence, model):
    symbols, log_probs = recompute(model, sequence.prompt, len(sequence.symbols))
    assert sequence.symbols == symbols
    torch.testing.assert_close(torch.tensor(sequence.log_probs), torch.tensor(log_probs), atol=1e-4, rtol=1e-4)


def logits_of(model, ids=tuple(range(3, 40))):
    with torch.no_grad():
        return model(torch.tensor([ids, ids[::-1]]))


def _products(prepared):
    """What stands under the adapters, laid out once."""
    adapted = [module.base for module in prepared.modules() if isinstance(module, AdaptedMap)]
    return adapted + [module.product for module in prepared.modules() if isinstance(module, InlaidMap)]


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_prepared_computes_what_training_has_now(shape, rung):
    model, adapter = make(EVERY_MODEL[shape], rung)
    prepared = prepare_for_decoding(model)
    torch.testing.assert_close(logits_of(prepared), logits_of(model), atol=1e-4, rtol=1e-4)
    laid_out = _products(prepared)
    assert laid_out
    before = logits_of(prepared)
    with torch.no_grad():
        for weight in adapter.weights.values():
            weight.mul_(-1.2)
    assert (logits_of(prepared) - before).abs().max() > 1e-3
    torch.testing.assert_close(logits_of(prepared), logits_of(model), atol=1e-4, rtol=1e-4)
    assert laid_out == _products(prepared)
    own = {id(weight) for weight in prepared.parameters() if weight.requires_grad}
    assert own == {id(weight) for weight in adapter.weights.values()}


def test_a_step_of_training_leaves_decoding_and_training_in_step():
    """Decoding runs in inference mode: nothing that it makes may reach the graph of the next step."""
    model, adapter = make(EVERY_MODEL["gqa"])
    engine = Engine(prepare_for_decoding(model), max_rows=2)
    optimizer = torch.optim.SGD(adapter.weights.values(), lr=0.5)
    for step in range(3):
        [answer, _] = engine.generate([list(range(30)), [5]], some(6))
        assert_same(answer, adapter.merged())
        loss = model.train()(torch.tensor([answer.ids])).log_softmax(-1)[0, :-1, step].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.eval()


@pytest.mark.parametrize("shape", ROWWISE)
def test_rows_with_vectors_of_their_own_are_models_merged_with_them(shape):
    model, adapter = make(EVERY_MODEL[shape])
    vectors = [*vectors_of(adapter, 4), torch.zeros(adapter.n_parameters), None, None]
    engine = Engine(prepare_for_decoding(model), max_rows=3)
    rows = [engine.add(prompt, some(n), vector) for prompt, n, vector in zip(PROMPTS, LENGTHS, vectors, strict=True)]
    while any(row.done is None for row in rows):
        engine.step()
    adapted = adapter.merged()
    for row, vector in zip(rows, vectors, strict=True):
        assert_same(row, adapted if vector is None else merged_with(adapter, vector))


def test_zeros_are_the_base():
    model, adapter = make(EVERY_MODEL["gqa"])
    engine = Engine(prepare_for_decoding(model))
    sequence = engine.add(PROMPTS[1], some(10), torch.zeros(adapter.n_parameters))
    while sequence.done is None:
        engine.step()
    adapter.remove()
    assert_same(sequence, model)


@pytest.mark.parametrize("heads", [HeadsConfig(exit=ExitConfig()), HeadsConfig(future=FutureConfig(n=3, keep=True))])
def test_rows_that_leave_early_or_draft_keep_their_vectors(heads):
    model, adapter = make(tiny(heads=heads))
    engine = Engine(prepare_for_decoding(model), max_rows=4)
    leaving = some(10) if heads.exit is None else some(10, exit_confidence=0.2)
    vectors = vectors_of(adapter, 4)
    rows = [engine.add(prompt, leaving, vector) for prompt, vector in zip(PROMPTS, vectors, strict=False)]
    while any(row.done is None for row in rows):
        engine.step()
    for row, vector in zip(rows, vectors, strict=True):
        alone = Engine(prepare_for_decoding(merged_with(adapter, vector)))
        assert alone.generate([row.prompt], leaving)[0].symbols == row.symbols


def test_a_sample_does_not_depend_on_its_companions_or_their_vectors():
    model, adapter = make(EVERY_MODEL["best"])
    prepared, vectors = prepare_for_decoding(model), [None, *vectors_of(adapter, len(PROMPTS) - 1)]
    each = [some(9, temperature=1.0, seed=seed) for seed in range(len(PROMPTS))]

    def answers(max_rows, places):
        engine = Engine(prepared, max_rows=max_rows)
        rows = [engine.add(PROMPTS[place], each[place], vectors[place]) for place in places]
        while any(row.done is None for row in rows):
            engine.step()
        return [row.symbols for row in rows]

    assert answers(4, range(len(PROMPTS))) == [answers(1, [place])[0] for place in range(len(PROMPTS))]


def test_prefixes_are_shared_by_rows_of_one_vector_only():
    model, adapter = make(EVERY_MODEL["gqa"])
    engine = Engine(prepare_for_decoding(model), max_rows=8)
    one, other = vectors_of(adapter, 2)
    prompt = list(range(40))
    rows = [engine.add(prompt, some(4), vector) for vector in (one, one, other, other, None, None)]
    while any(row.done is None for row in rows):
        engine.step()
    assert engine.prefilled_symbols == 3 * (40 + 1)
    assert rows[0].symbols == rows[1].symbols
    before = engine.prefilled_symbols
    for vector, fresh in ((one.clone(), 1), (2 * one, 40)):
        row = engine.add(prompt, some(4), vector)
        while row.done is None:
            engine.step()
        assert engine.prefilled_symbols - before == fresh
        assert_same(row, merged_with(adapter, vector))
        before = engine.prefilled_symbols


def test_rows_without_a_vector_follow_training_beside_rows_that_have_one():
    model, adapter = make(EVERY_MODEL["gqa"])
    engine = Engine(prepare_for_decoding(model), max_rows=4)
    own = vectors_of(adapter, 1)[0]
    for _ in range(2):
        rows = [engine.add(PROMPTS[1], some(5), own), engine.add(PROMPTS[1], some(5))]
        while any(row.done is None for row in rows):
            engine.step()
        assert_same(rows[0], merged_with(adapter, own))
        assert_same(rows[1], adapter.merged())
        with torch.no_grad():
            adapter.vector.v.mul_(-2)


def test_cores_are_made_only_when_rows_come_or_go(monkeypatch):
    model, adapter = make(EVERY_MODEL["gqa"])
    engine = Engine(prepare_for_decoding(model), max_rows=4)
    cores, made = find_cores(engine.model), []
    of = cores.of
    monkeypatch.setattr(cores, "of", lambda vectors: made.append(len(vectors)) or of(vectors))
    rows = [engine.add([n], some(12), vector) for n, vector in enumerate(vectors_of(adapter, 3))]
    rows.append(engine.add([9], some(6), vectors_of(adapter, 1)[0]))
    while any(row.done is None for row in rows):
        engine.step()
    assert made == [4, 3]


def test_full_fine_tuning_needs_a_refresh_and_gets_one():
    model = make(EVERY_MODEL["untied"], "full")[0]
    engine = Engine(prepare_for_decoding(model), max_rows=2)
    engine.generate([list(range(40))], some(3))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(-0.7)
    engine.refresh(model)
    [answer] = engine.generate([list(range(40))], some(8))
    assert_same(answer, model)
    engine.add([1, 2], some(5))
    engine.step()
    with pytest.raises(ConfigError, match="1 sequences are running"):
        engine.refresh(model)


def test_bf16_rows_with_vectors_run():
    model, adapter = make(EVERY_MODEL["best"])
    engine = Engine(prepare_for_decoding(model, torch.bfloat16), max_rows=3)
    rows = [engine.add(prompt, some(6), vector) for prompt, vector in zip(PROMPTS, vectors_of(adapter, 7), strict=True)]
    while any(row.done is None for row in rows):
        engine.step()
    assert all(lp <= 0 for row in rows for lp in row.log_probs)


def test_vectors_that_cannot_be_meant_get_one_clear_line():
    model, adapter = make(EVERY_MODEL["gqa"])
    engine = Engine(prepare_for_decoding(model))
    with pytest.raises(DataError, match=r"shape \(2,\).*has 3 numbers"):
        engine.add([1], vector=torch.zeros(2))
    with pytest.raises(DataError, match="1 numbers that are NaN"):
        engine.add([1], vector=torch.tensor([0.0, torch.nan, 1.0]))
    assert not engine.waiting
    with pytest.raises(ConfigError, match="prepare_for_decoding"):
        Engine(model).add([1], vector=torch.zeros(3))
    with pytest.raises(ConfigError, match="prepare_for_decoding"):
        Engine(prepare_for_decoding(adapter.merged())).add([1], vector=torch.zeros(3))
    parallel = prepare_for_decoding(make(BYTE_MODELS["bytes-parallel"])[0])
    with pytest.raises(ConfigError, match="parallel head"):
        Engine(parallel).add([1], vector=torch.zeros(3))
