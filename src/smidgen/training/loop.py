"""The one training loop. Pretraining, fine-tuning, distillation and reinforcement learning differ in what they pass in.

Three seams: an iterator of batches, an objective `(model, batch) -> LossSum`, and surgery done before. The loop
neither prefetches (RL would become off-policy) nor knows what a batch is made of.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from smidgen.data.batch import Batch
from smidgen.errors import SmidgenError, TrainingError
from smidgen.models import Model
from smidgen.models.dropout import set_dropout
from smidgen.models.stack import switch_loops
from smidgen.runtime import Runtime
from smidgen.training import parallel
from smidgen.training.config import TrainConfig
from smidgen.training.objectives import Objective
from smidgen.training.outside import Outside, StepLog
from smidgen.training.progress import Progress
from smidgen.training.schedule import BudgetClock, dropout_rate, learning_rate_multiplier
from smidgen.training.sharded import whole
from smidgen.training.state import RunState
from smidgen.training.watch import LossWatch

BatchesFrom = Callable[[int], Iterator[Sequence[Batch]]]
"""Given a step of data: the micro-batches of that step, then of every step after it, for this rank."""


def fit(
    model: Model,
    batches_from: BatchesFrom,
    objective: Objective,
    config: TrainConfig,
    runtime: Runtime,
    outside: Outside | None = None,
) -> Progress:
    """Train until the budget is used, resuming from the newest saved state if `outside` has one.

    The model ends with the weights to ship: its last, or their average when `config.ema_decay` is set.
    Raises TrainingError if the loss is not finite, spikes twice, or nothing is supervised.
    """
    outside = outside or Outside()
    model.compute_dtype = runtime.dtype
    loss_module = parallel.wrap(model, objective, config, runtime)
    run = RunState(loss_module.model, config, runtime.dtype, whole_model=model)
    outside.resume(run)
    progress = run.progress
    clock = BudgetClock(config.budget, config.batch_tokens, progress.seconds)
    seconds = clock.seconds_expected()
    compiled, reason = parallel.decide_compile(config.compile, seconds, runtime, run.is_sharded, loss_module.n_graphs)
    outside.note(progress, reason)
    loss_of = parallel.apply(loss_module, config, runtime, compiled)
    progress.compiled = compiled
    watch, log = LossWatch(config.spike_factor), StepLog(outside, runtime, lambda: clock.seconds)
    batches = batches_from(progress.data_step)
    run.model.train()
    ended = "budget"
    while not _decide(runtime, progress.ended == "budget" or clock.is_over(progress.step, log.step_seconds)):
        if _decide(runtime, outside.should_stop()):
            ended = "interrupted"
            break
        before = _agree(runtime, clock.share(progress.step))
        _switch_loops(run, config, before, watch, outside)
        with _kept(run, outside, watch, log, runtime):
            micro = _read(batches, progress, runtime)
        if clock.is_timed and progress.step < 1 + compiled:  # the warm-up begins when nothing is left to compile
            progress.begun = before
        multiplier = learning_rate_multiplier(clock.middle(before, progress.step), config.schedule, progress.begun)
        set_dropout(run.model, dropout_rate(before, config.dropout))
        means, norm = _step(run, loss_of, [batch.to(runtime.device) for batch in micro], config, multiplier)
        progress.advance(runtime.world * sum(batch.ids.numel() for batch in micro), clock.seconds)
        progress.share = _agree(runtime, clock.share(progress.step))
        watch.see(log.add(progress, micro, means, norm, multiplier))
        saves = _decide(runtime, outside.save_is_due(progress.step))
        looks = _decide(runtime, outside.hooks_are_due(run, before))
        if saves or looks:  # nothing is saved that was not seen
            watch.see(log.flush(progress))
        if _went_back(run, outside, watch, runtime):
            batches = batches_from(progress.data_step)
        elif saves or looks:
            outside.work(run, before, looks, saves and watch.is_calm)
            log.restart()
    watch.see(log.flush(progress))
    if not _went_back(run, outside, watch, runtime) and not watch.is_calm:
        outside.note(progress, f"the last step's loss, {progress.loss:.2f}, is far above the best; the model has it.")
    loss_module.release()
    _end(run, outside, ended)
    return progress


@contextmanager
def _kept(run: RunState, outside: Outside, watch: LossWatch, log: StepLog, runtime: Runtime) -> Iterator[None]:
    """Save what was learned if the data fails within (a broken reward, say), unless other ranks would wait for it."""
    try:
        yield
    except SmidgenError:
        if runtime.world == 1 and run.progress.step:
            watch.see(log.flush(run.progress))
            if watch.is_calm:
                outside.save(run)
        raise


def _read(batches: Iterator[Sequence[Batch]], progress: Progress, runtime: Runtime) -> Sequence[Batch]:
    """Return the micro-batches of the next step. Raises TrainingError if, all being here, none has a target."""
    micro = next(batches)
    if runtime.world == 1 and not any(bool(batch.weights.any()) for batch in micro):
        raise TrainingError(
            f"nothing is supervised in step {progress.step + 1}: every weight is 0. Check the data's chat mask; "
            "the last checkpoint is kept."
        )
    return micro


def _end(run: RunState, outside: Outside, ended: str) -> None:
    """Save how it ended, and leave the model with the weights to ship."""
    run.progress.ended = ended
    outside.save(run)
    if run.average is not None and ended == "budget":
        run.average.swap()
    run.gather()
    switch_loops(run.model, on=True)
    set_dropout(run.model, 0.0)
    run.whole_model.eval()


def _switch_loops(run: RunState, config: TrainConfig, share: float, watch: LossWatch, outside: Outside) -> None:
    """Let repeated blocks repeat from the share of the budget the run wants it, and not before."""
    on = config.loop_from is None or share >= config.loop_from
    if on != run.looped:
        switch_loops(run.model, on)
        run.looped = on
        outside.note(
            run.progress,
            "repeated blocks repeat from here on" if on else "repeated blocks run once until their loop begins",
        )
        watch.restart()  # deeper from one step to the next: the loss may jump


def _went_back(run: RunState, outside: Outside, watch: LossWatch, runtime: Runtime) -> bool:
    """Answer a spike by going back to the last saved state; saved at once: a resumed run must not meet it again."""
    if not _decide(runtime, watch.spiked):
        return False
    outside.roll_back(run)
    watch.forget()
    if runtime.world > 1:
        torch.distributed.barrier()  # until all have read the state, it must not be written
    outside.save(run)
    return True


def _step(
    run: RunState, loss_of: parallel.ParallelLoss, micro: Sequence[Batch], config: TrainConfig, multiplier: float
) -> tuple[dict[str, Tensor], Tensor]:
    """Move the weights once; return means per supervised symbol (loss, nll, metrics) and the gradient norm."""
    weight = loss_of.sum(torch.stack([batch.weights.sum() for batch in micro]).sum())
    run.optimizer.zero_grad()
    totals: dict[str, Tensor] = {}
    for index, batch in enumerate(micro):
        with loss_of.accumulate(last=index == len(micro) - 1):
            out = loss_of(batch)
            # DDP averages gradients over ranks; the sum is what one process would have.
            (out.loss * (loss_of.world * run.scaler.scale) / weight).backward()
        for name, value in {"loss": out.loss, "nll": out.nll, **out.metrics}.items():
            totals[name] = totals.get(name, 0.0) + value.detach()
    gradients = [p.grad for p in run.model.parameters() if p.grad is not None]
    finite = run.scaler.unscale(gradients)
    limit = config.clip_norm if config.clip_norm is not None else float("inf")
    norm = nn.utils.clip_grad_norm_(run.model.parameters(), limit)
    if finite:
        run.optimizer.step(multiplier)
        if run.average is not None:
            run.average.update(run.progress.step + 1)
    means = loss_of.sum(torch.stack(list(totals.values()))) / weight
    return dict(zip(totals, means, strict=True)), whole(norm)


def _agree(runtime: Runtime, share: float) -> float:
    """Return rank 0's share: clocks differ, learning rates must not."""
    return share if runtime.world == 1 else float(_from_first(runtime, share))


def _decide(runtime: Runtime, own: bool) -> bool:
    """Return rank 0's decision."""
    return own if runtime.world == 1 else bool(_from_first(runtime, float(own)))


def _from_first(runtime: Runtime, value: float) -> Tensor:
    shared = torch.tensor(value, dtype=torch.float64, device=runtime.device)
    torch.distributed.broadcast(shared, src=0)
    return shared.cpu()
