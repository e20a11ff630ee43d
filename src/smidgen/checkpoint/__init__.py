"""Weights in and out: model directories, GGUF files, pulled models, adapters, and the state a run resumes from.

Nothing here is ever unpickled; every directory and file appears whole or not at all.
"""

from smidgen.checkpoint.adapters import load_adapter, save_adapter
from smidgen.checkpoint.cache import CATALOGUE, cache_directory, pull
from smidgen.checkpoint.directory import LoadedModel, save_model
from smidgen.checkpoint.load import load_model
from smidgen.checkpoint.peft import save_peft
from smidgen.checkpoint.resume import TrainingState, load_training_state, oldest_training_step, save_training_state

__all__ = [
    "CATALOGUE",
    "LoadedModel",
    "TrainingState",
    "cache_directory",
    "load_adapter",
    "load_model",
    "load_training_state",
    "oldest_training_step",
    "pull",
    "save_adapter",
    "save_model",
    "save_peft",
    "save_training_state",
]
