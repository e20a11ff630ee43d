"""One cell of a study, in a process of its own: an ordinary run, then the study's measures of what it made.

    python -m smidgen.study.cell STUDY_DIRECTORY CELL [DEVICE]

Whatever happens here, a crash or the end of memory, costs this cell alone.
"""

import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from smidgen.checkpoint import load_model
from smidgen.errors import RunError, SmidgenError
from smidgen.evaluation.bits_per_byte import bits_per_byte_of_symbols
from smidgen.journey.clock import Clock
from smidgen.journey.material import Shared, open_material
from smidgen.journey.request import Request
from smidgen.journey.screen import Screen
from smidgen.journey.train import train
from smidgen.models.stats import count_effective, count_parameters, weight_bytes
from smidgen.recipe import load_recipe, training_flops
from smidgen.runs import RunDirectory, read_records
from smidgen.runtime import open_runtime
from smidgen.study.layout import StudyDirectory, write_json
from smidgen.study.text import hold_out

_LOCK_SECONDS = 60.0
"""How long a cell waits for its own earlier process to save and leave."""


def run_cell(directory: StudyDirectory, key: str, device: str | None, screen: Screen) -> bool:
    """Train and measure a cell; return whether it came to its end. One that was stopped goes on when run again."""
    plan = directory.read_plan()
    told = plan["cells"][key]
    run = directory.run(key)
    _wait_for(run)
    shared = Shared(directory.text(told["text"]).path, plan["study"]["curve_bytes"])
    request = Request((str(directory.recipe(key)),), out=directory.runs, device=device, shared=shared)
    train(request, screen, Clock())
    if not run.is_finished:
        return False
    figures = measure(run, plan["study"]["validation_bytes"], device)
    write_json(directory.record(key), {"status": "finished", **told, "jobs": plan["jobs"], **figures})
    shutil.rmtree(run.checkpoints, ignore_errors=True)  # a finished run has no use for them, and a study has many
    return True


def measure(run: RunDirectory, validation_bytes: int, device: str | None) -> dict[str, Any]:
    """Return what a study says of a finished run, measured on the directory that ships."""
    recipe, final, resolved, material = (
        load_recipe(run.recipe),
        run.read_final_metrics(),
        run.read_resolved(),
        open_material(run),
    )
    runtime = open_runtime(device=device)
    shipped = load_model(run.model, dtype=runtime.dtype, device=runtime.device)
    held = hold_out(material, validation_bytes)
    measured = bits_per_byte_of_symbols(shipped.model, shipped.tokenizer, held.documents)
    ships = shipped.model.config  # without heads that only teach
    symbols, seconds = final["tokens"], max(final["seconds"], 1e-9)
    each = training_flops(recipe)
    bytes_per_symbol = resolved["data"]["bytes_per_symbol"]
    return {
        "bits_per_byte": measured.bits_per_byte,
        "validation": {
            **measured.as_dict(),
            "digest": held.digest,
            "asked_bytes": validation_bytes,
            "document_nats": [round(nats, 4) for nats in measured.document_nats],
            "document_bytes": list(measured.document_bytes),
        },
        "parameters": count_parameters(ships).total,
        "effective_parameters": count_effective(ships).total,
        "file_bytes": final["file_bytes"],
        "int8_bytes": final["file_bytes"] - weight_bytes(ships, "bf16") + weight_bytes(ships, "int8"),
        "seconds": final["seconds"],
        "steps": final["step"],
        "symbols": symbols,
        "bytes_per_symbol": bytes_per_symbol,
        "text_bytes": round(symbols * bytes_per_symbol),
        "bytes_per_second": round(symbols * bytes_per_symbol / seconds, 1),
        "flops": each * symbols,
        "memory_bytes": final["memory_bytes"],
        "epochs": final["epochs"],
        "curve": _curve(run),
        "versions": resolved["versions"],
        "git_commit": resolved["git_commit"],
        "hardware": resolved["hardware"],
    }


def _curve(run: RunDirectory) -> list[tuple[float, float]]:
    """Return (share of the budget, bits per byte) as measured on the way."""
    log = [record for record in read_records(run.metrics) if record["kind"] == "validation"]
    return [(record["share"], record["bits_per_byte"]) for record in log if record["bits_per_byte"] is not None]


def _wait_for(run: RunDirectory) -> None:
    """Wait while the process of a study that was killed saves this very run and leaves. Raises RunError if it stays."""
    if not run.is_started:
        return
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            with run.lock():
                return
        except RunError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def _leave_with(parent: int) -> None:
    """Stop, and save, as soon as the study's process is gone: a killed study leaves nobody at work."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    """Carry out the cell named on the command line."""
    place, key, *device = sys.argv[1:]
    _leave_with(os.getppid())
    try:
        run_cell(StudyDirectory(Path(place)), key, device[0] if device else None, Screen())
    except SmidgenError as error:
        print(f"smidgen: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
