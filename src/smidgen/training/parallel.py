"""How one step is computed: compiled or not, on one process or many. Applied between surgery and optimizer.

The unit that is compiled and wrapped is the objective with its model, so that DDP sees one forward per micro-batch
whatever the objective calls on the model. FSDP2 is in `sharded`; tensor parallelism will enter here, and nowhere else.
"""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from smidgen.data.batch import Batch
from smidgen.data.branches import Branches
from smidgen.models import Model
from smidgen.models.heads import HeadsConfig
from smidgen.models.stack import Block, Stack, recompute
from smidgen.runtime import Runtime
from smidgen.training.config import TrainConfig
from smidgen.training.objectives import LossSum, Objective
from smidgen.training.objectives.cross_entropy import CrossEntropy, cross_entropy_sums
from smidgen.training.sharded import copy_for_sharding, shard


class LossModule(nn.Module):
    """The objective as a module: tensors in, summed loss out."""

    def __init__(self, model: Model, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._objective = objective
        self._sums: CrossEntropy = cross_entropy_sums

    def compile_parts(self) -> None:
        """Compile the blocks in place, and the cross-entropy that objectives are given, for the shapes of training.

        Not the whole step: one graph serves every depth, so a step is as fast (5,514 symbols/s at 10M, 5,410 whole) for
        less than half of the compiling (38 s, 93 s whole; LOG.md, 2026-11-22), and what surrounds blocks may vary. The
        few lengths that a trunk of patches meets are compiled each by itself.
        """
        for block in self._blocks():
            block.compile(dynamic=False)
        self._sums = torch.compile(cross_entropy_sums, dynamic=False)

    def release(self) -> None:
        """Let all be as it was written."""
        for block in self._blocks():
            block._compiled_call_impl = None
        self._sums = cross_entropy_sums
        recompute(self.model, 0.0)

    def _blocks(self) -> list[Block]:
        return [block for stack in self._stacks() for block in stack.layers if isinstance(block, Block)]

    def _stacks(self) -> list[Stack]:
        return [module for module in self.model.modules() if isinstance(module, Stack) and module.n_lengths]

    @property
    def n_graphs(self) -> int:
        """Graphs that compiling makes of its blocks: one for each shape of a block and each length it meets."""
        shapes: dict[str, int] = {}
        for stack in self._stacks():
            shape = stack.config.model_dump_json(include={"d_model", "attention", "mlp", "depth_lora_rank"})
            shapes[shape] = max(shapes.get(shape, 0), stack.n_lengths)
        return sum(shapes.values())

    def forward(
        self,
        ids: Tensor,
        targets: Tensor,
        weights: Tensor,
        extra: dict[str, Tensor],
        branches: Branches | None = None,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the summed loss, its next-symbol part and the sums to log."""
        out = self._objective(self.model, Batch(ids, targets, weights, extra=extra, branches=branches), self._sums)
        return out.loss, (out.loss if out.nll is None else out.nll).detach(), dict(out.metrics)


@dataclass(frozen=True)
class ParallelLoss:
    """The loss of a micro-batch on this rank, and the means to sum over ranks."""

    module: nn.Module
    world: int

    def __call__(self, batch: Batch) -> LossSum:
        """Return the summed loss of one micro-batch of this rank."""
        loss, nll, metrics = self.module(batch.ids, batch.targets, batch.weights, dict(batch.extra), batch.branches)
        return LossSum(loss, nll, metrics)

    def accumulate(self, last: bool) -> AbstractContextManager[None]:
        """Within this context gradients stay on the rank, except for the last micro-batch of a step."""
        if isinstance(self.module, DistributedDataParallel) and not last:
            return self.module.no_sync()
        return nullcontext()

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over all ranks."""
        if self.world > 1:
            dist.all_reduce(value)
        return value


def wrap(model: Model, objective: Objective, config: TrainConfig, runtime: Runtime) -> LossModule:
    """Join objective and model; with FSDP2 and company, a sharded copy of the model: what the optimizer is to move."""
    if runtime.world == 1 or config.parallel != "fsdp":
        return LossModule(model, objective)
    loss = LossModule(copy_for_sharding(model, runtime), objective)
    shard(loss, runtime)
    return loss


def apply(loss: LossModule, config: TrainConfig, runtime: Runtime, compiled: bool) -> ParallelLoss:
    """Make the loss what this runtime runs: recompute and compile its parts, then DDP where it is not sharded."""
    recompute(loss.model, config.recompute)
    if compiled:
        loss.compile_parts()
    module: nn.Module = loss
    if runtime.world > 1 and config.parallel == "ddp":
        device_ids = [runtime.device.index] if runtime.device.type == "cuda" else None
        # What a depth that waits has, or a head the objective does not ask, gets no gradient: DDP must look for it.
        partly = config.loop_from is not None or loss.model.config.heads != HeadsConfig()
        module = DistributedDataParallel(module, device_ids=device_ids, find_unused_parameters=partly)
    return ParallelLoss(module, runtime.world)


def as_written() -> AbstractContextManager[object]:
    """Within this context compiled blocks run as they are written: a shape met once does not repay a compilation."""
    return cast(AbstractContextManager[object], torch.compiler.set_stance("force_eager"))


COMPILE_REPAYS_SECONDS = 120.0
"""Compiling one graph takes 35 s and gives 30-48% (LOG.md, 2026-11-22): not worth it in shorter runs."""


def decide_compile(
    choice: str, seconds_expected: float, runtime: Runtime, sharded: bool = False, n_graphs: int = 1
) -> tuple[bool, str]:
    """Decide whether to compile, with the reason in words a person can use."""
    if sharded:
        return False, "torch.compile off: the weights are sharded and come and go within a step"
    if choice != "auto":
        return choice == "on", f"torch.compile {choice}, as configured"
    if runtime.device.type not in ("cpu", "cuda"):
        return False, f"torch.compile off: not for {runtime.device.type}"
    if seconds_expected < COMPILE_REPAYS_SECONDS * n_graphs:
        return False, f"torch.compile off: a run of {seconds_expected:.0f} s does not repay the compilation"
    failure = probe_compile(runtime.device)
    if failure is not None:
        return False, f"torch.compile off: {failure}"
    return True, "torch.compile on: the probe compiled"


def probe_compile(device: torch.device) -> str | None:
    """Compile something tiny with a gradient; return why it failed, or None."""
    if device.type == "cpu" and not (shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")):
        return "no C++ compiler (g++) on this machine"
    probe: Callable[[Tensor], Tensor] = torch.compile(lambda x: (x * 2).relu().sum(), dynamic=False)
    try:
        probe(torch.ones(64, device=device, requires_grad=True)).backward()
    except Exception as error:  # anything a compiler toolchain may do wrong means: train without it
        return f"the probe failed ({type(error).__name__}: {str(error).splitlines()[0][:120]})"
    return None
