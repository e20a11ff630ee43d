"""Laws of leaving early and of drafting: what runs beside a sequence changes nothing, and drafts change no answer."""

import pytest
import torch

from model_zoo import EVERY_MODEL, VOCAB, tiny
from smidgen.errors import ConfigError
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.models import build_model
from smidgen.models.exits import decode_early, features_by_depth
from smidgen.models.heads import ExitConfig, FutureConfig, HeadsConfig, ThoughtConfig

PROMPTS = [[5, 9, 20], [7], list(range(40)), [1, 2, 3, 4]]
EXITS, FUTURE = HeadsConfig(exit=ExitConfig()), HeadsConfig(future=FutureConfig(n=3, keep=True))
LAYOUTS = {
    "plain": tiny(),
    "repeated": tiny(layers=(0, 1, 1, 0)),
    "scalars": tiny(residual_scalars=True),
    "thinking": tiny(heads=HeadsConfig(thought=ThoughtConfig())),
}


def make(config, heads, noise=0.1):
    """A model with heads in which every part speaks."""
    heads = heads.model_copy(update={"thought": config.heads.thought})
    model = build_model(config.model_copy(update={"heads": heads}))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += noise * torch.randn(weight.shape, generator=generator)
    return model.eval()


def some(n, **changes):
    return SamplingParams(max_symbols=n, stop_ids=frozenset(), **changes)


def middling(model, prompts):
    """A confidence that about half of the symbols reach at the first exit."""
    with torch.no_grad():
        first = features_by_depth(model, torch.tensor([list(range(40))]))[0]
        return float(model.logits(first).softmax(-1).amax(-1).median())


@pytest.mark.parametrize("prepared", [False, True], ids=["trained", "prepared"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_confidence_nothing_reaches_changes_nothing(layout, prepared):
    model = make(LAYOUTS[layout], EXITS)
    model = prepare_for_decoding(model) if prepared else model
    whole = [s.symbols for s in Engine(model, max_rows=4).generate(PROMPTS, some(12))]
    careful = Engine(model, max_rows=4).generate(PROMPTS, some(12, exit_confidence=1.0))
    assert [s.symbols for s in careful] == whole
    assert all(s.depths == [len(model.config.stack.layers)] * 11 for s in careful)


@pytest.mark.parametrize("prepared", [False, True], ids=["trained", "prepared"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_where_a_row_leaves_does_not_depend_on_its_companions(layout, prepared):
    model = make(LAYOUTS[layout], EXITS)
    at = middling(model, PROMPTS)
    model = prepare_for_decoding(model) if prepared else model
    each = [some(n, exit_confidence=c) for n, c in ((12, at), (20, 2 * at / (1 + at)), (15, at), (9, None))]
    together = Engine(model, max_rows=3).generate(PROMPTS, each)
    alone = [Engine(model).generate([prompt], own)[0] for prompt, own in zip(PROMPTS, each, strict=True)]
    assert [(s.symbols, s.depths[: len(s.symbols)]) for s in together[:3]] == [(s.symbols, s.depths) for s in alone[:3]]
    assert together[3].symbols == alone[3].symbols
    assert len({depth for s in alone[:3] for depth in s.depths}) > 1


@torch.no_grad()
def test_skipped_depths_remember_where_the_symbol_left():
    """CALM's state propagation: deeper keys and values are those of the exit's own stream."""
    model = make(LAYOUTS["repeated"], EXITS)
    ids, state, reference = torch.tensor([[3, 1, 4]]), model.init_state(1, 16), model.init_state(1, 16)
    for memory in (state, reference):
        model(ids, memory)
    out = decode_early(model, torch.tensor([[5]]), state, [0], [0.0])
    assert out.depths == [1]
    stack, recall = model.model, reference.extend([0], 1)
    x = stack.layers[0](model.embed(torch.tensor([[5]])), recall.turn, 0, recall)
    torch.testing.assert_close(out.logits, model.logits(model.heads.exit(x[:, -1])))
    for depth in (1, 2, 3):
        stack.layers[depth].remember(x, recall.turn, depth, recall)
    torch.testing.assert_close(state.keys, reference.keys)
    torch.testing.assert_close(state.values, reference.values)


def test_what_left_early_is_never_the_beginning_of_a_prompt():
    model = make(LAYOUTS["plain"], EXITS)
    engine = Engine(model)
    [hasty] = engine.generate([list(range(30))], some(20, exit_confidence=1e-3))
    assert set(hasty.depths) == {1}
    [after] = engine.generate([hasty.ids], some(8))
    assert after.symbols == Engine(model).generate([hasty.ids], some(8))[0].symbols


def test_exits_in_training_are_exits_in_decoding():
    model = make(LAYOUTS["scalars"], HeadsConfig(exit=ExitConfig(every=2)))
    assert model.heads.exits == (2,)
    ids = torch.tensor([[3, 1, 4, 1]])
    with torch.no_grad():
        first, last = features_by_depth(model, ids)
        torch.testing.assert_close(last, model.features(ids))
        state = model.init_state(1, 8)
        model(ids[:, :3], state)
        out = decode_early(model, ids[:, 3:], state, [0], [0.0])
    torch.testing.assert_close(out.logits, model.logits(first[:, -1]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prepared", [False, True], ids=["trained", "prepared"])
@pytest.mark.parametrize("temperature", [0.0, 1.0], ids=["greedy", "sampled"])
@pytest.mark.parametrize("name", ["gqa", "pairwise", "best", *(n for n in EVERY_MODEL if n.startswith("bytes-"))])
def test_drafts_change_no_answer(name, temperature, prepared):
    """A draft is kept where it is what would have been chosen, by the same draw: the distribution is the same."""
    model = make(EVERY_MODEL[name], FUTURE)
    model = prepare_for_decoding(model) if prepared else model
    each = [some(n, temperature=temperature, seed=n, repetition_penalty=1.2) for n in (12, 25, 18, 1)]
    drafting, plain = Engine(model, max_rows=3), Engine(model, max_rows=3, drafts=0)
    answers, expected = drafting.generate(PROMPTS, each), plain.generate(PROMPTS, each)
    assert [s.symbols for s in answers] == [s.symbols for s in expected]
    assert [s.done for s in answers] == [s.done for s in expected]
    told, wanted = (torch.tensor([p for s in found for p in s.log_probs]) for found in (answers, expected))
    torch.testing.assert_close(told, wanted, atol=1e-4, rtol=1e-4)


def test_right_drafts_come_several_at_a_time_and_stop_where_answers_do():
    """A head that says what the model will say: every step gives a row all it drafted, and not one symbol too many."""
    model = make(tiny(layers=(0,)), FUTURE, noise=0.0)
    with torch.no_grad():  # whatever it reads, the model says 11
        model.model.norm.weight.zero_()
        for head in model.heads.future:
            head.norm.weight.zero_()
    [counted] = Engine(model).generate([[1, 2]], some(9))
    engine = Engine(model, max_rows=2)
    short, long = engine.generate([[1, 2], [3]], [some(4), some(9)])
    assert counted.symbols[:4] == short.symbols
    assert (short.done, len(short.symbols), len(long.symbols)) == ("length", 4, 9)
    assert engine.decoded_symbols == 3 + 8
    assert engine.decoded_rows == 1 + 2
    stopping = Engine(model).generate([[1, 2]], SamplingParams(max_symbols=9, stop_ids=frozenset({short.symbols[0]})))
    assert len(stopping[0].symbols) == 1
    brim = Engine(model, max_len=8)
    assert len(brim.generate([[1, 2]], some(50))[0].ids) == 8


def test_what_a_model_cannot_do_is_refused_in_one_line():
    plain = build_model(tiny())
    with pytest.raises(ConfigError, match=r"exits.*early_exit"):
        Engine(plain).add([1], some(3, exit_confidence=0.9))
    with pytest.raises(ConfigError, match="2 drafts a step"):
        Engine(plain, drafts=2)
    assert plain.config.vocab_size == VOCAB
