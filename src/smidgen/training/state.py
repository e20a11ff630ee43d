"""Everything a training run moves, saved and restored whole; what is frozen is only recognised again.

Thirteen trained numbers on 135M frozen weights make a state of kilobytes, and a hash.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from smidgen.checkpoint.tensors import tensor_bytes
from smidgen.errors import CheckpointError
from smidgen.inference.once import frozen_weights
from smidgen.models import Model
from smidgen.training.average import WeightAverage
from smidgen.training.config import TrainConfig
from smidgen.training.optim import build_optimizer
from smidgen.training.precision import GradientScaler
from smidgen.training.progress import Progress
from smidgen.training.sharded import gather_into, part_like, whole

_HASHED_AT_ONCE = 1 << 20
"""Numbers made fp32 at a time: an embedding whole took 226 MB, more than anything else before the first step."""


class RunState:
    """Model, optimizer, average, loss scale, progress and random state of one run."""

    def __init__(self, model: Model, config: TrainConfig, dtype: torch.dtype, whole_model: Model | None = None) -> None:
        """Take what is trained; where that is in parts, `whole_model` is what hooks see and what is shipped."""
        self.model = model
        self.whole_model = whole_model or model
        self.optimizer = build_optimizer(model, config.optimizer, dtype)
        self.average = None if config.ema_decay is None else WeightAverage(model, config.ema_decay)
        self.scaler = GradientScaler(dtype)
        self.progress = Progress(self.whole_model)
        self.looped = True
        """Whether repeated blocks repeat; follows from the share of the budget, so it is no part of what is saved."""
        self.frozen = fingerprint_frozen(self.whole_model)
        """Hash of the weights that do not train; None if all do."""

    @property
    def is_sharded(self) -> bool:
        """Whether each rank holds only a part: then looking at the whole is something all ranks do together."""
        return self.whole_model is not self.model

    def gather(self) -> None:
        """Bring the whole model up to date, where it is another than the trained one."""
        if self.is_sharded:
            gather_into(self.whole_model, self.model)

    def tensors(self, keep: bool = True) -> dict[str, Tensor]:
        """Return all tensors of the state under flat names, not copies; those in parts gathered, to the CPU.

        Ranks that only take part in the gathering do not `keep` what comes of it, and get nothing.
        """
        tensors = {}
        for name, tensor in self._parts().items():
            gathered = whole(tensor)
            if keep:
                tensors[name] = gathered.cpu() if self.is_sharded else gathered
        return tensors

    def _parts(self) -> dict[str, Tensor]:
        tensors = {f"model.{name}": weight.detach() for name, weight in self._trained()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self.optimizer.state_tensors().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.tensors.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        return tensors

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad]

    def meta(self) -> dict[str, Any]:
        """Return the rest of the state, as plain values."""
        progress = self.progress
        return ({} if self.frozen is None else {"frozen": self.frozen}) | {
            "data_step": progress.data_step,
            "symbols": progress.symbols,
            "seconds": progress.seconds,
            "share": progress.share,
            "begun": progress.begun,
            "rollbacks": progress.rollbacks,
            "ended": progress.ended,
            "loss_scale": self.scaler.scale,
            "finite_steps": self.scaler.finite_steps,
        }

    @torch.no_grad()
    def restore(self, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Take a saved state over, bit for bit. Raises CheckpointError if it belongs to another model."""
        if meta.get("frozen") != self.frozen:
            there, here = (found or "none at all" for found in (meta.get("frozen"), self.frozen))
            raise CheckpointError(f"the resume state is of another model: frozen weights {there} there, {here} here.")
        for name, weight in self._trained():
            saved = tensors.get(f"model.{name}")
            if saved is None or saved.shape != weight.shape:
                found = "nothing" if saved is None else f"shape {tuple(saved.shape)}"
                raise CheckpointError(
                    f"the resume state is of another model: {name} needs shape {tuple(weight.shape)}, found {found}."
                )
            weight.copy_(part_like(saved, weight))
        self.optimizer.load_state_tensors(_below("optimizer.", tensors))
        if self.average is not None:
            for name, tensor in _below("average.", tensors).items():
                average = self.average.tensors[name]
                average.copy_(part_like(tensor, average))
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random.cuda"])
        self.scaler.scale, self.scaler.finite_steps = meta["loss_scale"], meta["finite_steps"]
        progress = self.progress
        progress.step = step
        for name in ("data_step", "symbols", "seconds", "share", "begun", "rollbacks", "ended"):
            setattr(progress, name, meta[name])


def fingerprint_frozen(model: nn.Module) -> str | None:
    """Return a short hash of the weights that do not train, the same in fp32 and in bf16; None if there are none."""
    digest, found = hashlib.blake2b(digest_size=8), False
    for name, weight in frozen_weights(model):
        found = True
        digest.update(f"{name} {tuple(weight.shape)}\n".encode())
        for piece in weight.flatten().split(_HASHED_AT_ONCE):
            digest.update(tensor_bytes(piece.cpu().float()).data)
    return digest.hexdigest() if found else None


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
