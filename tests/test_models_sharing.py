"""Sharing is data: names stand for ids, shared parts are one part, and what a depth adds starts as nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounter
from torch.nn import functional as F

from model_zoo import MODELS, VOCAB, tiny
from smidgen.config import load_config
from smidgen.errors import ConfigError
from smidgen.inference import prepare_for_decoding
from smidgen.models import LlamaConfig, build_model
from smidgen.models.layers import AdaptedLinear
from smidgen.models.layouts import LAYOUTS, lay_out
from smidgen.models.merge import merge_model
from smidgen.models.stack import switch_loops
from smidgen.models.stats import count_parameters, without_sharing
from smidgen.recipe import Recipe, format_recipe, load_recipe, training_flops
from smidgen.training import Hook, Outside, fit
from smidgen.training.config import AdamWConfig, MuonConfig
from smidgen.training.objectives.next_token import next_token
from smidgen.training.optim import build_optimizer
from smidgen.training.parallel import LossModule
from test_models_laws import randomized
from test_training_loop import CPU, batch_of, config_for, endless

LLAMAS = {name: config for name, config in MODELS.items() if isinstance(config, LlamaConfig)}
SHARED = [name for name, c in LLAMAS.items() if count_parameters(without_sharing(c)) != count_parameters(c)]
"""Every model of the zoo in which something is shared or factored."""


def some_ids(rows=2, length=24):
    return torch.randint(0, VOCAB, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("plain:3", (0, 1, 2)),
        ("pairwise:5", (0, 0, 1, 1, 2)),
        ("cyclic:5,2", (0, 1, 0, 1, 0)),
        ("middle:11,3,5,2", (0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8, 9, 10)),
        ("universal:4", (0, 0, 0, 0)),
    ],
)
def test_a_layout_is_the_list_it_stands_for(name, ids):
    assert lay_out(name) == ids
    assert tiny(layers=name) == tiny(layers=ids)


@given(st.sampled_from(sorted(LAYOUTS)), st.lists(st.integers(1, 12), min_size=4, max_size=4))
def test_a_layout_uses_every_id_or_is_refused(name, numbers):
    text = f"{name}:{','.join(map(str, numbers[: LAYOUTS[name][1].count(',') + 1]))}"
    try:
        ids = lay_out(text)
    except ValueError:
        return
    assert set(ids) == set(range(max(ids) + 1))


def test_a_recipe_takes_a_name_and_writes_the_list(tmp_path):
    (tmp_path / "a.toml").write_text('[model.stack]\nlayers = "middle:4,1,2,2"\nmlps = "universal:4"\n')
    recipe = load_recipe(tmp_path / "a.toml", ["model.stack.attention_outputs=pairwise:4"])
    assert recipe.model.stack.layers == (0, 1, 2, 1, 2, 3)
    assert recipe.model.stack.attention_outputs == (0, 0, 1, 1)
    written = format_recipe(recipe)
    assert "layers = [0, 1, 2, 1, 2, 3]" in written
    (tmp_path / "b.toml").write_text(written)
    assert load_config(tmp_path / "b.toml", Recipe) == recipe
    assert Recipe.model_validate_json(recipe.model_dump_json(), strict=True) == recipe


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("layers", "pairwise", "Layouts: plain:DEPTH"),
        ("layers", "spiral:4", "Layouts: plain:DEPTH"),
        ("layers", "pairwise:-4", "Layouts: plain:DEPTH"),
        ("layers", "cyclic:4", "written cyclic:DEPTH,BLOCKS"),
        ("layers", "cyclic:4,5", "cannot run through 5"),
        ("layers", "cyclic:4,0", "cannot run through 0"),
        ("layers", "middle:4,2,4,2", "no part of 4 blocks"),
        ("layers", "middle:4,1,2,0", "never appear"),
        ("layers", "universal:0", "at least 1"),
        ("mlps", "universal:3", "names 3 feed-forwards for 8 blocks"),
        ("attention_outputs", [0, 1], "names 2 output maps for 8 blocks"),
        ("attention_outputs", [0, 0, 0, 0, 0, 0, 0, 2], "never appear"),
        ("depth_lora_rank", 4, "adapts nothing"),
    ],
)
def test_a_wrong_layout_is_refused_by_name(key, value, told, tmp_path):
    shown = f'"{value}"' if isinstance(value, str) else value
    (tmp_path / "a.toml").write_text(f"[model.stack]\n{key} = {shown}\n")
    with pytest.raises(ConfigError, match=told):
        load_recipe(tmp_path / "a.toml")


def test_output_maps_are_shared_by_id_and_nothing_else_is():
    first, second, third = build_model(tiny(attention_outputs=(0, 1, 0))).model.layers
    assert first.self_attn.o_proj is third.self_attn.o_proj
    assert first.self_attn.o_proj is not second.self_attn.o_proj
    assert first.self_attn.q_proj is not third.self_attn.q_proj


@torch.no_grad()
def test_what_a_depth_adds_starts_as_nothing():
    adapted, bare = build_model(MODELS["depth-lora"]), build_model(tiny(layers="cyclic:4,2"))
    weights = {name.replace(".shared.", "."): weight for name, weight in adapted.named_parameters()}
    for name, weight in bare.named_parameters():
        weight.copy_(weights[name])
    assert torch.equal(adapted(some_ids()), bare(some_ids()))


def test_each_depth_has_its_own_update_of_each_map_it_shares_and_of_no_other():
    blocks = build_model(tiny(layers=(0, 1, 1), mlps=(0, 0), depth_lora_rank=2)).model.layers
    assert not isinstance(blocks[0].self_attn.q_proj, AdaptedLinear)
    assert not isinstance(blocks[0].self_attn.o_proj, AdaptedLinear)
    assert blocks[1].self_attn.q_proj.shared is blocks[2].self_attn.q_proj.shared
    assert blocks[1].self_attn.q_proj.lora_a is not blocks[2].self_attn.q_proj.lora_a
    assert len({block.mlp.down_proj.shared for block in blocks}) == 1
    assert len({block.mlp.down_proj.lora_b for block in blocks}) == 3
    assert blocks[1].input_layernorm is blocks[2].input_layernorm


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("kind", [AdamWConfig, MuonConfig])
def test_every_weight_learns(name, kind):
    model = randomized(MODELS[name]).train()
    optimizer = build_optimizer(model, kind(), torch.float32)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    model(some_ids()).logsumexp(-1).sum().backward()
    optimizer.step(1.0)
    assert [name for name, weight in model.named_parameters() if torch.equal(weight, before[name])] == []


@torch.no_grad()
@pytest.mark.parametrize("name", SHARED)
def test_merged_and_prepared_models_compute_the_same(name):
    model, ids = randomized(MODELS[name]), some_ids()
    merged = merge_model(model)
    assert merged.config == without_sharing(model.config)
    torch.testing.assert_close(merged(ids), model(ids), rtol=1e-4, atol=1e-4)
    prepared = prepare_for_decoding(model, torch.float32)
    state = prepared.init_state(2, 24)
    parts = [prepared.logits(prepared.features(part, state)) for part in ids.split([7, 1, 16], 1)]
    torch.testing.assert_close(torch.cat(parts, 1), model(ids), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["factored", "factored-untied", "smallest"])
def test_a_head_of_two_factors_is_their_product(name):
    model = randomized(MODELS[name])
    features = model.features(some_ids())
    raw, cap = F.linear(features, model.head_weight()), model.config.logit_softcap
    expected = raw if cap is None else cap * torch.tanh(raw / cap)
    torch.testing.assert_close(model.logits(features), expected, rtol=1e-4, atol=1e-4)
    assert model.model.embed_tokens.weight.shape == (97, 12)


def once(config: LlamaConfig) -> LlamaConfig:
    """The config of what runs while the loop is off."""
    blocks = tuple(dict.fromkeys(config.stack.layers))
    return config.model_copy(update={"stack": config.stack.model_copy(update={"layers": blocks})})


@torch.no_grad()
@pytest.mark.parametrize("name", ["pairwise", "middle", "universal", "cyclic"])
def test_with_the_loop_off_training_runs_each_block_once_and_evaluation_all(name):
    looped = randomized(MODELS[name])
    whole = looped(some_ids())
    flat = build_model(once(MODELS[name]))
    weights = dict(looped.named_parameters(remove_duplicate=False))
    for position, block in enumerate(flat.model.layers):
        source = looped.model.layers[MODELS[name].stack.layers.index(flat.config.stack.layers[position])]
        block.load_state_dict(source.state_dict())
    flat.model.embed_tokens.weight.copy_(weights["model.embed_tokens.weight"])
    flat.model.norm.weight.copy_(weights["model.norm.weight"])
    switch_loops(looped, on=False)
    torch.testing.assert_close(looped.train()(some_ids()), flat(some_ids()))
    assert torch.equal(looped.eval()(some_ids()), whole)
    switch_loops(looped, on=True)
    assert torch.equal(looped.train()(some_ids()), whole)


@pytest.mark.parametrize("name", ["middle", "depth-lora"])
def test_compiled_blocks_are_not_compiled_again_when_the_loop_begins(name):
    torch.compiler.reset()
    counter = CompileCounter()
    loss = LossModule(build_model(MODELS[name]).train(), next_token)
    for block in set(loss.model.model.layers):
        block.compile(backend=counter)
    batch, graphs = batch_of(0), []
    for on in (False, False, True, True):
        switch_loops(loss.model, on)
        loss(batch.ids, batch.targets, batch.weights, {})[0].backward()
        graphs.append(counter.frame_count)
    assert graphs == [1, 1, 1, 1]


def depths_run(model, seen):
    """Note how many blocks each forward of a model runs."""

    def count(module, inputs):
        seen[-1] += 1

    for block in set(model.model.layers):
        block.register_forward_pre_hook(count)
    model.model.register_forward_pre_hook(lambda module, inputs: seen.append(0))


def test_the_loop_begins_at_its_share_and_what_is_looked_at_is_whole():
    model, seen, looked = build_model(MODELS["middle"]), [], []
    depths_run(model, seen)

    def look(progress):
        progress.model(some_ids())
        looked.append(seen.pop())

    fit(model, endless(), next_token, config_for(8, loop_from=0.5), CPU, Outside(hooks=[Hook(4, look)]))
    assert seen == [4, 4, 4, 4, 6, 6, 6, 6]
    assert looked == [6, 6, 6, 6]
    seen.clear()
    model.train()(some_ids())
    assert seen == [6]


@pytest.mark.parametrize("stop", [2, 6])
def test_a_run_whose_loop_waits_resumes_bit_for_bit(stop):
    config, saved, steps = config_for(8, loop_from=0.5, ema_decay=0.9), {}, []
    straight = build_model(MODELS["smallest"])
    fit(straight, endless(), next_token, config, CPU)

    def keep(step, tensors, meta):
        saved["state"] = (step, {name: tensor.clone() for name, tensor in tensors.items()}, dict(meta))

    outside = Outside(save_state=keep, should_stop=lambda: len(steps) >= stop, on_record=[steps.append])
    fit(build_model(MODELS["smallest"]), endless(), next_token, config, CPU, outside)
    assert saved["state"][0] == stop
    resumed = build_model(MODELS["smallest"], seed=7)
    fit(resumed, endless(), next_token, config, CPU, Outside(load_state=lambda: saved["state"]))
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))


def test_a_loop_that_waits_for_nothing_is_refused(tmp_path):
    (tmp_path / "a.toml").write_text("[train]\nloop_from = 0.3\n")
    with pytest.raises(ConfigError, match="no block repeats"):
        load_recipe(tmp_path / "a.toml")
    assert load_recipe(tmp_path / "a.toml", ["model.stack.layers=middle:8,3,4,2"]).train.loop_from == 0.3


def test_blocks_that_repeat_later_cost_less_on_the_way(tmp_path):
    def flops(*overrides):
        (tmp_path / "a.toml").write_text("")
        return training_flops(load_recipe(tmp_path / "a.toml", overrides))

    looped, late, by_steps = "model.stack.layers=universal:6", "train.loop_from=0.5", "train.budget.type=steps"
    once, whole = flops("model.stack.layers=universal:1"), flops(looped)
    assert flops(looped, late, by_steps, "train.budget.steps=9") == pytest.approx((once + whole) / 2)
    # Half of the time reads more than half of the text.
    assert flops(looped, late) == pytest.approx(2 / (1 / once + 1 / whole))
