"""Run under torchrun: train jobs one after the other, each on this rank's share of the rows; rank 0 writes the weights.

Half-way rank 0 looks at the model, as evaluation does, and the state is saved; a job that resumes goes on from that.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from model_zoo import EVERY_MODEL
from smidgen.data.batch import Batch
from smidgen.models import build_model
from smidgen.runtime import Runtime, close_runtime, open_runtime
from smidgen.training import Hook, Outside, TrainConfig, fit
from smidgen.training.config import StepBudget
from smidgen.training.objectives.next_token import next_token
from test_training_loop import batch_of

JOBS = {
    "ddp": {"model": "best"},
    "ddp-loop": {"model": "smallest", "loop_from": 0.5},
    "ddp-heads": {"model": "bytes-thinking"},
    "fsdp": {"model": "smallest", "parallel": "fsdp"},
    "fsdp-resumed": {"model": "smallest", "parallel": "fsdp", "resumes": "fsdp"},
    "fsdp-adamw-loop": {"model": "depth-lora", "parallel": "fsdp", "loop_from": 0.5, "optimizer": {"type": "adamw"}},
    "fsdp-bytes": {"model": "bytes-shared", "parallel": "fsdp", "loop_from": 0.5},
    "fsdp-entropy": {"model": "bytes-entropy", "parallel": "fsdp"},
    "fsdp-shared-mlp": {"model": "one-mlp-lora", "parallel": "fsdp"},
}
"""What every number of processes must make the same of: a model, changes to the run, and whose state it resumes."""


def share_of(batch: Batch, rank: int, world: int) -> Batch:
    rows = slice(rank, None, world)
    return Batch(batch.ids[rows], batch.targets[rows], batch.weights[rows])


def train(directory: Path, name: str, runtime: Runtime) -> None:
    """Do one job and write what came of it."""

    def batches_from(step):
        while True:
            yield [share_of(batch_of(step, micro, rows=4), runtime.rank, runtime.world) for micro in range(2)]
            step += 1

    changes = dict(JOBS[name])
    model, resumes = build_model(EVERY_MODEL[changes.pop("model")]).double(), changes.pop("resumes", None)
    fixed = {"seq_len": 16, "batch_tokens": 128, "compile": "off", "precision": "fp32", "ema_decay": 0.9}
    config = TrainConfig.model_validate(fixed | {"budget": StepBudget(steps=6)} | changes)
    losses, seen = [], []

    def save_state(step, tensors, meta):
        if step == 3:
            save_file(tensors, directory / f"{name}.state")
            (directory / f"{name}.json").write_text(json.dumps(meta))

    def load_state():
        if resumes is None:
            return None
        return 3, load_file(directory / f"{resumes}.state"), json.loads((directory / f"{resumes}.json").read_text())

    def look(progress):
        seen.append(progress.model(batch_of(0).ids).sum().item())

    outside = Outside(
        on_record=[lambda record: losses.append(record["loss"])],
        is_first=runtime.is_first,
        save_state=save_state,
        load_state=load_state,
        checkpoint_steps=3,
        hooks=[Hook(2, look)] if runtime.is_first else [],  # as in a run: what looks and writes is on rank 0 alone
    )
    fit(model, batches_from, next_token, config, runtime, outside)
    if runtime.is_first:
        weights = {name: weight.detach() for name, weight in model.named_parameters()}
        told = {"losses": torch.tensor(losses), "seen": torch.tensor(seen)}
        save_file(weights | told, directory / f"{name}.safetensors")


def main(directory: str) -> None:
    torch.set_num_threads(1)
    # In fp64: AdamW makes 1e-5 of the rounding of a gradient near zero, and only a real difference should show.
    runtime = replace(open_runtime("fp32", device="cpu"), dtype=torch.float64)
    for name in JOBS:
        train(Path(directory), name, runtime)
    close_runtime()


if __name__ == "__main__":
    main(sys.argv[1])
