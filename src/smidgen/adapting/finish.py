"""The end of an adaptation: the adapter in files and as a line of text, the figures, the page, and what it all says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smidgen.adapting.config import Adaptation
from smidgen.adapting.examine import ADAPTED, BASE, CONTROL, Examination, Examined, compare, score_name
from smidgen.adapting.lesson import Learned
from smidgen.checkpoint import LoadedModel, save_model
from smidgen.checkpoint.adapters import save_adapter
from smidgen.journey.screen import Screen
from smidgen.planning.units import format_bytes
from smidgen.reports.report import write_report
from smidgen.runs import RunDirectory
from smidgen.surgery.adapter import Adapter
from smidgen.surgery.config import FullConfig, TinyLoraConfig, write_adapter
from smidgen.surgery.text import text_dtype, to_text

LARGEST_TEXT = 1000
"""Numbers that are still worth a line in the terminal."""


def round_numbers(adapter: Adapter) -> None:
    """Round what is told as a line of text to what the line says: line and directory are then one adapter, measured."""
    if _fits_a_line(adapter):
        told = text_dtype(adapter.config)
        adapter.load_state({name: tensor.to(told).to(tensor) for name, tensor in adapter.state().items()})


def _fits_a_line(adapter: Adapter) -> bool:
    config = adapter.config
    rests_on_a_file = isinstance(config, TinyLoraConfig) and config.stored
    return not isinstance(config, FullConfig) and not rests_on_a_file and adapter.n_parameters <= LARGEST_TEXT


def finish(
    run: RunDirectory,
    asked: Adaptation,
    adapter: Adapter,
    loaded: LoadedModel,
    learned: Learned,
    examination: Examination,
    adapted: Examined,
    screen: Screen,
) -> None:
    """Write everything, the final figures last, and say what came of it."""
    place = _save(run, adapter, loaded)
    text = to_text(adapter) if _fits_a_line(adapter) else None
    gains = _gains(asked, examination, adapted)
    figures: dict[str, Any] = {
        "finished": True,
        "tasks": list(examination.figures),
        "adapter": write_adapter(adapter.config),
        "adapter_parameters": adapter.n_parameters,
        "adapter_text": text,
        "adapter_bytes": sum(path.stat().st_size for path in place.iterdir()),
        "base": asked.base,
        "base_hash": adapter.base_hash,
        "by": asked.by.type,
        "gains": [gain for _, _, gain in gains],
        "step": learned.steps,
        "seconds": round(learned.seconds, 3),
        "tokens": learned.symbols,
        "ended": learned.ended,
    }
    run.write_final_metrics(figures)
    write_report(run.path)
    _say(run, asked, place, text, examination, adapted, gains, screen)


def _save(run: RunDirectory, adapter: Adapter, loaded: LoadedModel) -> Path:
    if isinstance(adapter.config, FullConfig):
        save_model(run.model, adapter.model, loaded.tokenizer)
        return run.model
    place = run.path / "adapter"
    save_adapter(place, adapter)
    return place


def _gains(
    asked: Adaptation, examination: Examination, adapted: Examined
) -> Sequence[tuple[str, str, dict[str, float | int | str]]]:
    """Return (against whom, told, plain values) of every comparison that was asked for."""
    told = []
    for who in (BASE, CONTROL):
        other = examination.find(who)
        for score in adapted.grades if other is not None else ():
            assert other is not None
            gain = compare(adapted, other, score, asked.seed)
            plain = {"against": who, "score": score, "p": gain.p, **gain.difference.as_dict()}
            told.append((who, f"{score:<{max(map(len, adapted.grades))}} {gain}", plain))
    return told


def _say(
    run: RunDirectory,
    asked: Adaptation,
    place: Path,
    text: str | None,
    examination: Examination,
    adapted: Examined,
    gains: Sequence[tuple[str, str, dict[str, float | int | str]]],
    screen: Screen,
) -> None:
    exam = examination.exam
    sat = [seen for who in (BASE, CONTROL, ADAPTED) if (seen := examination.find(who)) is not None]
    for part, called in exam.parts.items():
        rows = [[seen.who, *(_interval(seen, score_name(score, part)) for score in exam.scores)] for seen in sat]
        screen.show_table(f"{asked.task}, {adapted.n} {called}, per cent", rows, ("", *exam.scores.values()))
    for against in (BASE, CONTROL):
        lines = [line for who, line, _ in gains if who == against]
        if lines:
            screen.say(f"adapted against {against}:")
            for line in lines:
                screen.say(f"  {line}")
    size = sum(path.stat().st_size for path in place.iterdir())
    screen.say(f"{place}: {format_bytes(size)}. Report: {run.report}")
    what = f"smidgen chat {place}" if place == run.model else f"smidgen chat {asked.base} --adapter {place}"
    screen.say(f"Talk with it: {what}")
    if text is not None:
        screen.say(text)


def _interval(seen: Examined, score: str) -> str:
    estimate = seen.estimate(score)
    value, low, high = (100 * share for share in (estimate.value, estimate.low, estimate.high))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"
