"""Rows with adapters of their own: each running row's TinyLoRA vector, as what the model's maps read."""

from collections.abc import Sequence as Several
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.errors import ConfigError, DataError
from smidgen.inference.adapted import find_cores
from smidgen.inference.sequence import Sequence
from smidgen.models import BytePatchConfig, LanguageModel


class RowVectors:
    """The vectors of one engine's rows; made into cores all at once, and only when rows come or go or training moves.

    A row without a vector of its own has the trained one, as training has it now.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.cores = find_cores(cast(nn.Module, model))
        self._parallel = isinstance(model.config, BytePatchConfig) and model.config.head == "parallel"
        self._rows: list[Sequence] = []
        self._version = -1
        self._carried: Tensor | None = None

    def check(self, vector: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return a vector as rows keep it: a copy, fp32, on the CPU.

        Raises ConfigError if the model cannot give a row its own, DataError if the vector is not one of its adapter.
        """
        if self.cores is None:
            raise ConfigError("a vector for one row needs a model with TinyLoRA, prepared by prepare_for_decoding.")
        if self._parallel:
            raise ConfigError("a byte model with a parallel head cannot give rows vectors of their own. Merge each.")
        if vector.shape != (self.cores.v.numel(),):
            wanted = self.cores.v.numel()
            raise DataError(f"a vector of shape {tuple(vector.shape)} is not this adapter's: it has {wanted} numbers.")
        own = vector.detach().to("cpu", torch.float32, copy=True)
        if not own.isfinite().all():
            raise DataError(f"an adapter's vector has {int((~own.isfinite()).sum())} numbers that are NaN or infinite.")
        return own

    def carried(self, running: Several[Sequence]) -> Float[Tensor, "rows C"] | None:
        """Return what the running rows bring into a forward; None if no row has a vector of its own."""
        if self.cores is None or all(sequence.vector is None for sequence in running):
            return None
        if running != self._rows or self.cores.version != self._version:
            trained = self.cores.v.detach().flatten()
            own = [trained if s.vector is None else s.vector.to(trained.device) for s in running]
            self._carried = self.cores.of(torch.stack(own))
            self._rows, self._version = list(running), self.cores.version
        return self._carried
