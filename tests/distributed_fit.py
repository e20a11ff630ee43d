"""Run under torchrun: train the same steps on this rank's share of the rows and write the weights of rank 0.

Half-way rank 0 looks at the model, as evaluation does, and the state is saved; `resume` goes on from that file.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from model_zoo import MODELS
from smidgen.data.batch import Batch
from smidgen.models import build_model
from smidgen.runtime import close_runtime, open_runtime
from smidgen.training import Hook, Outside, TrainConfig, fit
from smidgen.training.config import StepBudget
from smidgen.training.objectives.next_token import next_token
from test_training_loop import batch_of


def share_of(batch: Batch, rank: int, world: int) -> Batch:
    rows = slice(rank, None, world)
    return Batch(batch.ids[rows], batch.targets[rows], batch.weights[rows])


def main(path: str, model_name: str, changes: str, start: str) -> None:
    torch.set_num_threads(1)
    runtime = open_runtime("fp32", device="cpu")

    def batches_from(step):
        while True:
            yield [share_of(batch_of(step, micro, rows=4), runtime.rank, runtime.world) for micro in range(2)]
            step += 1

    config = TrainConfig.model_validate(
        {"seq_len": 16, "batch_tokens": 128, "compile": "off", "precision": "fp32", "ema_decay": 0.9}
        | {"budget": StepBudget(steps=6), "checkpoint_steps": 3}
        | json.loads(changes)
    )
    target, resume = Path(path), start == "resume"
    model, losses, seen = build_model(MODELS[model_name]), [], []
    saved = target.with_suffix(".state")

    def save_state(step, tensors, meta):
        if step == 3:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, saved)
            saved.with_suffix(".json").write_text(json.dumps(meta))

    def load_state():
        return (3, load_file(saved), json.loads(saved.with_suffix(".json").read_text())) if resume else None

    outside = Outside(
        on_record=[lambda record: losses.append(record["loss"])],
        is_first=runtime.is_first,
        save_state=save_state,
        load_state=load_state,
        checkpoint_steps=3,
        hooks=[Hook(2, lambda progress: seen.append(progress.model(batch_of(0).ids).sum().item()))],
    )
    fit(model, batches_from, next_token, config, runtime, outside)
    if runtime.is_first:
        weights = {name: weight.detach() for name, weight in model.named_parameters()}
        told = {"losses": torch.tensor(losses), "seen": torch.tensor(seen)}
        save_file(weights | told, target)
    close_runtime()


if __name__ == "__main__":
    main(*sys.argv[1:])
