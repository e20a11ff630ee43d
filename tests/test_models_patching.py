"""Patches: where they end, that nothing looks ahead, and that decoding, saving and counting know of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from model_zoo import BYTE_MODELS, randomized, some_ids, tiny_bytes
from smidgen.checkpoint import load_model, save_model
from smidgen.config import validate_config
from smidgen.errors import CheckpointError, ConfigError, DataError
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.models import BytePatchConfig, build_model
from smidgen.models.patching import FixedConfig, SpaceConfig, end_patches, smooth
from smidgen.models.pooling import POOLINGS, CrossAttentionConfig, LastConfig, MaxConfig, MeanConfig
from smidgen.models.stats import count_parameters, flops_per_symbol, kv_bytes_per_symbol, weight_bytes
from smidgen.tokenizers.bytes import ByteTokenizer
from smidgen.training.objectives.next_token import next_token
from smidgen.training.parallel import LossModule

STOPLESS = SamplingParams(max_symbols=12, stop_ids=frozenset())
EOT = 256


def pieces(text: str | bytes, patcher=None) -> list[bytes]:
    """The patches of a text, its last one perhaps unfinished."""
    data = text.encode() if isinstance(text, str) else text
    model = build_model(tiny_bytes(patcher=patcher or SpaceConfig()))
    ends = model.patch(torch.tensor([list(data)])).ends[0].nonzero()[:, 0] + 1
    return [bytes(part.tolist()) for part in torch.tensor(list(data)).tensor_split(ends) if len(part)]


def test_a_patch_ends_behind_a_word():
    assert pieces("The fox, it said: no!") == [b"The ", b"fox,", b" it ", b"said:", b" no!"]
    assert pieces("x = 12;\n\n    return y2") == [b"x ", b"= 12;", b"\n\n    return ", b"y2"]
    assert pieces("da\u00df \u00fcber \u03b1\u03b2\u03b3.") == ["daß ".encode(), "über ".encode(), "αβγ.".encode()]


def test_no_patch_is_longer_than_the_longest_and_none_is_cut():
    assert pieces("a" * 40) == [b"a" * 16, b"a" * 16, b"a" * 8]
    assert pieces("abcdefgh i", FixedConfig(longest=3)) == [b"abc", b"def", b"gh ", b"i"]
    assert pieces("漢字" * 5)[0] == "漢字漢字漢字".encode()[:16]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40), st.integers(1, 6), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_ends_and_places_are_those_of_counting(symbols, longest, n_open):
    n_open = min(n_open, longest - 1)
    ids = torch.tensor([[EOT if special else 65 for special, _ in symbols]])
    marked = torch.tensor([[mark for _, mark in symbols]])
    ends, places = end_patches(marked, ids, torch.tensor([[n_open]]), longest)
    place = n_open
    for at, (special, mark) in enumerate(symbols):
        assert places[0, at] == place
        assert ends[0, at] == (special or mark or place == longest - 1)
        place = 0 if ends[0, at] else place + 1


@pytest.mark.parametrize("config", BYTE_MODELS.values(), ids=BYTE_MODELS.keys())
def test_what_follows_changes_nothing_before_it(config):
    model, ids = randomized(config), some_ids(config, rows=4, length=40)
    other = ids.clone()
    other[:, 20:] = some_ids(config, rows=4, length=20, seed=9)
    before, after = model.patch(ids), model.patch(other)
    assert torch.equal(before.ends[:, :20], after.ends[:, :20])
    torch.testing.assert_close(before.features[:, :20], after.features[:, :20], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", BYTE_MODELS.values(), ids=BYTE_MODELS.keys())
def test_a_row_does_not_depend_on_how_many_patches_its_companions_have(config):
    model = randomized(config)
    row = torch.tensor([list(b"a long word or two, no more than that.. ")])
    companions = torch.cat([row, torch.full_like(row, EOT), torch.full_like(row, 97)])
    torch.testing.assert_close(model(companions)[:1], model(row), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", [MeanConfig(), MaxConfig(), LastConfig(), CrossAttentionConfig(n_heads=2)])
def test_pooling_is_that_of_each_patch_alone(pooling):
    pool = POOLINGS[pooling.type](pooling, 8)
    x, owner = torch.randn(2, 9, 8), torch.tensor([[0, 0, 1, 2, 2, 2, 3, 9, 9], [0, 0, 0, 0, 0, 0, 1, 2, 3]])
    pooled = pool(x, owner, 4)
    for row, (lone, n) in enumerate(((x[0, 3:6], 2), (x[1, :6], 0))):
        alone = pool(lone[None], torch.zeros(1, len(lone), dtype=torch.long), 1)[0, 0]
        torch.testing.assert_close(pooled[row, n], alone)
    simple = {"mean": x[0, 3:6].mean(0), "max": x[0, 3:6].amax(0), "last": x[0, 5]}
    torch.testing.assert_close(pooled[0, 2], simple.get(pooling.type, pooled[0, 2]))


def test_smoothing_is_its_recurrence():
    generator = torch.Generator().manual_seed(0)
    new, previous = torch.randn(2, 30, 4, generator=generator), torch.randn(2, 1, 4, generator=generator)
    certain = torch.rand(2, 30, generator=generator)
    certain[:, 7], certain[0, 9] = 1, 0
    last, expected = previous[:, 0], []
    for n in range(30):
        last = certain[:, n, None] * new[:, n] + (1 - certain[:, n, None]) * last
        expected.append(last)
    torch.testing.assert_close(smooth(new, certain, previous), torch.stack(expected, 1), rtol=1e-3, atol=1e-3)


def recompute(model, prompt, n_new):
    ids = list(prompt)
    for _ in range(n_new):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


PROMPTS = [[256], list(b"The cat sat on the mat, and "), list(b"no"), list(range(200, 256)), list(b"a b c d e f g")]


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("name", BYTE_MODELS)
def test_continuous_batching_equals_naive_generation(name, prepared):
    model = randomized(BYTE_MODELS[name])
    engine = Engine(prepare_for_decoding(model) if prepared else model, max_rows=3, max_len=96)
    lengths = (12, 3, 7, 1, 10)
    each = [STOPLESS.model_copy(update={"max_symbols": n}) for n in lengths]
    for prompt, n_new, sequence in zip(PROMPTS, lengths, engine.generate(PROMPTS, each), strict=True):
        assert sequence.symbols == recompute(model, prompt, n_new)


def test_a_conversation_starts_from_what_its_row_remembers():
    model = randomized(BYTE_MODELS["bytes-space"])
    engine = Engine(model, max_rows=2, max_len=400)
    first = list(b"Once upon a time there was a fox who said to the hen: ") * 2
    engine.generate([first], STOPLESS)
    before = engine.prefilled_symbols
    longer = first + list(b"good day")
    assert engine.generate([longer, list(b"x") * 300], STOPLESS)[0].symbols == recompute(model, longer, 12)
    assert engine.prefilled_symbols - before < 350


@pytest.mark.parametrize("name", BYTE_MODELS)
def test_saved_and_loaded_bit_for_bit(name, tmp_path):
    config = BYTE_MODELS[name]
    model = build_model(config.model_copy(update={"vocab_size": 265}))
    save_model(tmp_path / "m", model, ByteTokenizer(), torch.float32)
    loaded = load_model(tmp_path / "m")
    assert loaded.model.config == model.config
    ours, theirs = (dict(m.named_parameters()) for m in (model, loaded.model))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_model_of_an_unknown_family_is_refused(tmp_path):
    save_model(tmp_path / "m", build_model(BYTE_MODELS["bytes-space"]), ByteTokenizer())
    path = tmp_path / "m/config.json"
    path.write_text(path.read_text().replace('"bytepatch"', '"megabyte"'))
    (tmp_path / "m/SHA256SUMS").unlink()
    with pytest.raises(CheckpointError, match="type 'megabyte'; this version knows llama, bytepatch"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("name", ["bytes-space", "bytes-entropy", "bytes-learned", "bytes-parallel"])
def test_eight_rows_can_be_learned_by_heart(name):
    model = build_model(BYTE_MODELS[name]).train()
    # Each row's letter tells all that follows, so that even a head without dependence inside a patch can know it.
    words = [bytes([256 - 192 + n + 1]) * 3 + b" " for n in range(8)]
    ids = torch.tensor([[EOT, *word * 5] for word in words])
    weights = torch.ones(8, 20)
    weights[:, :4] = 0
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        features, losses = model.features_and_losses(ids[:, :-1], ids[:, 1:], weights)
        raw = F.cross_entropy(model.logits(features).flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        nll = (raw * weights.flatten()).sum() / weights.sum()
        (nll + sum(losses.values()) / weights.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert nll < 0.1


def test_the_surprise_threshold_finds_its_quantile():
    config = BYTE_MODELS["bytes-entropy"]
    model = build_model(config.model_copy(update={"patcher": config.patcher.model_copy(update={"target": 4.0})}))
    ids = some_ids(config, rows=8, length=60)
    with torch.no_grad():
        model.patcher.embed_tokens.weight.mul_(20)
    optimizer = torch.optim.AdamW([model.patcher.threshold], lr=2e-2)
    for _ in range(100):
        _, losses = model.features_and_losses(ids, ids, torch.ones(8, 60))
        losses["threshold"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert abs(float(model.patch(ids).marks.ends.float().mean()) - 1 / 4) < 0.03


@pytest.mark.parametrize("name", BYTE_MODELS)
def test_every_weight_learns_something(name):
    model = randomized(BYTE_MODELS[name]).train()
    ids = some_ids(model.config, rows=4, length=40)
    features, losses = model.features_and_losses(ids[:, :-1], ids[:, 1:], torch.ones(4, 39))
    ahead = sum((head(features) for head in model.heads.future), features)
    loss = F.cross_entropy(model.logits(ahead).flatten(0, 1), ids[:, 1:].flatten()) + sum(losses.values())
    loss.backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("name", [name for name in BYTE_MODELS if name != "bytes-thinking"])
def test_what_is_counted_is_what_is_there(name):
    config = BYTE_MODELS[name]
    model = build_model(config)
    counted = count_parameters(config)
    assert counted.total == sum(weight.numel() for weight in model.parameters())
    assert weight_bytes(config, "fp32") == 4 * counted.total
    assert weight_bytes(config, "int8") < weight_bytes(config, "bf16")
    training, once = (flops_per_symbol(config, 64, training=each).total for each in (True, False))
    assert training == pytest.approx(3 * once, abs=3)
    assert kv_bytes_per_symbol(config) > 0


def test_flops_are_what_a_forward_does():
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    config = tiny_bytes(patcher=FixedConfig(longest=4))
    whole = {part: getattr(config, part) for part in ("encoder", "decoder")}
    whole = {
        part: stack.model_copy(update={"attention": stack.attention.model_copy(update={"window": None})})
        for part, stack in whole.items()
    }
    config = config.model_copy(update=whole)
    model, ids = build_model(config), torch.full((2, 64), 97)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(ids)
    # Attention is counted as the full square, and the start's context is one row more.
    assert counter.get_total_flops() == pytest.approx(flops_per_symbol(config, 64).total * ids.numel(), rel=0.02)


def test_any_bytes_are_legal():
    model = randomized(BYTE_MODELS["bytes-space"])
    engine = Engine(model, ByteTokenizer(), max_len=300)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (200,), generator=generator).tolist()
    cut = list("ein Stück für Händel".encode())[:7]  # ends inside a character
    spaces, word = [32] * 150, [97] * 200
    for prompt in (noise, cut, spaces, word):
        params = SamplingParams(max_symbols=8, temperature=1.0, stop_ids=frozenset())
        assert len(engine.generate([prompt], params)[0].symbols) == 8
    text = noise + word
    scores = engine.score([text[:300]])[0]
    assert scores.isfinite().all()
    assert len(scores) == 299


def test_an_empty_prompt_is_refused_in_one_line():
    engine = Engine(build_model(BYTE_MODELS["bytes-space"]), ByteTokenizer())
    with pytest.raises(DataError, match="an empty prompt has nothing to continue"):
        engine.add([])


def test_a_stop_text_across_patches_stops():
    model = randomized(tiny_bytes(vocab_size=264))
    engine = Engine(model, ByteTokenizer(), max_len=128)
    prompt = list(b"say: ")
    params = SamplingParams(max_symbols=100, temperature=1.0, seed=2, stop_ids=frozenset())
    free = engine.generate([prompt], params)[0]
    ends = model.patch(torch.tensor([prompt + free.symbols])).ends[0, len(prompt) :]
    pairs = list(zip(free.symbols, free.symbols[1:], strict=False))
    # Two characters with the end of a patch between them.
    at = next(n for n, pair in enumerate(pairs) if ends[n] and max(pair) < 128 and pairs.index(pair) == n)
    stopped = engine.generate([prompt], params.model_copy(update={"stop": (bytes(pairs[at]).decode(),)}))[0]
    assert (stopped.done, stopped.symbols) == ("stop", free.symbols[: at + 2])
    assert stopped.text == bytes(n for n in free.symbols[:at] if n < 256).decode(errors="replace")


def test_configs_that_do_not_fit_are_refused():
    def refuse(data: dict, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            validate_config(data, BytePatchConfig, "test")

    refuse({"encoder": {"d_model": 64, "attention": {"n_heads": 2}}}, r"encoder.d_model \(64\) and decoder.d_model")
    refuse({"pooling": {"type": "cross_attention", "n_heads": 3}}, r"pooling.n_heads \(3\) must divide")
    refuse({"heads": {"exit": {}}}, "it has no exits")
    with pytest.raises(ConfigError, match="reads forward only"):
        build_model(BYTE_MODELS["bytes-space"]).features(torch.zeros(1, 4, dtype=torch.long), causal=False)


@given(st.lists(st.sampled_from([*b"a1. ", 0xC3, EOT]), min_size=2, max_size=30))
@settings(max_examples=30, deadline=None)
def test_what_is_foreseen_to_end_a_patch_does(symbols):
    for name in ("bytes-space", "bytes-fixed", "bytes-symbol"):
        model = build_model(BYTE_MODELS[name]).eval()
        with torch.no_grad():
            state = model.init_state(1, 32)
            for symbol in symbols:
                heavy, before = state.is_heavy(0, symbol), state.n_patches(0)
                model.features(torch.tensor([[symbol]]), state)
                assert heavy == (state.n_patches(0) > before)


def test_rows_that_end_a_patch_wait_for_each_other():
    model = randomized(tiny_bytes(patcher=FixedConfig(longest=5)))
    runs = []
    trunk = model.trunk.forward
    model.trunk.forward = lambda *given, **named: runs.append(len(given[0])) or trunk(*given, **named)
    engine = Engine(model, max_rows=8, max_len=96)
    prompts = [list(b"abcdefgh")[: n + 1] for n in range(8)]
    done = engine.generate(prompts, SamplingParams(max_symbols=40, stop_ids=frozenset()))
    assert sum(runs) / len(runs) > 2.5
    del model.trunk.forward
    for prompt, sequence in zip(prompts, done, strict=True):
        assert sequence.symbols == recompute(model, prompt, 40)


def test_only_stacks_that_meet_few_lengths_are_compiled():
    graphs = {"bytes-space": (True, 1 + 2), "bytes-entropy": (False, 1 + 1), "bytes-learned": (False, 1)}
    for name, (trunk_too, n_graphs) in graphs.items():
        model = build_model(BYTE_MODELS[name])
        loss = LossModule(model, next_token)
        assert loss.n_graphs == n_graphs
        loss.compile_parts()
        compiled = {block for block in model.modules() if getattr(block, "_compiled_call_impl", None) is not None}
        assert set(model.encoder.layers) | set(model.decoder.stack.layers) <= compiled
        assert (set(model.trunk.layers) <= compiled) == trunk_too
        loss.release()
