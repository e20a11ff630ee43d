"""The machine is measured once, remembered, and corrected by what runs really reach."""

import json
import math
import time
from dataclasses import astuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smidgen.planning import measure
from smidgen.planning.machine import MachineFacts, StepCosts, optimizer_flops, seconds_per_step, work_per_symbol
from smidgen.planning.presets import shape_for
from smidgen.runtime import Runtime

RUNTIME = Runtime(torch.device("cpu"), torch.float32)
FACTS = MachineFacts("test", "cpu", "fp32", 1, 2**34, 1e12, 1e10, StepCosts(2e-12, 4e-12, 1e-10, 1e-3), True)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SMIDGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def counted(monkeypatch):
    calls = []
    monkeypatch.setattr(measure, "_measure", lambda runtime: calls.append(runtime) or FACTS)
    return calls


def test_a_machine_is_measured_once(cache, counted):
    first, second = (measure.measure_machine(RUNTIME) for _ in range(2))
    assert len(counted) == 1
    assert first.costs == second.costs == FACTS.costs
    assert [p.suffix for p in cache.iterdir()] == [".json"]
    measure.measure_machine(RUNTIME, refresh=True)
    assert len(counted) == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"name": "x"}', "\x00\x01"])
def test_a_damaged_memory_is_measured_again(cache, counted, damage):
    measure.measure_machine(RUNTIME)
    next(cache.iterdir()).write_text(damage)
    assert measure.measure_machine(RUNTIME).costs == FACTS.costs
    assert len(counted) == 2


def test_what_a_busy_machine_shows_is_said_and_not_remembered(cache, monkeypatch):
    speeds = iter([2e12, 1e12])
    monkeypatch.setattr(measure, "_matmul_flops", lambda runtime, until: next(speeds))
    monkeypatch.setattr(measure, "_bandwidth", lambda runtime, until: 1e10)
    monkeypatch.setattr(measure, "_step_costs", lambda runtime, peak, until: FACTS.costs)
    facts = measure.measure_machine(RUNTIME)
    assert "busy" in facts.note
    assert facts.matmul_flops == 2e12
    assert not cache.exists()


def test_another_dtype_is_another_machine(cache, counted):
    measure.measure_machine(RUNTIME)
    measure.measure_machine(Runtime(torch.device("cpu"), torch.bfloat16))
    assert len(counted) == 2


def test_a_cache_that_cannot_be_written_is_said_not_fatal(tmp_path, monkeypatch, counted):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SMIDGEN_CACHE", str(tmp_path / "file" / "cache"))
    assert "could not be kept" in measure.measure_machine(RUNTIME).note


def test_real_runs_correct_the_prediction(cache, counted):
    facts = measure.measure_machine(RUNTIME)
    config = shape_for(1_000_000, 1024)
    predicted = 4096 / seconds_per_step(config, facts, 4096, 256, 16, compiled=False)
    for _ in range(12):
        facts = measure.remember_run(RUNTIME, facts, predicted * facts.correction, 2 * predicted)
    corrected = measure.measure_machine(RUNTIME)
    assert 4096 / seconds_per_step(config, corrected, 4096, 256, 16, False) == pytest.approx(2 * predicted, rel=0.01)
    assert json.loads(next(cache.iterdir()).read_text())["correction"] == pytest.approx(2, rel=0.01)


def test_compiling_is_remembered_half_believed(cache, counted):
    facts = measure.measure_machine(RUNTIME)
    assert facts.compile_seconds == 45
    measure.remember_run(RUNTIME, facts, 1000.0, 1000.0, compile_seconds=20.0)
    assert measure.measure_machine(RUNTIME).compile_seconds == pytest.approx(30)
    measure.remember_run(RUNTIME, measure.measure_machine(RUNTIME), 1000.0, 1000.0)
    assert measure.measure_machine(RUNTIME).compile_seconds == pytest.approx(30)


def test_what_an_older_version_remembered_is_still_read(cache, counted):
    measure.measure_machine(RUNTIME)
    [path] = cache.iterdir()
    stored = json.loads(path.read_text())
    del stored["compile_seconds"]
    path.write_text(json.dumps(stored))
    assert measure.measure_machine(RUNTIME).compile_seconds == 45
    assert len(counted) == 1


def test_prices_are_recovered_from_a_machine_that_has_them(monkeypatch):
    prices = FACTS.costs

    def made_up(config, context, rows, runtime, until):
        flops, attention, values = work_per_symbol(config, context)
        symbol = flops * prices.per_flop + attention * prices.per_attention_flop + values * prices.per_value
        # Sixteen symbols show what launching costs; their own share stands apart in no measurement.
        return len(config.stack.layers) * prices.per_block + (rows * context * symbol if context > 16 else 0)

    monkeypatch.setattr(measure, "_training_seconds", made_up)
    found = measure._step_costs(RUNTIME, 1e12, 0.0)
    assert astuple(found) == pytest.approx(astuple(prices), rel=1e-6)


@given(st.lists(st.floats(0.2, 5), min_size=4, max_size=4))
def test_no_noise_makes_products_cheaper_than_the_machines_peak(noise):
    causes = [[5e10, 1e9, 3e7], [4e10, 5e9, 6e7], [1e10, 2e10, 4e7], [2e10, 3e8, 5e7]]
    prices = (2e-12, 4e-12, 1e-10)
    effects = [n * sum(c * p for c, p in zip(row, prices, strict=True)) for n, row in zip(noise, causes, strict=True)]
    found = measure._prices(causes, effects, least=1e-12)
    assert found[0] >= 1e-12
    assert min(found) >= 0


def test_measuring_comes_to_an_end_on_a_machine_that_answers_slowly():
    calls = []
    seconds = measure._seconds(lambda: calls.append(time.sleep(0.01)), RUNTIME.device, until=0.0)
    assert len(calls) == 2
    assert 0.01 <= seconds < 5


def test_a_training_step_takes_time(monkeypatch):
    monkeypatch.setattr(measure, "_MEASURE_SECONDS", 0.0)
    assert 0 < measure._training_seconds(measure._shape(64, 1, 64, 64), 16, 1, RUNTIME, math.inf) < 60
    assert measure.free_memory(RUNTIME.device) > 0


def test_larger_batches_take_longer_and_compiling_helps():
    config = shape_for(10_000_000, 4096)
    small, large = (seconds_per_step(config, FACTS, batch, 512, 16, False) for batch in (8192, 16_384))
    assert small < large < 2 * small  # the optimizer is paid once
    assert seconds_per_step(config, FACTS, 8192, 512, 16, True) < small


def test_optimizer_flops_of_one_square_matrix():
    config = shape_for(10_000_000, 4096)
    assert optimizer_flops(config) > 0
    assert optimizer_flops(config, steps=10) == 2 * optimizer_flops(config)
