"""One way in: a run, a model directory, a GGUF file or a pulled name becomes a model."""

from pathlib import Path

import torch

from smidgen.checkpoint.cache import cached, unknown_name
from smidgen.checkpoint.directory import LoadedModel, load_directory, resolve_directory
from smidgen.checkpoint.gguf import load_gguf
from smidgen.checkpoint.tensors import refuse_pickle
from smidgen.errors import CheckpointError


def load_model(source: str | Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> LoadedModel:
    """Load a model with its tokenizer and chat template; `dtype` None keeps the stored one.

    Raises CheckpointError if there is none, if it is damaged, or if it would compute differently here.
    """
    path = Path(source)
    if path.is_file():
        return _load_file(path, dtype, device)
    if path.is_dir():
        return load_directory(resolve_directory(path), dtype, device)
    target = cached(str(source))
    if target is None:
        raise unknown_name(str(source))
    if not target.is_dir():
        raise CheckpointError(f"{source}: is not here yet. Fetch it first: smidgen pull {source}")
    return load_directory(target, dtype, device)


def _load_file(path: Path, dtype: torch.dtype | None, device: torch.device | str) -> LoadedModel:
    if path.suffix == ".gguf":
        return load_gguf(path, dtype, device)
    refuse_pickle(path)
    hint = f"Name its directory: {path.parent}" if path.suffix == ".safetensors" else "Name a directory or .gguf file."
    raise CheckpointError(f"{path}: is only part of a model. {hint}")
