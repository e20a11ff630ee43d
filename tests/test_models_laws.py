"""Laws every model keeps, whatever is inside (design.md, Rules that are tests)."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from model_zoo import EVERY_MODEL, MODELS, randomized, some_ids, tiny
from smidgen.models import build_empty, build_model
from smidgen.models.attention import attend_causal, attend_in_blocks


@pytest.fixture(params=EVERY_MODEL.values(), ids=EVERY_MODEL.keys())
def model(request):
    return randomized(request.param)


@pytest.mark.parametrize("at", [0, 7, 23])
def test_nothing_after_a_position_reaches_it(model, at):
    embedded = {}

    def keep(module, inputs, output):
        output.retain_grad()
        embedded["x"] = output

    embedding = next(module for name, module in model.named_modules() if name.endswith("embed_tokens"))
    handle = embedding.register_forward_hook(keep)
    model(some_ids(model.config))[0, at].logsumexp(-1).backward()
    handle.remove()
    gradient = embedded["x"].grad[0]
    if getattr(model.config, "head", None) != "parallel":  # which knows nothing of the patch it is in
        assert gradient[at].abs().sum() > 0
    assert (gradient[at + 1 :] == 0).all()


@torch.no_grad()
@settings(max_examples=5, deadline=None)
@given(cuts=st.lists(st.integers(1, 23), max_size=4, unique=True).map(sorted))
@pytest.mark.parametrize("name", EVERY_MODEL)
def test_incremental_equals_full_at_any_split(name, cuts):
    model = randomized(EVERY_MODEL[name])
    ids = some_ids(model.config)
    state = model.init_state(2, 24)
    parts = [model(part, state) for part in ids.tensor_split(cuts, dim=1) if part.shape[1]]
    torch.testing.assert_close(torch.cat(parts, 1), model(ids), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_rows_of_different_lengths_do_not_disturb_each_other(model):
    ids = some_ids(model.config, rows=3)
    state = model.init_state(3, 24)
    for row, length in enumerate((5, 11, 2)):
        model(ids[row : row + 1, :length], state, [row])
    step = torch.stack([ids[row, length] for row, length in enumerate((5, 11, 2))])[:, None]
    together = model(step, state, [0, 1, 2])
    for row, length in enumerate((5, 11, 2)):
        alone = model(ids[row : row + 1, : length + 1])[:, -1]
        torch.testing.assert_close(together[row], alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_memory_can_be_truncated_and_copied(model):
    ids = some_ids(model.config, rows=1)
    state = model.init_state(2, 24)
    model(ids[:, :12], state, [0])
    state.truncate(0, 7)
    state.copy_row(0, 1)
    after = model(ids[:, 7:9].expand(2, -1), state, [1, 0])
    torch.testing.assert_close(after, model(ids)[:, 7:9].expand(2, -1, -1), rtol=1e-4, atol=1e-4)


def test_the_loss_starts_at_about_ln_v():
    for name, config in EVERY_MODEL.items():
        model, ids = build_model(config), some_ids(config, rows=8, length=48)
        loss = F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        assert abs(loss.item() - math.log(config.vocab_size)) < 0.15, name


def test_bf16_runs_with_fp32_weights(model):
    model.compute_dtype = torch.bfloat16
    logits = model(some_ids(model.config))
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    assert all(weight.dtype == torch.float32 for weight in model.parameters())


def test_deepcopy_and_meta_init_keep_sharing(model):
    count = sum(weight.numel() for weight in model.parameters())
    again = copy.deepcopy(model)
    assert sum(weight.numel() for weight in again.parameters()) == count
    empty = build_empty(model.config).to_empty(device="cpu")
    assert sum(weight.numel() for weight in empty.parameters()) == count


def test_shared_blocks_are_one_module():
    model = build_model(tiny(layers=(0, 1, 1, 0), mlps=(0, 0)))
    blocks = model.model.layers
    assert blocks[0] is blocks[3]
    assert blocks[1] is blocks[2]
    assert blocks[0].mlp is blocks[1].mlp


@torch.no_grad()
def test_a_shared_model_is_a_plain_llama_to_its_state_dict():
    shared, plain = build_model(tiny(layers=(0, 1, 1, 0))), build_model(tiny(layers=(0, 1, 2, 3)))
    plain.load_state_dict(shared.state_dict(), strict=True)
    ids = some_ids(plain.config)
    torch.testing.assert_close(plain(ids), shared(ids))


def test_the_same_seed_draws_the_same_weights():
    one, same, other = (build_model(MODELS["gqa"], seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.model.embed_tokens.weight, other.model.embed_tokens.weight)


@pytest.mark.parametrize("length", [1, 20, 128, 300])
def test_blocks_attend_as_the_fused_kernel_does(length):
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (torch.randn(2, heads, length, 8, generator=generator) for heads in (4, 2, 2))
    expected = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(attend_in_blocks(queries, keys, values), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("length", "window"), [(300, 1), (300, 40), (300, 128), (300, 129), (130, 127), (20, 50)])
def test_a_window_hides_what_is_further_back(length, window):
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (torch.randn(2, heads, length, 8, generator=generator) for heads in (4, 2, 2))
    seen = torch.ones(length, length, dtype=torch.bool).tril().triu(1 - window)
    expected = F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen, enable_gqa=True)
    torch.testing.assert_close(attend_causal(queries, keys, values, window), expected, rtol=1e-4, atol=1e-5)
