"""Measuring a model that exists: bits per byte on a text, questions of tasks."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from smidgen.checkpoint import load_model
from smidgen.data.corpus import Corpus
from smidgen.errors import ConfigError
from smidgen.evaluation.bits_per_byte import bits_per_byte, bits_per_byte_of_symbols
from smidgen.evaluation.runner import run_task
from smidgen.inference import Engine, prepare_for_decoding
from smidgen.journey.material import open_material
from smidgen.runs import RunDirectory
from smidgen.runtime import open_runtime
from smidgen.tasks import TASKS

_ENGINE_ROWS = 16


def assess(
    source: str, text: Path | None, tasks: Sequence[str], limit: int, max_bytes: int, device: str | None
) -> dict[str, Any]:
    """Measure a model on a text, or on what its run held out, and ask the first `limit` questions of each task.

    Raises ConfigError if there is neither a text nor a run or no such task, CheckpointError if there is no such model.
    """
    if unknown := [task for task in tasks if task not in TASKS]:
        raise ConfigError(f"--task {unknown[0]} is no task. Known: {', '.join(TASKS)}.")
    runtime = open_runtime(device=device)
    run = RunDirectory(source)
    if text is None and not run.has_data:
        raise ConfigError(f"{source}: is no run with a held-out text. Name a text: smidgen eval {source} TEXT")
    loaded = load_model(source, dtype=runtime.dtype, device=runtime.device)
    if text is None:
        material = open_material(run)
        symbols = int(max_bytes / material.facts()["bytes_per_symbol"])
        documents = material.validation_documents(symbols)
        measured, name = bits_per_byte_of_symbols(loaded.model, loaded.tokenizer, documents), f"{source}, held out"
    else:
        measured, name = bits_per_byte(loaded.model, loaded.tokenizer, _texts(text, max_bytes)), str(text)
    results = []
    if tasks:
        engine = Engine(prepare_for_decoding(loaded.model), loaded.tokenizer, max_rows=_ENGINE_ROWS)
        results = [run_task(TASKS[task](limit), engine).as_dict() for task in tasks]
    return {"model": source, "text": name, "validation": measured.as_dict(), "tasks": results}


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
