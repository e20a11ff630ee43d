"""A model made ready to speak, for the verbs that let it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.checkpoint import load_model
from smidgen.checkpoint.adapters import load_adapter
from smidgen.config import validate_config
from smidgen.errors import TokenizerError
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.runs import RunDirectory
from smidgen.runtime import open_runtime

WRITE_DEFAULTS = SamplingParams(temperature=0.7, min_p=0.05, max_symbols=256)
"""Of free text: warmer than in a chat, where one answer is right, and without a penalty: stories repeat their names."""

_ADVISED = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
"""What of a generation_config.json is taken, in the words of `transformers`, which are ours."""


@dataclass(frozen=True)
class Speaker:
    """A model that is ready to speak."""

    source: str
    """What it was asked for by."""
    engine: Engine
    """The means."""
    advised: Mapping[str, Any]
    """How to sample it, where its generation_config.json says so."""

    def params(self, given: Mapping[str, Any], defaults: SamplingParams = WRITE_DEFAULTS) -> SamplingParams:
        """Return defaults, over them what is advised, over both what was given. Raises ConfigError for a bad value."""
        own = _laid_over(defaults, self.advised, f"generation_config.json of {self.source}")
        return _laid_over(own, given, "a sampling option")


def open_speaker(
    source: str, device: str | None, sampling: Mapping[str, Any], rows: int = 1, adapter: str | None = None
) -> Speaker:
    """Load a model, attach an adapter to it if one is given, and make it ready in this machine's fastest dtype.

    `sampling` is what was given, checked here because loading takes longer than refusing.
    Raises ConfigError for a bad value, CheckpointError if there is no such model.
    """
    _laid_over(WRITE_DEFAULTS, sampling, "a sampling option")
    runtime = open_runtime(device=device)
    loaded = load_model(source, dtype=runtime.dtype, device=runtime.device)
    if adapter is not None:
        load_adapter(adapter, loaded.model)
    engine = Engine(prepare_for_decoding(loaded.model), loaded.tokenizer, max_rows=rows)
    return Speaker(source, engine, _read_advice(loaded.directory / "generation_config.json"))


def _laid_over(params: SamplingParams, values: Mapping[str, Any], where: str) -> SamplingParams:
    return validate_config(params.model_dump(mode="json") | dict(values), SamplingParams, where)


def _read_advice(path: Path) -> dict[str, Any]:
    """Return what a file says on sampling; a directory without one, and a GGUF file, say nothing."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    advised = {key: said[key] for key in _ADVISED if said.get(key) is not None}
    if advised.get("top_k") == 0:  # off, in the words of `transformers`
        del advised["top_k"]
    return advised | ({"temperature": 0.0} if said.get("do_sample") is False else {})


def chat_advice(speaker: Speaker) -> list[str]:
    """Return what to know before talking with a model. Raises TokenizerError if it has no idea of a conversation."""
    source, tokenizer = speaker.source, speaker.engine.tokenizer
    if tokenizer is None or tokenizer.chat_template is None:
        raise TokenizerError(f"{source}: has no chat template, so it cannot chat. Try: smidgen generate {source} TEXT")
    advice = []
    if speaker.advised:
        settings = ", ".join(f"{name} {value:g}" for name, value in speaker.advised.items())
        advice.append(f"Sampling as its generation_config.json says: {settings}.")
    data = RunDirectory(Path(source)).read_resolved().get("data", {})
    if data.get("conversations") is False:
        advice.append(
            "This model was trained on plain text without a single conversation: it continues rather than answers. "
            f"For what it can do: smidgen generate {source} TEXT"
        )
    return advice
