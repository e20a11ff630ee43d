"""The second half of the journey: write the model, measure what was written, and tell all of it on a page.

Everything is measured on the directory that ships, read back from disk, so that a number stands for the file.
"""

import statistics
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from smidgen.checkpoint import LoadedModel, load_model, save_model
from smidgen.evaluation.bits_per_byte import Measured, bits_per_byte_of_symbols
from smidgen.evaluation.health import check_health
from smidgen.evaluation.runner import run_task
from smidgen.inference import Engine, prepare_for_decoding
from smidgen.journey.begin import Begun
from smidgen.journey.clock import Clock
from smidgen.journey.material import Material
from smidgen.journey.screen import Screen
from smidgen.journey.watching import TEMPERATURE, openings, write_samples
from smidgen.models import ModelConfig
from smidgen.models.stats import count_parameters
from smidgen.planning.measure import remember_run, remembered_machine
from smidgen.planning.presets import read_size
from smidgen.planning.units import format_bytes, format_time
from smidgen.recipe import VillageData
from smidgen.reports.card import write_card
from smidgen.reports.report import write_report
from smidgen.runs import RunDirectory, atomic_write, read_records
from smidgen.runtime import Runtime
from smidgen.tasks.village import VillageQuestions
from smidgen.training import Progress

_SAMPLES = 9
_QUESTIONS = (100, 500)
_ENGINE_ROWS = 16
_OVERLAP_BYTES_PER_SECOND = 4_000_000
"""Decoding shards and looking for shared passages, one core."""


def finish(begun: Begun, progress: Progress, runtime: Runtime, screen: Screen, clock: Clock) -> None:
    """Turn a trained model into a finished run; the final figures are written last but for the pages made from them."""
    run, material = begun.run, begun.material
    save_model(run.model, begun.model, material.tokenizer)
    shipped = load_model(run.model, dtype=runtime.dtype, device=runtime.device)
    log = [record for record in read_records(run.metrics) if record["kind"] == "train"]
    speed = statistics.median([record["tokens_per_second"] for record in log[-50:]] or [1000.0])
    own_speed = speed / runtime.world  # the other processes have left
    left = clock.seconds_to_end(progress.seconds)
    screen.say("Measuring the finished model ...")
    # A forward is a third of a training step, and windows that overlap by half run every symbol twice.
    validation = _measure(shipped, material, symbols=int(0.35 * left * 1.5 * own_speed))
    figures = _figures(begun, progress, log, validation, runtime) | {"tokens_per_second": speed}
    if isinstance(begun.recipe.data, VillageData):
        wanted = int(0.25 * left * 3 * own_speed / 250)  # a question and its story are 250 symbols
        figures["tasks"] = [_ask_village(shipped, begun.recipe.data, wanted, screen)]
    figures["health"] = _health(begun, shipped, runtime, figures, seconds=0.2 * left)
    if progress.compiled:
        figures["compile_seconds"] = _compile_seconds(log)
    _remember_speed(begun, runtime, figures)
    run.write_final_metrics(figures | {"total_seconds": round(clock.elapsed, 1)})
    write_pages(run)
    _say_farewell(run, figures, screen, clock)
    _compare_size(run, begun.resolved["asked"]["size"], screen)


def write_pages(run: RunDirectory) -> Path:
    """Write the report, and the model's card if there is a model; return the report's path."""
    if (run.model / "config.json").is_file():
        atomic_write(run.model / "README.md", write_card(run.path))
    return write_report(run.path)


def _measure(shipped: LoadedModel, material: Material, symbols: int) -> Measured:
    documents = material.validation_documents(max(4096, symbols))
    return bits_per_byte_of_symbols(shipped.model, shipped.tokenizer, documents)


def _shipped(begun: Begun) -> ModelConfig:
    """Return the model without the heads that were only to teach."""
    config = begun.recipe.model
    return config.model_copy(update={"heads": config.heads.shipped()})


def _figures(
    begun: Begun, progress: Progress, log: list[dict[str, Any]], validation: Measured, runtime: Runtime
) -> dict[str, Any]:
    """Return the final figures that need nothing but what is known already."""
    train = begun.material.shards.train
    late = [r["bits_per_byte"] for r in log if r["share"] >= 0.9 and r["bits_per_byte"] is not None]
    mfu = [r["mfu"] for r in log if r["mfu"] is not None]
    return {
        "finished": True,
        "step": progress.step,
        "seconds": round(progress.seconds, 1),
        "tokens": progress.symbols,
        "epochs": round(progress.symbols / train.symbols, 3),
        "parameters": count_parameters(_shipped(begun)).total,
        "file_bytes": _directory_bytes(begun.run.model),
        "memory_bytes": _peak_memory(runtime.device),
        "mfu": statistics.median(mfu) if mfu else None,
        "train_bits_per_byte": statistics.fmean(late) if late else None,
        "validation": validation.as_dict(),
    }


def _ask_village(shipped: LoadedModel, data: VillageData, wanted: int, screen: Screen) -> dict[str, Any]:
    least, most = _QUESTIONS
    task = VillageQuestions("test", n_examples=min(max(wanted, least), most), config=data.world)
    rows = Engine(prepare_for_decoding(shipped.model), shipped.tokenizer, max_rows=_ENGINE_ROWS)
    result = run_task(task, rows)
    screen.say(
        f"Village questions about people, things and places never seen together: {result.strict.value:.1%} exact "
        f"(chance {result.chance:.1%}, majority {result.majority:.1%}; {len(result.items)} questions)."
    )
    return result.as_dict()


def _health(
    begun: Begun, shipped: LoadedModel, runtime: Runtime, figures: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """Let the shipped model write, keep what it wrote, and judge it beside held-out text."""
    material = begun.material
    prompts = openings(material, _SAMPLES - 1)
    written = write_samples(shipped.model, material, prompts, runtime, begun.recipe.seed)
    records = [
        {"kind": "sample", "step": figures["step"], "prompt": prompt, "text": text, "temperature": TEMPERATURE}
        for prompt, text in zip(prompts, written, strict=True)
    ]
    begun.run.write_samples(records)
    limit = int(seconds * _OVERLAP_BYTES_PER_SECOND)
    references = [material.tokenizer.decode(ids) for ids in material.validation_documents(4096)]
    health = check_health(
        written,
        references,
        _first_bytes(material.training_texts(), limit),
        figures["train_bits_per_byte"],
        figures["validation"]["bits_per_byte"],
    )
    looked_at = min(1.0, limit / max(1, material.shards.train.text_bytes))
    return health.as_dict() | {"training_share_compared": round(looked_at, 3)}


def _first_bytes(texts: Iterator[str], limit: int) -> Iterator[str]:
    taken = 0
    for text in texts:
        yield text
        taken += len(text)
        if taken >= limit:
            return


def _peak_memory(device: torch.device) -> int:
    """Return the most memory held at once: of the GPU where it trained on one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _remember_speed(begun: Begun, runtime: Runtime, figures: dict[str, Any]) -> None:
    """Let later plans know what this machine really reached; a run under a minute says little.

    Only a run as it was planned tells of the prediction: not one whose recipe was overridden or that many shared.
    """
    plan, machine = begun.resolved["plan"], remembered_machine(runtime)
    as_planned = runtime.world == 1 and not begun.resolved["asked"]["overrides"]
    if plan is not None and machine is not None and as_planned and figures["seconds"] >= 60:
        predicted, reached = plan["expected"]["tokens_per_second"], figures["tokens_per_second"]
        remember_run(runtime, machine, predicted, reached, figures.get("compile_seconds"))


def _compile_seconds(log: list[dict[str, Any]]) -> float | None:
    """Return what the first step of a run took more than a usual one; None if the log does not begin with it."""
    if len(log) < 2 or log[0]["step"] != 1:
        return None
    steps = [after["seconds"] - before["seconds"] for before, after in pairwise(log)]
    return round(max(0.0, log[0]["seconds"] - statistics.median(steps)), 1)


def _say_farewell(run: RunDirectory, figures: dict[str, Any], screen: Screen, clock: Clock) -> None:
    validation = figures["validation"]
    error = validation["standard_error"]
    spread = f" ± {error:.3f}" if error is not None else ""
    screen.say(
        f"Held-out text costs {validation['bits_per_byte']:.3f}{spread} bits per byte "
        f"({format_bytes(validation['bytes'])} measured). {figures['parameters']:,} parameters, "
        f"{format_bytes(figures['file_bytes'])} on disk, {figures['step']:,} steps, "
        f"{format_time(clock.elapsed)} in all."
    )
    screen.say(f"Report: {run.report}")
    screen.say(f"Talk with it: smidgen chat {run.path}")


def _directory_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


def _compare_size(run: RunDirectory, asked: str | None, screen: Screen) -> None:
    """Say whether what was written keeps within the bytes that were asked for, its card included."""
    size = None if asked is None else read_size(asked)
    if size is None or not size.in_bytes:
        return
    written = _directory_bytes(run.model)
    weights = (run.model / "model.safetensors").stat().st_size
    parts = f"{written:,} bytes: weights {weights:,}, tokenizer and the rest {written - weights:,}"
    if written <= size.amount:
        screen.say(f"Within --size {size}: {run.model} holds {parts}.")
    else:
        over = written / size.amount - 1
        screen.say(f"! OVER --size {size} BY {over:.1%}: {run.model} holds {parts}. Ask for that much less.")
