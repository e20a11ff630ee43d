"""Laws of generation: whatever runs beside a sequence, it gets what a full recompute of it alone would give."""

import pytest
import torch

from smidgen.config import validate_config
from smidgen.errors import ConfigError, DataError
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.inference import engine as engine_room
from smidgen.models import LlamaConfig, build_model
from smidgen.tokenizers.bytes import ByteTokenizer

BEST = {"qk_norm": True, "n_heads": 4, "n_kv_heads": 2}
CASES = {
    "plain": {"stack": {"attention": {"n_heads": 4}}},
    "grouped": {"stack": {"attention": {"n_heads": 4, "n_kv_heads": 1}}, "tie_embeddings": False},
    "shared layers": {"stack": {"layers": [0, 0, 1, 1], "attention": {"n_heads": 4, "n_kv_heads": 2}}},
    "shared mlps": {"stack": {"layers": [0, 1, 2], "mlps": [0, 0, 0], "attention": {"n_heads": 4}}},
    "best": {
        "logit_softcap": 15.0,
        "stack": {"attention": BEST, "mlp": {"type": "relu2", "d_ff": 64}, "residual_scalars": True},
    },
}
PROMPTS = [[5, 9, 200], list(range(40, 63)), [7], [1, 2, 3, 4, 5, 6], list(range(30)), [9, 9, 9, 9]]
STOPLESS = SamplingParams(max_symbols=10, stop_ids=frozenset())


def make(case: str, seed: int = 0) -> torch.nn.Module:
    """Build a tiny model that is not the identity anywhere."""
    shape = {"d_model": 32, "layers": [0, 1], "mlp": {"type": "swiglu", "d_ff": 48}} | CASES[case]["stack"]
    config = validate_config({"vocab_size": 264, "max_seq_len": 96} | CASES[case] | {"stack": shape}, LlamaConfig, case)
    model = build_model(config, seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    return model


def recompute(model: torch.nn.Module, prompt: list[int], n_new: int) -> tuple[list[int], list[float]]:
    """Generate greedily by running everything again for every symbol."""
    ids, log_probs = list(prompt), []
    for _ in range(n_new):
        with torch.no_grad():
            distribution = model(torch.tensor([ids]))[0, -1].log_softmax(-1)
        ids.append(int(distribution.argmax()))
        log_probs.append(float(distribution.max()))
    return ids[len(prompt) :], log_probs


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_continuous_batching_with_ragged_prompts_equals_full_recompute(case, prepared):
    model = make(case)
    engine = Engine(prepare_for_decoding(model) if prepared else model, max_rows=3)
    lengths = (10, 3, 7, 1, 10, 5)
    each = [STOPLESS.model_copy(update={"max_symbols": n}) for n in lengths]
    for prompt, n_new, sequence in zip(PROMPTS, lengths, engine.generate(PROMPTS, each), strict=True):
        symbols, log_probs = recompute(model, prompt, n_new)
        assert sequence.symbols == symbols
        assert sequence.done == "length"
        torch.testing.assert_close(torch.tensor(sequence.log_probs), torch.tensor(log_probs), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("n_symbols", [1, 2, 7, 64])
def test_any_split_of_prefill_gives_the_same(n_symbols, monkeypatch):
    model = make("grouped")
    expected = [s.symbols for s in Engine(model, max_rows=6).generate(PROMPTS, STOPLESS)]
    monkeypatch.setattr(engine_room, "PREFILL_SYMBOLS", n_symbols)
    assert [s.symbols for s in Engine(model, max_rows=6).generate(PROMPTS, STOPLESS)] == expected


def test_a_sample_does_not_depend_on_its_companions():
    model = make("plain")
    each = [
        SamplingParams(temperature=1.0, seed=3, max_symbols=8),
        SamplingParams(temperature=1.3, top_k=20, seed=4, max_symbols=12),
        SamplingParams(temperature=0.9, top_p=0.8, seed=3, max_symbols=5),
        SamplingParams(temperature=1.0, min_p=0.05, repetition_penalty=1.3, seed=9, max_symbols=9),
        SamplingParams(max_symbols=9),
        SamplingParams(repetition_penalty=1.5, max_symbols=9),
    ]
    together = [s.symbols for s in Engine(model, max_rows=4).generate(PROMPTS, each)]
    alone = [Engine(model).generate([p], own)[0].symbols for p, own in zip(PROMPTS, each, strict=True)]
    assert together == alone


def test_different_seeds_draw_differently_from_one_prompt():
    each = [SamplingParams(temperature=1.0, seed=seed, stop_ids=frozenset()) for seed in range(4)]
    assert len({tuple(s.symbols) for s in Engine(make("plain"), max_rows=4).generate([[1, 2]] * 4, each)}) == 4


def test_score_is_the_log_softmax_of_a_full_forward():
    model = make("best")
    for ids, scores in zip(PROMPTS, Engine(model).score(PROMPTS), strict=True):
        with torch.no_grad():
            full = model(torch.tensor([ids]))[0, :-1].log_softmax(-1)
        torch.testing.assert_close(scores, full[range(len(ids) - 1), ids[1:]])


def test_generated_log_probs_equal_their_score():
    engine = Engine(make("best"))
    [sequence] = engine.generate(
        [[3, 1, 4]], SamplingParams(temperature=1.0, top_k=50, max_symbols=12, stop_ids=frozenset())
    )
    scored = engine.score([sequence.ids])[0][2:]
    torch.testing.assert_close(torch.tensor(sequence.log_probs), scored, atol=1e-4, rtol=1e-4)


def test_alternatives_are_the_likeliest_symbols():
    each = [STOPLESS.model_copy(update={"log_probs": n}) for n in (0, 3)]
    without, asked = Engine(make("plain"), max_rows=2).generate([[1, 2], [3, 4]], each)
    assert without.alternatives == []
    assert [len(place) for place in asked.alternatives] == [3] * 10
    assert [place[0][0] for place in asked.alternatives] == asked.symbols
    assert [place[0][1] for place in asked.alternatives] == pytest.approx(asked.log_probs)


def test_memory_grows_to_max_len_and_the_answer_ends_there():
    model = make("grouped")
    engine = Engine(model, max_rows=2, max_len=400)
    params = SamplingParams(max_symbols=1000, stop_ids=frozenset())
    short, long = engine.generate([[1, 2, 3], list(range(100)) * 3], params)
    assert (short.done, long.done) == ("full", "full")
    assert (len(short.ids), len(long.ids)) == (400, 400)
    assert Engine(model, max_len=400).generate([[1, 2, 3]], params)[0].symbols == short.symbols


def test_rows_are_used_again_by_prompts_that_begin_alike():
    model = make("grouped")
    engine = Engine(model, max_rows=4)
    shared = list(range(60))
    prompts = [[*shared, n] for n in range(70, 78)]
    answers = engine.generate(prompts, STOPLESS)
    assert engine.prefilled_symbols == 61 + 7
    assert [s.symbols for s in answers] == [recompute(model, p, 10)[0] for p in prompts]
    before = engine.prefilled_symbols
    [turn] = engine.generate([[*answers[-1].ids, 5, 6]], STOPLESS)
    assert engine.prefilled_symbols - before == 3  # the last generated symbol had never been run
    assert turn.symbols == recompute(model, turn.prompt, 10)[0]


def test_a_turn_goes_on_from_a_short_prompt_and_its_answer():
    model = make("grouped")
    engine = Engine(model, max_rows=4)
    [first, _] = engine.generate([[5, 9, 200], [7]], STOPLESS.model_copy(update={"max_symbols": 20}))
    before = engine.prefilled_symbols
    [turn] = engine.generate([[*first.ids, 5]], STOPLESS)
    assert engine.prefilled_symbols - before == 2
    assert turn.symbols == recompute(model, turn.prompt, 10)[0]


def test_changed_weights_are_never_mixed_with_old_memory():
    model = make("plain")
    engine = Engine(model)
    engine.generate([list(range(40))], STOPLESS)
    with torch.no_grad():
        model.model.layers[0].self_attn.v_proj.weight.mul_(-2)
    [after] = engine.generate([list(range(40))], STOPLESS)
    assert after.symbols == recompute(model, list(range(40)), 10)[0]


def test_a_sequence_can_be_cancelled_outside_of_a_step():
    """Its row is given away, which is memory that a step has made; Ctrl-C while answers were drawn was a traceback."""
    model = make("plain")
    engine = Engine(prepare_for_decoding(model), max_rows=8)
    first, *others = (engine.add(prompt, STOPLESS) for prompt in PROMPTS)
    engine.step()
    engine.cancel(first)
    while engine.running:
        engine.step()
    for prompt, other in zip(PROMPTS[1:], others, strict=True):
        assert other.symbols == recompute(model, prompt, 10)[0]


def test_cancelled_sequences_leave_the_others_alone():
    model = make("plain")
    engine = Engine(model, max_rows=2)
    first, second, third = (engine.add(prompt, STOPLESS) for prompt in PROMPTS[:3])
    engine.step()
    engine.cancel(first)
    engine.cancel(third)
    while second.done is None:
        engine.step()
    engine.cancel(second)
    assert (first.done, second.done, third.done) == ("cancelled", "length", "cancelled")
    assert (len(first.symbols), third.symbols) == (1, [])
    assert second.symbols == recompute(model, PROMPTS[1], 10)[0]
    assert not engine.running
    assert not engine.waiting


def test_bf16_and_half_filled_batches_run():
    model = prepare_for_decoding(make("best"), torch.bfloat16)
    sequences = Engine(model, max_rows=4).generate(PROMPTS, STOPLESS)
    assert all(len(s.symbols) == 10 for s in sequences)
    assert all(lp <= 0 for s in sequences for lp in s.log_probs)


def test_overlong_and_impossible_prompts_get_one_clear_line():
    model = make("plain")
    engine = Engine(model, ByteTokenizer(), max_len=16)
    with pytest.raises(DataError, match="20 symbols leaves no room in a context of 16"):
        engine.add([1] * 20)
    with pytest.raises(DataError, match="empty"):
        engine.add([])
    with pytest.raises(DataError, match="beyond the model's 264"):
        engine.add([1, 264])
    with pytest.raises(DataError, match="cannot be scored"):
        engine.score([[1] * 17])
    with pytest.raises(ConfigError, match="no tokenizer"):
        Engine(model).add("text")
    with pytest.raises(ConfigError, match="stop texts"):
        Engine(model).add([1], SamplingParams(stop=("x",)))
    cutting = Engine(model, max_len=16, overlong="truncate")
    sequence = cutting.add(list(range(20)), SamplingParams(max_symbols=4))
    assert (sequence.prompt, cutting.truncated_prompts) == (list(range(8, 20)), 1)


def test_preparing_leaves_the_model_alone_and_keeps_sharing():
    model = make("shared layers")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    prepared = prepare_for_decoding(model, torch.bfloat16)
    blocks = prepared.model.layers
    assert blocks[0] is blocks[1]
    assert blocks[1] is not blocks[2]
    shared = prepare_for_decoding(make("shared mlps")).model.layers
    assert shared[0].mlp is shared[2].mlp
    kept = {weight.data_ptr() for weight in prepared.parameters()}
    assert not kept & {weight.data_ptr() for weight in model.parameters()}
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert not any(weight.requires_grad for weight in prepared.parameters())
