"""Which optimizer moves which weight: Muon for the blocks' matrices, AdamW for the rest, or AdamW for all.

State is kept by parameter name, so that a resume checkpoint is a flat dictionary of tensors.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from smidgen.errors import TrainingError
from smidgen.training.config import AdamWConfig, MuonConfig, OptimizerConfig
from smidgen.training.muon import Muon
from smidgen.training.sharded import part_like


class Optimizer:
    """Moves a model's trainable weights; learning rates are peaks, scaled each step by the schedule."""

    def __init__(self, adamw: torch.optim.AdamW, names: Mapping[Tensor, str], muon: Muon | None) -> None:
        self._adamw = adamw
        self._names = names
        self._muon = muon
        self._peaks = [group["lr"] for group in adamw.param_groups]

    def step(self, multiplier: float) -> None:
        """Move every weight once, with all learning rates scaled by `multiplier`."""
        for group, peak in zip(self._adamw.param_groups, self._peaks, strict=True):
            group["lr"] = peak * multiplier
        self._adamw.step()
        if self._muon is not None:
            self._muon.step(multiplier)
        # The fused AdamW of torch 2.13 moves weights without saying so; who has made something of them must notice.
        torch.autograd.graph.increment_version(list(self._names))

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for weight in self._names:
            weight.grad = None

    def state_tensors(self) -> dict[str, Tensor]:
        """Return all state under flat names, the tensors themselves, not copies."""
        tensors = {
            f"adamw.{self._names[weight]}.{key}": value
            for weight, state in self._adamw.state.items()
            for key, value in state.items()
        }
        momenta = {} if self._muon is None else self._muon.momentum
        return tensors | {f"muon.{name}": value for name, value in momenta.items()}

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state_tensors` gave, bit for bit."""
        by_name = {name: weight for weight, name in self._names.items()}
        for key, value in tensors.items():
            kind, _, name = key.partition(".")
            if kind == "muon" and self._muon is not None:
                momentum = self._muon.momentum[name]
                momentum.copy_(part_like(value, momentum))
            elif kind == "adamw":
                name, _, entry = name.rpartition(".")
                weight = by_name[name]
                # The step counter is whole and stays where AdamW keeps it; moments live beside their weight.
                device = value.device if entry == "step" and weight.device.type == "cpu" else weight.device
                value = value.clone().to(device)
                self._adamw.state[weight][entry] = value if entry == "step" else part_like(value, weight)


def build_optimizer(model: nn.Module, config: OptimizerConfig, dtype: torch.dtype) -> Optimizer:
    """Sort the trainable weights into groups; shared weights appear once.

    Matrices of the blocks go to Muon when it is chosen; embeddings, head, norms and scalars always to AdamW.
    Raises TrainingError if nothing is trainable.
    """
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    if not weights:
        raise TrainingError("every weight is frozen: there is nothing to train. Check the surgery.")
    names: dict[Tensor, str] = {weight: name for name, weight in weights.items()}
    tables = {name: w for name, w in weights.items() if "embed" in name or name.startswith("lm_head")}
    matrices = {name: w for name, w in weights.items() if w.ndim == 2 and name not in tables}
    vectors = {name: w for name, w in weights.items() if name not in tables and name not in matrices}
    fused = all(w.device.type in ("cpu", "cuda") for w in weights.values())
    if isinstance(config, AdamWConfig):
        groups = [
            _group(tables | matrices, config.learning_rate, config.weight_decay),
            _group(vectors, config.learning_rate, 0.0),
        ]
        return Optimizer(_adamw(groups, config, fused), names, None)
    groups = [
        _group(tables, config.embedding_learning_rate, 0.0),
        _group(vectors, config.scalar_learning_rate, 0.0),
    ]
    muon = Muon(matrices, config, torch.bfloat16 if dtype == torch.bfloat16 else torch.float32)
    return Optimizer(_adamw(groups, config, fused), names, muon)


def _group(weights: Mapping[str, Tensor], rate: float, decay: float) -> dict[str, object]:
    return {"params": list(weights.values()), "lr": rate, "weight_decay": decay}


def _adamw(groups: list[dict[str, object]], config: AdamWConfig | MuonConfig, fused: bool) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=fused)
