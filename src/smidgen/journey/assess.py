"""Measuring a model that exists: bits per byte on a text, the suite, questions of tasks; and keeping what was found."""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from smidgen import __version__
from smidgen.checkpoint import LoadedModel, load_model
from smidgen.checkpoint.adapters import load_adapter
from smidgen.data.corpus import Corpus
from smidgen.errors import CheckpointError, ConfigError, DataError, RunError, SmidgenError, TokenizerError
from smidgen.evaluation.bits_per_byte import bits_per_byte, bits_per_byte_of_symbols
from smidgen.evaluation.likelihood import precision_of
from smidgen.evaluation.passes import Sampled
from smidgen.journey.exposure import find_exposure, training_texts
from smidgen.journey.material import open_material
from smidgen.journey.measuring import Measuring, Outcome, bits_outcome
from smidgen.journey.screen import Screen
from smidgen.journey.standing import find_model_evals, keep_eval
from smidgen.journey.suite import Asked as AskedTask
from smidgen.journey.suite import Chosen, choose, refuse_unknown
from smidgen.models.stats import count_parameters
from smidgen.reports.entrants import shipped_bytes
from smidgen.reports.standing import EvalFiles, is_adapter, read_evals
from smidgen.runs import RunDirectory
from smidgen.runtime import open_runtime
from smidgen.surgery.adapted import base_weights
from smidgen.surgery.adapter import Adapter
from smidgen.surgery.fingerprint import model_fingerprint
from smidgen.surgery.text import PREFIX
from smidgen.tasks.choice import ChoiceTask
from smidgen.tasks.completion import CompletionTask
from smidgen.tasks.suite import HARNESS
from smidgen.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class Asked:
    """What is to be measured, with what."""

    source: str
    """A run, a model directory, a .gguf file or a pulled name."""
    text: Path | None = None
    """Text to measure on; None: what the run held out."""
    tasks: Sequence[str] = ()
    """Names of tasks; none with `suite`: all of the suite."""
    suite: bool = False
    """Whether names are first looked for in the suite."""
    limit: int | None = None
    """Most items of each task; None: all."""
    max_bytes: int = 1_000_000
    """Most text scored."""
    data: Path | None = None
    """Folder of the tasks that read local files."""
    adapter: str | None = None
    """A directory or an adapter string, applied to the model."""
    samples: int = 0
    """Sampled answers to each question answered in text, for pass@k."""
    contamination: Path | None = None
    """A run, or a file or folder of text, in which every item is looked for."""


@dataclass(frozen=True)
class Found:
    """What an evaluation found."""

    record: dict[str, Any]
    """As in `evals.json`."""
    validation: dict[str, Any] | None
    """What a text cost; None if none was scored."""
    text: str | None
    """Which one."""
    skipped: tuple[tuple[str, str], ...]
    """Tasks of the suite that were not asked, and why."""
    kept: Path | None
    """The file the record was added to; None where nothing can be kept."""


def assess(wanted: Asked, device: str | None, screen: Screen) -> Found:
    """Measure a model on a text and by tasks, and keep what was found beside it.

    Raises ConfigError if there is nothing to measure with or no such task, DataError for files that are missing or
    broken, CheckpointError if there is no such model: all of it before anything is computed.
    """
    source, run = wanted.source, RunDirectory(wanted.source)
    files = _files(wanted, screen)
    chosen = choose(wanted.tasks, wanted.suite, wanted.data, wanted.limit, screen.say)
    if wanted.text is None and not run.has_data and not chosen.tasks:
        raise ConfigError(f"{source}: is no run with a held-out text. Name a text: smidgen eval {source} TEXT")
    if wanted.contamination is not None:  # refused now, and not when all is answered
        next(training_texts(wanted.contamination), None)
    runtime = open_runtime(device=device)
    loaded = load_model(source, dtype=runtime.dtype, device=runtime.device)
    adapter = load_adapter(wanted.adapter, loaded.model) if wanted.adapter is not None else None
    chosen = _speakable(chosen, loaded.tokenizer, source, bool(wanted.tasks))
    _say_unheard(wanted, chosen, screen)
    identity = _identity(loaded, adapter)
    begun = time.perf_counter()
    scored = _score_text(wanted, loaded, run)
    sampled = Sampled(n=wanted.samples) if wanted.samples else None
    measuring = Measuring(loaded, _known_as(loaded, adapter, identity), wanted.limit, sampled)
    outcomes, skipped = [scored] if scored else [], list(chosen.skipped)
    try:
        for task in chosen.tasks:
            try:
                outcomes.append(_measure(measuring, task, screen))
            except SmidgenError as error:
                if wanted.tasks:
                    raise
                skipped.append((task.name, str(error).partition("\n")[0]))  # hours of the others are not thrown away
    except KeyboardInterrupt:
        screen.say("What was answered is kept: the same command goes on from here.")
        raise
    finally:
        screen.end_progress()
    if not outcomes:
        raise DataError(f"{source}: none of the tasks could be asked. {skipped[0][1]}")
    if wanted.contamination is not None:
        _expose(outcomes, wanted.contamination, screen)
    protocol = measuring.protocol | {"prompts": HARNESS, "decoding": "greedy"} if chosen.tasks else {}
    if sampled and chosen.tasks:
        protocol["sampled"] = sampled.model_dump()
    record = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "smidgen": __version__,
        "model": identity,
        "protocol": protocol,
        "tasks": [outcome.row for outcome in outcomes],
        "seconds": round(time.perf_counter() - begun, 1),
        "parameters": count_parameters(loaded.model.config).total,
        "file_bytes": _file_bytes(loaded.directory, wanted.adapter),
    }
    kept = _keep(files, record, outcomes, screen) if files is not None else None
    told = None if scored is None else str(wanted.text or f"{source}, held out")
    return Found(record, scored.row["metrics"] if scored else None, told, tuple(skipped), kept)


def _files(wanted: Asked, screen: Screen) -> EvalFiles | None:
    """Return where the record will be kept: beside the model, or the adapter, whose scores are not the base's.

    None, which is said, where nothing can be kept. Raises SmidgenError for a model that is not there, or damaged files.
    """
    refuse_unknown(wanted.tasks)
    files = find_model_evals(wanted.source)
    if wanted.adapter is not None:
        place = Path(wanted.adapter)
        if wanted.adapter.strip().startswith(f"{PREFIX}:"):
            screen.say("not kept: an adapter that is a line of text has no folder for an evaluation.")
            return None
        if not is_adapter(place):
            raise CheckpointError(f"{place}: is no adapter. Name the directory of one, or a line {PREFIX}:...")
        files = EvalFiles.beside(place)
    read_evals(files)
    if not os.access(files.file.parent, os.W_OK):
        screen.say(f"not kept: {files.file.parent} may not be written.")
        return None
    return files


def _say_unheard(wanted: Asked, chosen: Chosen, screen: Screen) -> None:
    """Say of every option that changes nothing here that it does not."""
    if wanted.limit and not chosen.tasks:
        screen.say("--limit changes nothing: no task is asked. How much text is scored, --max-bytes says.")
    if wanted.samples and not any(not isinstance(task, ChoiceTask) for task in chosen.tasks):
        screen.say("--samples changes nothing: no task is asked that is answered in text.")
    if wanted.contamination is not None and not chosen.tasks:
        screen.say("--contamination changes nothing: there are no items to look for, as no task is asked.")


def _file_bytes(directory: Path, adapter: str | None) -> int:
    """Return what has to be shipped: the model, and the adapter where that is files."""
    added = shipped_bytes(Path(adapter)) if adapter is not None and Path(adapter).is_dir() else 0
    return shipped_bytes(directory) + added


def _keep(files: EvalFiles, record: dict[str, Any], outcomes: Sequence[Outcome], screen: Screen) -> Path | None:
    """Keep what was found and return where; where that fails it is said, and the table is shown all the same."""
    try:
        keep_eval(files, record, {outcome.row["name"]: outcome.lines for outcome in outcomes})
    except RunError as error:
        screen.say(f"not kept: {error}")
        return None
    return files.file


def _speakable(chosen: Chosen, tokenizer: Tokenizer, source: str, named: bool) -> Chosen:
    """Leave out of the whole suite what is asked in conversation of a model that has no idea of one.

    Raises TokenizerError if such a task was named.
    """
    if tokenizer.chat_template is not None:
        return chosen
    spoken = [task for task in chosen.tasks if not _is_plain(task)]
    why = "has no chat template, so it cannot be asked in conversation"
    if spoken and named:
        raise TokenizerError(f"task {spoken[0].name}: {source} {why}.")
    skipped = [(task.name, f"the model {why}") for task in spoken]
    return Chosen(tuple(filter(_is_plain, chosen.tasks)), (*chosen.skipped, *skipped))


def _is_plain(task: AskedTask) -> bool:
    return isinstance(task, ChoiceTask | CompletionTask)


def _identity(loaded: LoadedModel, adapter: Adapter | None) -> str:
    """Return the name of the weights, an adapter's included."""
    base = model_fingerprint(loaded.model)
    if adapter is None:
        return base
    digest = hashlib.sha256()
    digest.update(adapter.config.model_dump_json().encode())  # equal tensors of another alpha are another adapter
    for name, tensor in sorted(adapter.state().items()):
        digest.update(name.encode() + tensor.float().cpu().contiguous().numpy().tobytes())
    return f"{base}+{digest.hexdigest()[:16]}"


def _known_as(loaded: LoadedModel, adapter: Adapter | None, identity: str) -> str:
    """Return the name that answers are kept under: all that an answer hangs on, and not the rounded weights alone."""
    digest = hashlib.sha256(identity.encode())
    digest.update(loaded.model.config.model_dump_json().encode() + loaded.tokenizer.fingerprint().encode())
    for name, weight in sorted(base_weights(loaded.model).items()):
        plain = weight.detach().cpu().contiguous().flatten()
        digest.update(f"{name} {plain.dtype}".encode())
        digest.update(plain.view(torch.uint8).numpy().data)
    return f"{identity}-{digest.hexdigest()[:16]}"


def _measure(measuring: Measuring, task: AskedTask, screen: Screen) -> Outcome:
    begun = time.monotonic()

    def tell(done: int, total: int) -> None:
        screen.show_count(task.name, done, total, time.monotonic() - begun)

    outcome = measuring.measure(task, tell)
    if outcome.dropped:
        screen.say(f"{task.name}: {outcome.dropped} kept answers were damaged and asked again.")
    return outcome


def _score_text(wanted: Asked, loaded: LoadedModel, run: RunDirectory) -> Outcome | None:
    """Return what a text cost: the one that is named, or what a run held out; None if there is neither."""
    if wanted.text is not None:
        texts = [text for text in _texts(wanted.text, wanted.max_bytes) if text]
        measured, name = bits_per_byte(loaded.model, loaded.tokenizer, texts), wanted.text.name
    elif run.has_data:
        material = open_material(run)
        symbols = int(wanted.max_bytes / material.facts()["bytes_per_symbol"])
        documents = [ids for ids in material.validation_documents(symbols) if ids]
        measured = bits_per_byte_of_symbols(loaded.model, loaded.tokenizer, documents)
        texts, name = [loaded.tokenizer.decode(ids) for ids in documents], "held out"
    else:
        return None
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16] for text in texts]
    return bits_outcome(measured, name, digests, precision_of(loaded.model))


def _expose(outcomes: Sequence[Outcome], source: Path, screen: Screen) -> None:
    """Look for every item in training text, and tell the scores with and without those found."""
    searched = {outcome.row["name"]: outcome for outcome in outcomes if outcome.texts}
    if not searched:
        return
    exposures = find_exposure(source, {name: outcome.texts for name, outcome in searched.items()}, screen.say)
    for name, exposure in exposures.items():
        scores = {line["id"]: line["score"] for line in searched[name].lines}
        searched[name].row["contamination"] = {"in": str(source), **exposure.as_dict(scores)}


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
