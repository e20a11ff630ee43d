"""Symbol ids (B, T) in, next-symbol logits (B, T, V) out. Models know nothing of text, losses or files."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Protocol

import torch
from jaxtyping import Float, Int
from pydantic import Discriminator, Tag
from torch import Tensor, nn

from smidgen.data.branches import Branches
from smidgen.models.bytepatch import BytePatch, BytePatchConfig
from smidgen.models.heads import Heads
from smidgen.models.llama import Llama, LlamaConfig
from smidgen.models.state import DecodeState


def _family(config: Any) -> Any:
    """Return the family a config is of; a Llama where nothing else is said."""
    if isinstance(config, LlamaConfig | BytePatchConfig):
        return config.type
    return config.get("type", "llama") if isinstance(config, dict) else "llama"


ModelConfig = Annotated[
    Annotated[LlamaConfig, Tag("llama")] | Annotated[BytePatchConfig, Tag("bytepatch")], Discriminator(_family)
]
"""The union of model families, told apart by `type`."""

Model = Llama | BytePatch
"""The union of model classes, as `ModelConfig` is of their configs."""

MODELS: dict[str, type[Any]] = {"llama": Llama, "bytepatch": BytePatch}
CONFIGS: dict[str, type[LlamaConfig] | type[BytePatchConfig]] = {"llama": LlamaConfig, "bytepatch": BytePatchConfig}


class LanguageModel(Protocol):
    """The contract every model keeps, whatever is inside; a `state` is one that its own `init_state` has made."""

    @property
    def config(self) -> ModelConfig:
        """Return the shape."""
        ...

    compute_dtype: torch.dtype | None
    training: bool
    heads: Heads
    """What it has beside its output head."""

    def train(self, mode: bool = True) -> object:
        """Switch between training and evaluation, as nn.Module does."""
        ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Yield every weight once, as nn.Module does."""
        ...

    def forward(
        self, ids: Int[Tensor, "B T"], state: Any = None, rows: Sequence[int] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Return fp32 logits of the symbol after each position; with `state`, of T new symbols in `rows`."""
        ...

    def features(
        self,
        ids: Int[Tensor, "B T"],
        state: Any = None,
        rows: Sequence[int] | None = None,
        causal: bool = True,
    ) -> Float[Tensor, "B T D"]:
        """Return what the head reads; without `causal`, where a model can, every position having seen the row."""
        ...

    @property
    def can_branch(self) -> bool:
        """Whether a row may branch: sequences that share their beginning give what they would give in rows apart."""
        ...

    def features_and_losses(
        self,
        ids: Int[Tensor, "B T"],
        targets: Int[Tensor, "B T"],
        weights: Float[Tensor, "B T"],
        branches: Branches | None = None,
    ) -> tuple[Float[Tensor, "B T D"], dict[str, Tensor]]:
        """Return the features for training, and what parts of the model minimise besides, by name.

        A row that branches is one for models that `can_branch`.
        Sums over supervised symbols. A patcher that learns, for one: its loss is of the model, not of the objective.
        """
        ...

    def head_weight(self) -> Float[Tensor, "V D"]:
        """Return the output head's weight, for losses that never make all logits."""
        ...

    def logits(self, features: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]:
        """Return fp32 logits of features."""
        ...

    def init_state(self, rows: int, max_len: int) -> DecodeState:
        """Allocate decoding memory."""
        ...

    def tp_plan(self) -> dict[str, str]:
        """Say how each weight is cut for tensor parallelism."""
        ...


def build_model(config: ModelConfig, seed: int = 0, device: torch.device | str = "cpu") -> Model:
    """Make a model with freshly drawn fp32 weights; the draw depends on the seed alone, not on the device."""
    model = build_empty(config)
    model.to_empty(device="cpu")
    model.init_weights(torch.Generator().manual_seed(seed))
    return model.to(device)


def build_empty(config: ModelConfig) -> Model:
    """Make a model on the meta device, for loading weights into or for counting."""
    with torch.device("meta"):
        return MODELS[config.type](config)
