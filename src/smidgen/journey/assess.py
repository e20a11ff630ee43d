"""Measuring a model that exists: bits per byte on a text, questions of tasks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.checkpoint import load_model
from smidgen.checkpoint.adapters import load_adapter
from smidgen.data.corpus import Corpus
from smidgen.errors import ConfigError
from smidgen.evaluation.bits_per_byte import bits_per_byte, bits_per_byte_of_symbols
from smidgen.evaluation.runner import run_task
from smidgen.inference import Engine, prepare_for_decoding
from smidgen.journey.material import open_material
from smidgen.runs import RunDirectory
from smidgen.runtime import open_runtime
from smidgen.tasks import load_task

_ENGINE_ROWS = 16


@dataclass(frozen=True)
class Asked:
    """What is to be measured, with what."""

    source: str
    """A run, a model directory, a .gguf file or a pulled name."""
    text: Path | None = None
    """Text to measure on; None: what the run held out."""
    tasks: Sequence[str] = ()
    limit: int = 500
    """Most questions of each task."""
    max_bytes: int = 1_000_000
    """Most text scored."""
    data: Path | None = None
    """Folder of the tasks that read local files."""
    adapter: str | None = None
    """A directory or an adapter string, applied to the model."""


def assess(wanted: Asked, device: str | None) -> dict[str, Any]:
    """Measure a model on a text and by the questions of tasks. A model without a text is asked the questions alone.

    Raises ConfigError if there is nothing to measure with or no such task, CheckpointError if there is no such model.
    """
    source, text, max_bytes = wanted.source, wanted.text, wanted.max_bytes
    asked = [load_task(task, wanted.data) for task in wanted.tasks]
    runtime = open_runtime(device=device)
    run = RunDirectory(source)
    if text is None and not run.has_data and not asked:
        raise ConfigError(f"{source}: is no run with a held-out text. Name a text: smidgen eval {source} TEXT")
    loaded = load_model(source, dtype=runtime.dtype, device=runtime.device)
    if wanted.adapter is not None:
        load_adapter(wanted.adapter, loaded.model)
    measured, name = None, None
    if text is not None:
        measured, name = bits_per_byte(loaded.model, loaded.tokenizer, _texts(text, max_bytes)), str(text)
    elif run.has_data:
        material = open_material(run)
        symbols = int(max_bytes / material.facts()["bytes_per_symbol"])
        documents = material.validation_documents(symbols)
        measured, name = bits_per_byte_of_symbols(loaded.model, loaded.tokenizer, documents), f"{source}, held out"
    results = []
    if asked:
        engine = Engine(prepare_for_decoding(loaded.model), loaded.tokenizer, max_rows=_ENGINE_ROWS)
        results = [run_task(task, engine, wanted.limit).as_dict() for task in asked]
    return {"model": source, "text": name, "validation": measured.as_dict() if measured else None, "tasks": results}


def _texts(path: Path, max_bytes: int) -> Iterator[str]:
    """Yield the plain texts of a corpus, until there is enough."""
    taken = 0
    for document in Corpus(path):
        if not document.text:
            continue
        yield document.text
        taken += len(document.content_bytes())
        if taken >= max_bytes:
            return
