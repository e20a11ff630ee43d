"""Frozen maps that are held once: what is computed, what learns, what is given back."""

import pytest
import torch

from model_zoo import EVERY_MODEL, randomized, some_ids
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.inference.maps import Int8Linear, can_pack
from smidgen.inference.once import OnceLinear, frozen_weights, held_once
from smidgen.models.layers import Linear
from smidgen.models.stack import recompute
from smidgen.surgery import attach, model_fingerprint, read_adapter
from smidgen.training.state import fingerprint_frozen

NAMES = ["gqa", "smallest", "depth-lora", "bytes-shared", "bytes-entropy"]
RUNGS = ["lora:r=2", "tinylora:u=2,groups=4", "lora_xs:r=3", "ia3", "bias"]

pytestmark = pytest.mark.skipif(
    not can_pack(torch.device("cpu"), torch.float32), reason="this build of torch packs no weights"
)


def adapted(name, rung):
    model = randomized(EVERY_MODEL[name])
    adapter = attach(model, read_adapter(rung))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in adapter.weights.values():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return model, adapter


def gradients(model, adapter, ids):
    for weight in adapter.weights.values():
        weight.grad = None
    logits = model(ids)
    logits.logsumexp(-1).sum().backward()
    return logits.detach(), {name: weight.grad.clone() for name, weight in adapter.weights.items()}


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("name", NAMES)
def test_it_computes_learns_and_answers_as_before(name, rung):
    model, adapter = adapted(name, rung)
    ids = some_ids(model.config)
    logits, grads = gradients(model, adapter, ids)
    names = list(model.state_dict())
    with held_once(model, torch.float32):
        is_held = any(isinstance(module, OnceLinear) for module in model.modules())
        assert is_held == (name != "depth-lora")  # every map of that one is merged with what its depth adds
        once, own = gradients(model, adapter, ids)
        torch.testing.assert_close(once, logits, rtol=1e-4, atol=1e-5)
        for weight, grad in grads.items():
            torch.testing.assert_close(own[weight], grad, rtol=1e-3, atol=1e-4)
        prepared = prepare_for_decoding(model)
        engine = Engine(prepared, None, max_rows=2)
        answered = engine.generate([ids[0, :9].tolist()], SamplingParams(temperature=0.0, max_symbols=6))
    again, _ = gradients(model, adapter, ids)
    torch.testing.assert_close(again, logits, rtol=0, atol=0)
    assert list(model.state_dict()) == names
    plain = Engine(prepare_for_decoding(model), None, max_rows=2)
    wanted = plain.generate([ids[0, :9].tolist()], SamplingParams(temperature=0.0, max_symbols=6))
    assert answered[0].symbols == wanted[0].symbols


@pytest.mark.parametrize("name", NAMES)
def test_what_is_frozen_has_its_names_bits_and_hash_while_it_is_packed(name):
    model, _ = adapted(name, "lora:r=2")
    frozen = {n: w.clone() for n, w in model.named_parameters() if not w.requires_grad}
    told, base = fingerprint_frozen(model), model_fingerprint(model)
    with held_once(model, torch.float32):
        assert fingerprint_frozen(model) == told
        found = dict(frozen_weights(model))
        assert list(found) == list(frozen)
        assert all(torch.equal(found[n], weight) for n, weight in frozen.items())
    assert model_fingerprint(model) == base
    assert all(torch.equal(dict(model.named_parameters())[n], weight) for n, weight in frozen.items())


def test_what_trains_or_is_of_another_dtype_is_left_alone():
    model = randomized(EVERY_MODEL["gqa"])
    with held_once(model, torch.float32):
        assert not any(isinstance(module, OnceLinear) for module in model.modules())
    attach(model, read_adapter("ia3"))
    with held_once(model, torch.bfloat16):  # rounded, they could not be given back
        assert not any(isinstance(module, OnceLinear) for module in model.modules())


def test_weights_come_back_whatever_happens():
    model, _ = adapted("gqa", "ia3")
    before = model_fingerprint(model)
    with pytest.raises(KeyboardInterrupt), held_once(model, torch.float32):
        raise KeyboardInterrupt
    assert model_fingerprint(model) == before
    assert all(weight.numel() for weight in model.parameters())
    assert any(type(module) is Linear for module in model.modules())


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_computing_again_changes_no_gradient(name, share):
    model, adapter = adapted(name, "tinylora:u=2,groups=4")
    model.train()
    ids = some_ids(model.config)
    logits, grads = gradients(model, adapter, ids)
    recompute(model, share)
    again, own = gradients(model, adapter, ids)
    torch.testing.assert_close(again, logits, rtol=0, atol=0)
    for weight, grad in grads.items():
        torch.testing.assert_close(own[weight], grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("name", NAMES)
def test_in_eight_bits_it_computes_learns_and_answers_nearly_as_before(name, rung):
    model, adapter = adapted(name, rung)
    ids = some_ids(model.config)
    with torch.no_grad():
        logits = model(ids)
    with held_once(model, torch.float32, bits=8):
        rounded, grads = gradients(model, adapter, ids)
        apart = (rounded - logits).std() / logits.std()
        assert apart < 0.02 if name == "depth-lora" else 0 < apart < 0.1
        assert all(grad.isfinite().all() for grad in grads.values())
        prepared = prepare_for_decoding(model)
        with torch.no_grad():
            torch.testing.assert_close(prepared(ids), rounded, rtol=1e-3, atol=1e-4)
    again, own = gradients(model, adapter, ids)  # what is given back is what was computed with
    torch.testing.assert_close(again, rounded, rtol=1e-4, atol=1e-4)
    for weight, grad in grads.items():
        torch.testing.assert_close(own[weight], grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 16, 17], ids=["one row", "few", "many"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_in_eight_bits_is_off_by_half_a_step_at_most(dtype, rows):
    draw = torch.Generator().manual_seed(0)
    weight, x = torch.randn(33, 64, generator=draw).to(dtype), torch.randn(rows, 64, generator=draw).to(dtype)
    weight[5] = 0
    product = Int8Linear(weight)
    step = product.scales.float()[:, None]
    assert ((product.dense().float() - weight.float()).abs() <= 0.51 * step + 0.004 * weight.float().abs()).all()
    loose = {"rtol": 0.02, "atol": 0.1} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(product(x), x @ product.dense().T, **loose)
    assert product.codes.dtype == torch.int8
