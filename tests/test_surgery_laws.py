"""Laws every adapter keeps on every model (design.md, Rules that are tests)."""

import copy

import pytest
import torch

from model_zoo import EVERY_MODEL, MODELS, randomized, some_ids, tiny, tiny_bytes
from smidgen.errors import ConfigError
from smidgen.models import build_model
from smidgen.models.layers import AdaptedLinear, Linear, SwiGLUConfig
from smidgen.models.patching import FixedConfig
from smidgen.surgery import attach, model_fingerprint, read_adapter
from smidgen.surgery.adapted import AdapterModule, is_adapted
from smidgen.surgery.adapter import count_numbers
from smidgen.surgery.config import LoraXsConfig, TinyLoraConfig

RUNGS = ["tinylora:1", "tinylora:u=2,groups=4", "lora_xs:r=3", "lora:r=3", "rslora:r=3", "ia3", "bias", "full"]
VARIANTS = ["tinylora:groups=5,order=structured", "tinylora:r=20,u=3", "lora:maps=v_proj+0.mlp.up_proj"]


def shake(adapter, seed=5):
    """Give an adapter something to say."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in adapter.weights.values():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)


def adapted(name, rung):
    model = randomized(EVERY_MODEL[name])
    ids = some_ids(model.config)
    with torch.no_grad():
        before = model(ids)
    return model, ids, before, attach(model, read_adapter(rung))


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("name", EVERY_MODEL)
def test_it_starts_as_nothing_trains_alone_and_merges(name, rung):
    model, ids, before, adapter = adapted(name, rung)
    logits = model(ids)
    torch.testing.assert_close(logits, before, rtol=0, atol=0)

    logits.logsumexp(-1).sum().backward()
    trained = {id(weight) for weight in adapter.weights.values()}
    assert all(weight.grad is None for weight in model.parameters() if id(weight) not in trained)
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in adapter.weights.values())

    shake(adapter)
    with torch.no_grad():
        unmerged = model(ids)
        assert (unmerged - before).abs().max() > 1e-4
        if rung == "bias":
            with pytest.raises(ConfigError, match="cannot be merged"):
                adapter.merged()
            return
        plain = adapter.merged()
        assert not is_adapted(plain)
        assert all(weight.requires_grad for weight in plain.parameters())
        torch.testing.assert_close(plain(ids), unmerged, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("rung", [*RUNGS, *VARIANTS])
@pytest.mark.parametrize("name", ["gqa", "smallest", "bytes-shared", "bytes-parallel-learned"])
def test_its_state_and_its_copies_say_the_same_and_removing_it_leaves_the_base(name, rung):
    model, ids, before, adapter = adapted(name, rung)
    base = adapter.base_hash
    shake(adapter)
    said = model(ids)

    other = attach(randomized(EVERY_MODEL[name]), read_adapter(rung))
    other.load_state({key: tensor.clone() for key, tensor in adapter.state().items()})
    assert torch.equal(other.model(ids), said)
    assert other.n_parameters == adapter.n_parameters == sum(w.numel() for w in adapter.weights.values())
    assert count_numbers(randomized(EVERY_MODEL[name]), read_adapter(rung)) == adapter.n_parameters

    again = copy.deepcopy(adapter)
    assert torch.equal(again.model(ids), said)
    shake(again, seed=6)
    assert not torch.equal(again.model(ids), said)
    assert torch.equal(model(ids), said)

    if rung != "full":
        assert model_fingerprint(model) == base
        adapter.remove()
        assert torch.equal(model(ids), before)
        assert all(weight.requires_grad for weight in model.parameters())
        assert not is_adapted(model)
    else:
        assert model_fingerprint(model) != base == adapter.base_hash


@pytest.mark.parametrize("rung", [*RUNGS, *VARIANTS])
@pytest.mark.parametrize("name", ["smallest", "bytes-entropy"])
def test_bf16_runs_and_what_trains_stays_fp32(name, rung):
    model = randomized(EVERY_MODEL[name])
    if rung != "full":
        model.to(torch.bfloat16)
    model.compute_dtype = torch.bfloat16
    adapter = attach(model, read_adapter(rung))
    ids = some_ids(model.config)
    model(ids).logsumexp(-1).sum().backward()
    assert all(weight.dtype == torch.float32 for weight in adapter.weights.values())
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in adapter.weights.values())
    if rung not in ("bias", "full"):
        shake(adapter)
        plain = adapter.merged()
        assert plain.compute_dtype == torch.bfloat16
        with torch.no_grad():
            scale = model(ids).abs().max()
            assert (plain(ids) - model(ids)).abs().mean() < 0.02 * scale


@pytest.mark.parametrize("name", ["universal", "one-output", "depth-lora", "one-mlp-lora", "bytes-shared"])
def test_a_map_of_several_depths_is_adapted_once(name):
    model = randomized(EVERY_MODEL[name])
    maps = {
        module
        for block_part in ("self_attn", "mlp")
        for name, part in model.named_modules()
        if name.endswith(block_part)
        for module in part.modules()
        if isinstance(module, Linear)
    }
    adapter = attach(model, LoraXsConfig(r=1))
    assert {module.base for module in adapter.modules.values()} == maps
    for module in model.modules():
        if isinstance(module, AdaptedLinear):
            assert isinstance(module.shared, AdapterModule)


def test_every_part_of_a_byte_model_is_adapted_but_the_patcher():
    config = EVERY_MODEL["bytes-entropy"]
    adapter = attach(build_model(config), TinyLoraConfig())
    parts = {name.partition(".")[0] for name in adapter.modules}
    assert parts == {"encoder", "trunk", "decoder"}
    assert len(adapter.modules) == 7 * (1 + 2 + 1)


def test_a_tied_head_stays_tied_and_the_embedding_as_it_was():
    model = randomized(MODELS["plain"])
    before = model.model.embed_tokens.weight.detach().clone()
    adapter = attach(model, TinyLoraConfig(u=2))
    shake(adapter)
    plain = adapter.merged()
    assert torch.equal(plain.model.embed_tokens.weight, before)
    assert not any(name.startswith("lm_head") for name, _ in plain.named_parameters())


def test_the_fingerprint_is_of_values_and_not_of_their_dtype():
    model = build_model(tiny(mlp=SwiGLUConfig(d_ff=64)))
    exact = model_fingerprint(model)
    rounded = copy.deepcopy(model).to(torch.bfloat16)
    assert model_fingerprint(rounded) == model_fingerprint(copy.deepcopy(rounded).float()) == exact
    with torch.no_grad():
        model.model.norm.weight[0] += 0.01
    assert model_fingerprint(model) != exact
    assert model_fingerprint(build_model(tiny_bytes(patcher=FixedConfig(longest=3)))) != exact


def test_a_second_adapter_is_refused():
    adapter = attach(build_model(MODELS["gqa"]), TinyLoraConfig())
    with pytest.raises(ConfigError, match="already carries"):
        attach(adapter.model, TinyLoraConfig())
    adapter.remove()
    attach(adapter.model, TinyLoraConfig())


def test_a_map_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"'q'.*q_proj, k_proj"):
        attach(build_model(MODELS["gqa"]), LoraXsConfig(maps=("v_proj", "q")))
