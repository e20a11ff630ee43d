"""Laws of the loop's parts: schedule, orthogonalisation, chunked loss, averages, preflight."""

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from model_zoo import MODELS
from smidgen.models import build_model
from smidgen.training.average import WeightAverage
from smidgen.training.config import MuonConfig, ScheduleConfig, TimeBudget
from smidgen.training.muon import orthogonalize
from smidgen.training.objectives import cross_entropy
from smidgen.training.optim import build_optimizer
from smidgen.training.schedule import BudgetClock, learning_rate_multiplier


@given(share=st.floats(0, 1), kind=st.sampled_from(["wsd", "cosine", "linear"]), floor=st.floats(0, 1))
def test_the_multiplier_stays_between_zero_and_one_and_ends_at_the_floor(share, kind, floor):
    schedule = ScheduleConfig(type=kind, warmup=0.1, decay=0.4, floor=floor)
    assert 0 <= learning_rate_multiplier(share, schedule) <= 1
    assert learning_rate_multiplier(1.0, schedule) == pytest.approx(floor, abs=1e-9)
    assert learning_rate_multiplier(0.1, schedule) == pytest.approx(1.0)


def test_the_warm_up_begins_where_compiling_ended():
    schedule = ScheduleConfig(warmup=0.1)
    rates = [learning_rate_multiplier(share, schedule, begun=0.2) for share in (0.2, 0.25, 0.3, 0.35)]
    assert rates == pytest.approx([0, 0.5, 1, 1])


def test_a_budget_of_processor_time_does_not_run_while_a_process_waits():
    clock = BudgetClock(TimeBudget(seconds=1e6, clock="processor"), step_tokens=1)
    before, wall = clock.seconds, time.monotonic()
    time.sleep(0.3)
    assert clock.seconds - before < 0.2
    while time.monotonic() - wall < 0.8:
        sum(range(10_000))
    assert clock.seconds > before


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 16, 40), (2, 40, 16)])
def test_orthogonalize_brings_every_singular_value_near_one(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrices, steps=8, dtype=torch.float32))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_a_batch_of_matrices_is_orthogonalised_as_each_alone():
    matrices = torch.randn(4, 8, 12, generator=torch.Generator().manual_seed(0))
    together = orthogonalize(matrices, 5, torch.float32)
    for index in range(4):
        alone = orthogonalize(matrices[index : index + 1], 5, torch.float32)[0]
        torch.testing.assert_close(together[index], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_chunked_cross_entropy_equals_the_plain_one_with_gradients(softcap, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    features, head = torch.randn(37, 8, generator=generator), torch.randn(50, 8, generator=generator)
    targets = torch.randint(0, 50, (37,), generator=generator)
    weights = torch.rand(37, generator=generator)
    results = []
    for chunk_bytes in (1 << 30, 50 * 4 * 10):
        monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", chunk_bytes)
        inputs = [features.clone().requires_grad_(), head.clone().requires_grad_()]
        loss = cross_entropy.cross_entropy_sums(*inputs, targets, weights, softcap).loss
        (3 * loss).backward()
        with torch.no_grad():
            value = cross_entropy.cross_entropy_sums(features, head, targets, weights, softcap).loss
        results.append((loss.detach(), inputs[0].grad, inputs[1].grad, value))
    for plain, chunked in zip(*results, strict=True):
        torch.testing.assert_close(plain, chunked)
    if softcap is None:
        expected = (F.cross_entropy(features @ head.T, targets, reduction="none") * weights).sum()
        torch.testing.assert_close(results[1][0], expected)


def test_every_weight_has_exactly_one_optimizer_and_shared_ones_move_once():
    model = build_model(MODELS["one-mlp"])
    optimizer = build_optimizer(model, MuonConfig(), torch.float32)
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    before = [weight.detach().clone() for weight in model.parameters()]
    optimizer.step(1.0)
    assert all((weight != old).any() for weight, old in zip(model.parameters(), before, strict=True))
    names = [name.split(".", 1)[1].removesuffix(".exp_avg") for name in optimizer.state_tensors()]
    moved = {name for name in names if not name.endswith((".step", ".exp_avg_sq"))}
    assert moved == {name for name, _ in model.named_parameters()}


def test_the_average_lags_and_swaps_back():
    model = build_model(MODELS["gqa"])
    average = WeightAverage(model, 0.9)
    first = model.model.norm.weight.detach().clone()
    with torch.no_grad():
        model.model.norm.weight += 1.0
    average.update(step=100)
    with average.in_place():
        torch.testing.assert_close(model.model.norm.weight.detach(), first + 0.1)
    torch.testing.assert_close(model.model.norm.weight.detach(), first + 1.0)
