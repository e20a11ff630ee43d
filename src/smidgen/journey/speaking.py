"""A model made ready to speak, for the verbs that let it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smidgen.checkpoint import load_model
from smidgen.config import validate_config
from smidgen.errors import TokenizerError
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.runs import RunDirectory
from smidgen.runtime import open_runtime

WRITE_DEFAULTS = SamplingParams(temperature=0.7, min_p=0.05, max_symbols=256)
"""Of free text: as in a chat, but without a penalty, since stories repeat their names."""


def open_engine(source: str, device: str | None = None, rows: int = 1) -> Engine:
    """Load a model and make it ready for decoding in this machine's fastest dtype.

    Raises CheckpointError if there is no such model.
    """
    runtime = open_runtime(device=device)
    loaded = load_model(source, dtype=runtime.dtype, device=runtime.device)
    return Engine(prepare_for_decoding(loaded.model), loaded.tokenizer, max_rows=rows)


def sampling_params(given: Mapping[str, Any], defaults: SamplingParams = WRITE_DEFAULTS) -> SamplingParams:
    """Return defaults with what was given on the command line laid over them. Raises ConfigError for a bad value."""
    return validate_config(defaults.model_dump(mode="json") | dict(given), SamplingParams, where="a sampling option")


def chat_advice(source: str, engine: Engine) -> list[str]:
    """Return what to know before talking with a model. Raises TokenizerError if it has no idea of a conversation."""
    if engine.tokenizer is None or engine.tokenizer.chat_template is None:
        raise TokenizerError(f"{source}: has no chat template, so it cannot chat. Try: smidgen generate {source} TEXT")
    advice = []
    data = RunDirectory(Path(source)).read_resolved().get("data", {})
    if data.get("conversations") is False:
        advice.append(
            "This model was trained on plain text without a single conversation: it continues rather than answers. "
            f"For what it can do: smidgen generate {source} TEXT"
        )
    return advice
