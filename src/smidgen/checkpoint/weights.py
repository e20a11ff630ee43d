"""Putting tensors from a file into a model, each name and shape accounted for, shared blocks included."""

import re

import torch
from torch import Tensor, nn

from smidgen.checkpoint.tensors import TensorSource
from smidgen.errors import CheckpointError
from smidgen.models import Model, ModelConfig, build_empty

_DERIVED = re.compile(r".*\.rotary_emb\.inv_freq")
"""Stored by old Llama directories, though the config already says it."""

_SHOWN = 3


def unique_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return every parameter once, under its first name: the whole model, shared blocks counted once."""
    return dict(model.named_parameters())


def expanded_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return every parameter under all its names, as a reader who knows nothing of sharing expects them."""
    return dict(model.named_parameters(remove_duplicate=False))


def read_model(
    config: ModelConfig, source: TensorSource, dtype: torch.dtype | None, device: torch.device | str
) -> Model:
    """Build the model of a config and fill it from a file; `dtype` None keeps the dtype of the stored embedding.

    A parameter that several names share is taken from the first of them in the file. Raises CheckpointError naming
    what is missing, unexpected or of the wrong shape.
    """
    model = build_empty(config)
    _check_fit(model, source)
    model.to(dtype or stored_dtype(source)).to_empty(device=device)
    filled: set[int] = set()
    with torch.no_grad():
        for name, weight in expanded_weights(model).items():
            if name in source.shapes and id(weight) not in filled:
                weight.copy_(source.read(name))
                filled.add(id(weight))
    return model


def stored_dtype(source: TensorSource) -> torch.dtype:
    """Return the dtype of the file's embedding, or fp32 if no model computes in it."""
    tables = (dtype for name, dtype in source.dtypes.items() if name.endswith("embed_tokens.weight"))
    dtype = next(tables, torch.float32)
    return dtype if dtype in (torch.float16, torch.bfloat16) else torch.float32


def model_dtype(model: nn.Module) -> torch.dtype:
    """Return the dtype of a model's weights."""
    return next(model.parameters()).dtype


def _check_fit(model: nn.Module, source: TensorSource) -> None:
    expected = expanded_weights(model)
    stored = {id(expected[name]) for name in source.shapes if name in expected}
    missing = [name for name, weight in unique_weights(model).items() if id(weight) not in stored]
    unexpected = [name for name in source.shapes if name not in expected and not _is_superfluous(name, expected)]
    wrong = [
        f"{name} {shape} instead of {tuple(expected[name].shape)}"
        for name, shape in source.shapes.items()
        if name in expected and tuple(expected[name].shape) != shape
    ]
    problems = [
        f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of the wrong shape", wrong))
        if names
    ]
    if problems:
        raise CheckpointError(f"{source.where}: tensors do not fit the config: {'; '.join(problems)}.")


def _is_superfluous(name: str, expected: dict[str, Tensor]) -> bool:
    # A tied head is sometimes stored all the same; every reader uses the embedding.
    return name == "lm_head.weight" or bool(_DERIVED.fullmatch(name)) if name not in expected else False
