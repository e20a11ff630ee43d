"""Run under torchrun: train the same steps on this rank's share of the rows and write the weights of rank 0."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from model_zoo import MODELS
from smidgen.data.batch import Batch
from smidgen.models import build_model
from smidgen.runtime import close_runtime, open_runtime
from smidgen.training import Outside, TrainConfig, fit
from smidgen.training.config import StepBudget
from smidgen.training.objectives.next_token import next_token
from test_training_loop import batch_of


def share_of(batch: Batch, rank: int, world: int) -> Batch:
    rows = slice(rank, None, world)
    return Batch(batch.ids[rows], batch.targets[rows], batch.weights[rows])


def main(target: Path, model_name: str) -> None:
    torch.set_num_threads(1)
    runtime = open_runtime("fp32", device="cpu")

    def batches_from(step):
        while True:
            yield [share_of(batch_of(step, micro, rows=4), runtime.rank, runtime.world) for micro in range(2)]
            step += 1

    config = TrainConfig(
        budget=StepBudget(steps=5), seq_len=16, batch_tokens=128, compile="off", precision="fp32", ema_decay=0.9
    )
    model, losses = build_model(MODELS[model_name]), []
    outside = Outside(on_record=[lambda record: losses.append(record["loss"])], is_first=runtime.is_first)
    fit(model, batches_from, next_token, config, runtime, outside)
    if runtime.is_first:
        save_file({n: w.detach() for n, w in model.named_parameters()} | {"losses": torch.tensor(losses)}, target)
    close_runtime()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
