"""Laws of the one loop: sums not means, resume is exact, budgets are kept, trouble is answered."""

import math
import time
from dataclasses import replace

import pytest
import torch

from model_zoo import MODELS, VOCAB
from smidgen.data.batch import Batch
from smidgen.errors import TrainingError
from smidgen.models import build_model
from smidgen.runtime import Runtime
from smidgen.training import Hook, Outside, TrainConfig, fit
from smidgen.training.config import AdamWConfig, MuonConfig, ScheduleConfig, StepBudget, TimeBudget, TokenBudget
from smidgen.training.objectives.next_token import next_token
from smidgen.training.outside import StepLog

CPU = Runtime(torch.device("cpu"), torch.float32)


def batch_of(step, micro=0, rows=2, length=16):
    generator = torch.Generator().manual_seed(1000 * step + micro)
    ids = torch.randint(0, VOCAB, (rows, length + 1), generator=generator)
    weights = (torch.rand(rows, length, generator=generator) < 0.7).float()
    return Batch(ids[:, :-1], ids[:, 1:], weights, bytes_scored=int(weights.sum()) * 3)


def endless(rows=2, micros=1):
    def batches_from(step):
        while True:
            yield [batch_of(step, micro, rows) for micro in range(micros)]
            step += 1

    return batches_from


def config_for(steps, **changes):
    defaults = {"seq_len": 16, "batch_tokens": 32, "compile": "off", "precision": "fp32"}
    return TrainConfig(budget=StepBudget(steps=steps), **(defaults | changes))


def weights_of(model):
    return [weight.detach().clone() for weight in model.parameters()]


def assert_bitwise(one, two):
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_overfits_eight_rows(name):
    model = build_model(MODELS[name])
    same = batch_of(0, rows=8)

    def batches_from(step):
        while True:
            yield [same]

    optimizer = MuonConfig(embedding_learning_rate=0.03, scalar_learning_rate=0.03)
    done = fit(model, batches_from, next_token, config_for(80, optimizer=optimizer), CPU)
    assert done.ended == "budget"
    assert done.loss < 0.3


def test_accumulating_ragged_micro_batches_equals_one_big_batch():
    """Losses are sums divided once by the weight of the whole step (torchtitan's rule)."""
    micros = [batch_of(0, micro) for micro in range(4)]
    micros[1].weights[:] = 0
    whole = Batch(*(torch.cat([getattr(m, key) for m in micros]) for key in ("ids", "targets", "weights")))
    results = []
    for step_batches in (micros, [whole]):
        model = build_model(MODELS["gqa"])
        fit(model, lambda step, b=step_batches: iter([b] * 3), next_token, config_for(3), CPU)
        results.append(weights_of(model))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", [MuonConfig(), AdamWConfig()], ids=["muon", "adamw"])
@pytest.mark.parametrize("ema", [None, 0.9], ids=["last", "average"])
def test_resumed_equals_uninterrupted_bit_for_bit(optimizer, ema):
    config = config_for(9, optimizer=optimizer, ema_decay=ema)
    straight = build_model(MODELS["best"])
    fit(straight, endless(), next_token, config, CPU)

    saved = {}

    def keep(step, tensors, meta):
        saved["state"] = (step, {name: tensor.clone() for name, tensor in tensors.items()}, dict(meta))

    steps_seen = []
    stop_at_4 = Outside(save_state=keep, should_stop=lambda: len(steps_seen) >= 4, on_record=[steps_seen.append])
    interrupted = build_model(MODELS["best"])
    assert fit(interrupted, endless(), next_token, config, CPU, stop_at_4).ended == "interrupted"
    assert saved["state"][0] == 4

    resumed = build_model(MODELS["best"], seed=99)
    done = fit(resumed, endless(), next_token, config, CPU, Outside(load_state=lambda: saved["state"]))
    assert (done.step, done.ended) == (9, "budget")
    assert_bitwise(weights_of(straight), weights_of(resumed))


@pytest.mark.parametrize("steps", [1, 2])
def test_every_step_of_a_budget_in_steps_learns(steps):
    rates = []
    outside = Outside(on_record=[lambda record: rates.append(record["learning_rate"])])
    fit(build_model(MODELS["gqa"]), endless(), next_token, config_for(steps), CPU, outside)
    assert len(rates) == steps
    assert min(rates) > 0


def test_a_token_budget_is_whole_steps():
    config = TrainConfig(budget=TokenBudget(tokens=100), seq_len=16, batch_tokens=32, compile="off", precision="fp32")
    assert fit(build_model(MODELS["gqa"]), endless(), next_token, config, CPU).step == 4


def test_a_time_budget_ends_on_time_and_decayed():
    rates = []
    config = TrainConfig(budget=TimeBudget(seconds=2.0), seq_len=16, batch_tokens=32, compile="off", precision="fp32")
    outside = Outside(on_record=[lambda record: rates.append(record["learning_rate"])])
    done = fit(build_model(MODELS["gqa"]), endless(), next_token, config, CPU, outside)
    assert 1.9 < done.seconds < 2.2
    assert rates[-1] < 0.1 * max(rates)


def test_hooks_run_evenly_and_at_the_end():
    seen = []
    outside = Outside(hooks=[Hook(4, lambda progress: seen.append(progress.step))])
    fit(build_model(MODELS["gqa"]), endless(), next_token, config_for(10), CPU, outside)
    assert seen == [3, 5, 8, 10]


def test_records_tell_bits_per_byte_and_mfu():
    records = []
    outside = Outside(log=records.append, flops_per_symbol=10.0, peak_flops=1e9)
    fit(build_model(MODELS["gqa"]), endless(), next_token, config_for(2), CPU, outside)
    train = [record for record in records if record["kind"] == "train"]
    assert [record["step"] for record in train] == [1, 2]
    first = train[0]
    assert first["bits_per_byte"] == pytest.approx(first["loss"] / 3 / math.log(2))
    assert first["mfu"] == pytest.approx(first["tokens_per_second"] * 10.0 / 1e9, abs=1e-4)


def test_a_loss_that_is_not_finite_stops_with_one_line_and_saves_nothing_bad():
    saved = []
    outside = Outside(save_state=lambda *state: saved.append(state[0]), checkpoint_steps=1)

    def poisoned(model, batch, sums):
        out = next_token(model, batch)
        return type(out)(out.loss * (float("nan") if len(saved) == 2 else 1.0))

    with pytest.raises(TrainingError, match=r"became nan at step 3.*last checkpoint is kept"):
        fit(build_model(MODELS["gqa"]), endless(), poisoned, config_for(9), CPU, outside)
    assert saved == [1, 2]


def test_a_spike_is_rolled_back_once_and_read_past():
    states, notes, spikes = [], [], iter([False] * 60 + [True] * 3 + [False] * 500)

    def spiking(model, batch, sums):
        out = next_token(model, batch)
        return type(out)(out.loss * (20.0 if next(spikes) else 1.0))

    def keep(step, tensors, meta):
        states.append((step, {name: tensor.clone() for name, tensor in tensors.items()}, dict(meta)))

    outside = Outside(
        save_state=keep,
        load_state=lambda: states[-1] if states else None,
        log=lambda record: notes.append(record) if record["kind"] == "note" else None,
        checkpoint_steps=20,
    )
    done = fit(build_model(MODELS["gqa"]), endless(), spiking, config_for(120), CPU, outside)
    assert done.rollbacks == 1
    assert done.data_step > done.step
    assert any("loss spike" in note["text"] for note in notes)


def spiking_from(step, factor=20.0):
    """Return an objective whose loss is `factor` times as high from its call number `step` on."""
    calls = iter(range(1, 10**6))

    def spiking(model, batch, sums):
        out = next_token(model, batch)
        return replace(out, loss=out.loss * (factor if next(calls) >= step else 1.0))

    return spiking


def kept_states(every):
    states, notes = [], []

    def keep(step, tensors, meta):
        states.append((step, {name: tensor.clone() for name, tensor in tensors.items()}, dict(meta)))

    def note(record):
        if record["kind"] == "note":
            notes.append(record["text"])

    outside = Outside(
        save_state=keep, load_state=lambda: states[-1] if states else None, log=note, checkpoint_steps=every
    )
    return states, notes, outside


def test_a_spike_seen_only_at_the_end_is_not_shipped(monkeypatch):
    """On a GPU the last losses are known when the last step is done."""
    real = StepLog.add

    def add(log, *step):
        log._every_step, log.FLUSH_SECONDS = False, math.inf
        return real(log, *step)

    monkeypatch.setattr(StepLog, "add", add)
    states, notes, outside = kept_states(every=20)
    done = fit(build_model(MODELS["gqa"]), endless(), spiking_from(54), config_for(59), CPU, outside)
    assert (done.ended, done.step, done.rollbacks) == ("budget", 40, 1)
    assert any("back to step 40" in note for note in notes)
    assert_bitwise(weights_of(done.model), [states[-2][1][f"model.{n}"] for n, _ in done.model.named_parameters()])


def test_a_last_step_that_alone_is_far_too_high_is_told():
    _, notes, outside = kept_states(every=20)
    done = fit(build_model(MODELS["gqa"]), endless(), spiking_from(45), config_for(45), CPU, outside)
    assert (done.step, done.rollbacks) == (45, 0)
    assert any("far above the best" in note for note in notes)


def test_what_a_spike_has_touched_is_not_saved_and_a_rollback_is():
    """Killed right after a rollback, a run must not meet the same data, nor count from zero."""
    states, _, outside = kept_states(every=1)
    outside.should_stop = lambda: bool(states) and states[-1][2]["rollbacks"] == 1
    config = config_for(60)
    assert fit(build_model(MODELS["gqa"]), endless(), spiking_from(30, 3.0), config, CPU, outside).rollbacks == 1
    step, _, meta = states[-1]
    assert (step, meta["rollbacks"]) == (29, 1)
    assert meta["data_step"] > 30
    resumed = fit(
        build_model(MODELS["gqa"]), endless(), next_token, config, CPU, Outside(load_state=lambda: states[-1])
    )
    assert (resumed.rollbacks, resumed.step) == (1, 60)


@pytest.mark.parametrize(("clock", "seconds"), [("wall", 1.5), ("processor", 0.4)])
def test_one_step_in_which_the_machine_slept_does_not_end_a_run(clock, seconds):
    """The next would take as long, it was thought: 1.1 seconds, and neither budget has room for that."""

    def sleeping(step):
        for number, micro in enumerate(endless()(step), start=step):
            if number == 2:
                time.sleep(1.1)
            yield micro

    budget = TimeBudget(seconds=seconds, clock=clock)
    config = TrainConfig(budget=budget, seq_len=16, batch_tokens=32, compile="off", precision="fp32")
    done = fit(build_model(MODELS["gqa"]), sleeping, next_token, config, CPU)
    assert done.step > 3
    assert done.seconds > 0.8 * seconds


def test_a_run_that_is_over_makes_no_further_step_when_resumed():
    states, _, outside = kept_states(every=None)
    config = TrainConfig(budget=TimeBudget(seconds=0.5), seq_len=16, batch_tokens=32, compile="off", precision="fp32")
    done = fit(build_model(MODELS["gqa"]), endless(), next_token, config, CPU, outside)
    step, tensors, meta = states[-1]
    again = Outside(load_state=lambda: (step, tensors, meta | {"seconds": 0.49}))
    assert fit(build_model(MODELS["gqa"]), endless(), next_token, config, CPU, again).step == done.step


def test_everything_frozen_is_refused():
    with pytest.raises(TrainingError, match="every weight is frozen"):
        fit(build_model(MODELS["gqa"]).requires_grad_(False), endless(), next_token, config_for(2), CPU)


def test_fp16_scales_its_loss_and_trains():
    half = Runtime(torch.device("cpu"), torch.float16)
    config = config_for(10, precision="fp16", schedule=ScheduleConfig(warmup=0.0, decay=0.5))
    done = fit(build_model(MODELS["gqa"]), endless(), next_token, config, half)
    assert math.isfinite(done.loss)
