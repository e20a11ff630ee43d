"""Where the loop meets the world: saving, logging, hooks and the wish to stop. All of it may be absent."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from smidgen.data.batch import Batch
from smidgen.errors import TrainingError
from smidgen.runtime import Runtime
from smidgen.training.parallel import as_written
from smidgen.training.progress import Hook, Progress
from smidgen.training.state import RunState

Saved = tuple[int, Mapping[str, Tensor], Mapping[str, Any]]
"""Step, tensors and meta of a saved state."""


@dataclass
class Outside:
    """What a run does besides moving weights."""

    save_state: Callable[[int, dict[str, Tensor], dict[str, Any]], object] | None = None
    """Write a resume state; called on rank 0 only."""
    load_state: Callable[[], Saved | None] | None = None
    """Return the newest intact resume state; called on every rank."""
    log: Callable[[dict[str, Any]], None] | None = None
    """Take one record of the metrics log; called on rank 0 only."""
    hooks: Sequence[Hook] = ()
    """What to do at shares of the budget; called on rank 0 only."""
    should_stop: Callable[[], bool] = lambda: False
    """Whether someone asked the run to stop (SIGINT, SIGTERM)."""
    flops_per_symbol: float = 0.0
    """Floating-point operations to train on one symbol, for MFU."""
    peak_flops: float = 0.0
    """Measured peak of this machine in the training dtype, over all ranks; 0: MFU is not shown."""
    on_record: Sequence[Callable[[dict[str, Any]], None]] = ()
    """What else sees every train record: the progress bar, TensorBoard."""
    checkpoint_seconds: float = math.inf
    """Longest time between saves."""
    checkpoint_steps: int | None = None
    """Steps between saves; None: by time alone."""
    is_first: bool = True
    """Whether this rank writes."""
    _saved_at: float = field(default_factory=time.monotonic)
    _saved: tuple[int, int, str] | None = None

    def resume(self, run: RunState) -> None:
        """Take over the newest saved state, if there is one."""
        saved = self.load_state() if self.load_state else None
        if saved is not None:
            run.restore(*saved)
            self.note(run.progress, f"resumed at step {run.progress.step}, {run.progress.share:.0%} of the budget used")

    def note(self, progress: Progress, text: str) -> None:
        """Say something once, in the log."""
        if self.log and self.is_first:
            self.log({"kind": "note", "step": progress.step, "text": text})

    def hooks_are_due(self, run: RunState, share_before: float) -> bool:
        """Whether a hook is due after this step."""
        return any(hook.is_due(share_before, run.progress.share) for hook in self.hooks)

    def work(self, run: RunState, share_before: float, looks: bool, saves: bool) -> None:
        """Run the hooks that are due, on the weights that would be shipped, and save if that is wanted.

        Whether there is anything to look at is rank 0's word, since only it has hooks; where weights are in parts, all
        must help it to see them.
        """
        due = [hook for hook in self.hooks if hook.is_due(share_before, run.progress.share)]
        if looks and (self.is_first or run.is_sharded):
            with run.average.in_place() if run.average else nullcontext(), as_written():
                run.gather()
                run.whole_model.eval()
                for hook in due if self.is_first else ():
                    hook.run(run.progress)
            run.model.train()
        if saves:
            self.save(run)

    def save_is_due(self, step: int) -> bool:
        """Whether it is time to save, by this rank's clock or by the count of steps."""
        late = time.monotonic() - self._saved_at >= self.checkpoint_seconds
        return late or (self.checkpoint_steps is not None and step % self.checkpoint_steps == 0)

    def save(self, run: RunState) -> None:
        """Write the resume state, unless this very one is already written."""
        progress = run.progress
        now = (progress.step, progress.data_step, progress.ended)
        if now != self._saved and (self.is_first or run.is_sharded):
            tensors = run.tensors(keep=self.is_first)
            if self.save_state and self.is_first:
                self.save_state(progress.step, tensors, run.meta())
            self._saved = now
        self._saved_at = time.monotonic()

    def roll_back(self, run: RunState) -> None:
        """Answer a spike: return to the last saved weights, and read on after the data that came before it.

        Raises TrainingError the second time, or when nothing was saved.
        """
        progress = run.progress
        at, data_step, seconds = progress.step, progress.data_step, progress.seconds
        saved = self.load_state() if self.load_state else None
        if saved is None or progress.rollbacks:
            why = "spiked again after a rollback" if progress.rollbacks else "spiked before anything was saved"
            raise TrainingError(
                f"the loss {why} (step {at}). Lower the learning rates (train.optimizer) and start anew."
            )
        run.restore(*saved)
        progress.data_step, progress.seconds = data_step, seconds
        progress.rollbacks += 1
        self.note(progress, f"loss spike at step {at}: back to step {progress.step}, reading on after the spike")


class _Pending(NamedTuple):
    record: dict[str, Any]
    means: Mapping[str, Tensor]
    norm: Tensor
    symbols: int
    supervised: float
    bytes_scored: int


class StepLog:
    """Turns the tensors of steps into records, without waiting for the device at every step."""

    FLUSH_SECONDS = 0.5

    def __init__(self, outside: Outside, runtime: Runtime, spent: Callable[[], float]) -> None:
        """Begin a log; `spent` returns the seconds that the budget has spent, by its own clock."""
        self._outside, self._spent = outside, spent
        self._world = runtime.world
        self._every_step = runtime.device.type == "cpu"
        self._pending: list[_Pending] = []
        self._took: tuple[float, ...] = ()
        self.restart()

    def restart(self) -> None:
        """Do not count the time since the last flush: it went into something else than steps."""
        self._flushed_at, self._spent_at = time.monotonic(), self._spent()

    @property
    def step_seconds(self) -> float:
        """Seconds of the budget that another step will take, 0 before the first.

        The shorter of the last two: that a machine slept for six minutes within one step says nothing about the next,
        and had ended a run after one minute of its four.
        """
        return min(self._took, default=0.0)

    def add(
        self, progress: Progress, micro: Sequence[Batch], means: Mapping[str, Tensor], norm: Tensor, multiplier: float
    ) -> list[tuple[int, float]]:
        """Take one step, with its means per supervised symbol of all ranks: loss, nll and metrics.

        Returns (step, loss) of all steps whose values are known by now.
        """
        record = {
            "kind": "train",
            "step": progress.step,
            "symbols": progress.symbols,
            "seconds": round(progress.seconds, 3),
            "share": round(progress.share, 6),
            "learning_rate": multiplier,
        }
        supervised = sum(float(batch.weights.sum()) for batch in micro)
        scored = sum(batch.bytes_scored for batch in micro)
        symbols = self._world * sum(batch.ids.numel() for batch in micro)
        self._pending.append(_Pending(record, means, norm, symbols, supervised, scored))
        due = self._every_step or time.monotonic() - self._flushed_at >= self.FLUSH_SECONDS
        return self.flush(progress) if due else []

    def flush(self, progress: Progress) -> list[tuple[int, float]]:
        """Wait for the device, write the records of all pending steps and return their (step, loss)."""
        if not self._pending:
            return []
        known = [(entry, _values(entry.means), float(entry.norm)) for entry in self._pending]
        seconds = max(1e-6, (time.monotonic() - self._flushed_at) / len(known))
        self._took = (*self._took[-1:], (self._spent() - self._spent_at) / len(known))
        self.restart()
        self._pending.clear()
        for entry, means, norm in known:
            self._write(progress, entry, means, norm, seconds)
        return [(entry.record["step"], means["loss"]) for entry, means, _ in known]

    def _write(self, progress: Progress, entry: _Pending, means: dict[str, float], norm: float, seconds: float) -> None:
        outside, speed = self._outside, entry.symbols / seconds
        loss, nll = means["loss"], means["nll"]
        bits = nll * entry.supervised / entry.bytes_scored / math.log(2) if entry.bytes_scored else None
        peak = outside.peak_flops
        record = entry.record | {
            **({"loss": loss} if means.keys() == {"loss", "nll"} and nll == loss else means),
            "bits_per_byte": bits,
            "gradient_norm": norm,
            "tokens_per_second": round(speed, 1),
            "mfu": round(speed * outside.flops_per_symbol / peak, 4) if peak else None,
        }
        progress.loss = loss
        if outside.log and outside.is_first:
            outside.log(record)
        for show in outside.on_record:
            show(record)


def _values(means: Mapping[str, Tensor]) -> dict[str, float]:
    """Wait for the device once."""
    return dict(zip(means, torch.stack(list(means.values())).tolist(), strict=True))
