"""Measure this machine in a few seconds, and remember it on disk.

Real training steps of four small shapes, each heavy in another cause of time, give the price of each cause. On a busy
or slow machine fewer steps are taken, and no price is believed that would beat the machine's own peak.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch.nn import functional as F

from smidgen.errors import RunError
from smidgen.models import build_model
from smidgen.models.attention import AttentionConfig
from smidgen.models.layers import ReLU2Config
from smidgen.models.llama import LlamaConfig
from smidgen.models.stack import StackConfig
from smidgen.planning.fitting import fit_nonnegative
from smidgen.planning.machine import MachineFacts, StepCosts, work_per_symbol
from smidgen.planning.presets import kv_heads_for
from smidgen.runs import atomic_write
from smidgen.runtime import Runtime, cache_home, describe_hardware

_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
_VERSION = 3  # of what is measured; a change forgets what older code remembered
_RESERVE = 0.9  # share of the free memory a run may plan with
_BUSY = 1.4  # two measurements of one product further apart than this mean that somebody else computes
_MEASURE_SECONDS = 0.4  # repeated for so long, at least twice
_ALL_SECONDS = 6.0  # after so long in all, what is left to measure is called only twice


def measure_machine(runtime: Runtime, refresh: bool = False) -> MachineFacts:
    """Return what is remembered of this machine, dtype and torch; measure if there is nothing (or `refresh`).

    Memory is always asked anew. What was measured on a busy machine is used but not remembered; that, and a cache
    that cannot be written, is said in `note`.
    """
    path = _cache_path(runtime)
    remembered = None if refresh else _read(path)
    if remembered is not None:
        return replace(remembered, memory_bytes=free_memory(runtime.device))
    facts = _measure(runtime)
    return facts if facts.note else _write(path, facts)


def remembered_machine(runtime: Runtime) -> MachineFacts | None:
    """Return what is remembered of this machine, dtype and torch, measuring nothing."""
    return _read(_cache_path(runtime))


def remember_run(
    runtime: Runtime, facts: MachineFacts, predicted: float, achieved: float, compile_seconds: float | None = None
) -> MachineFacts:
    """Correct later predictions by the symbols per second a run really reached, and by what its compiling took.

    Each is the mean in logarithms of what was believed and what was seen, so that one odd run counts half.
    """
    ratio = facts.correction * achieved / predicted
    correction = (facts.correction * min(max(ratio, 0.1), 10.0)) ** 0.5
    compiling = facts.compile_seconds
    if compile_seconds is not None:
        compiling = (compiling * min(max(compile_seconds, 1.0), 600.0)) ** 0.5
    return _write(_cache_path(runtime), replace(facts, correction=correction, compile_seconds=compiling))


def free_memory(device: torch.device) -> int:
    """Return the bytes a run may plan with: free GPU memory, or available RAM within the container's limit."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * _RESERVE)
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    info = Path("/proc/meminfo")
    if info.exists():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        available = int(lines["MemAvailable"].split()[0]) * 1024
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        available = min(available, int(text))
    return int(available * _RESERVE)


def _measure(runtime: Runtime) -> MachineFacts:
    hardware = describe_hardware()
    gpu = runtime.device.type == "cuda"
    until = time.perf_counter() + _ALL_SECONDS
    before = _matmul_flops(runtime, until)
    costs = _step_costs(runtime, before, until)
    after = _matmul_flops(runtime, until)
    slower, faster = sorted((before, after))
    busy = (
        f"this machine was busy while it was measured ({slower / 1e12:.2f} to {faster / 1e12:.2f} TFLOP/s): "
        "expect the times to be off, and plan again when it is quiet."
    )
    return MachineFacts(
        name=str(hardware["gpu"] if gpu else hardware["cpu"]),
        device=runtime.device.type,
        dtype=_NAMES[runtime.dtype],
        threads=torch.get_num_threads(),
        memory_bytes=free_memory(runtime.device),
        matmul_flops=faster,
        bandwidth=_bandwidth(runtime, until),
        costs=costs,
        compiles=gpu or (runtime.device.type == "cpu" and _has_compiler()),
        note=busy if faster > _BUSY * slower else "",
    )


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def _matmul_flops(runtime: Runtime, until: float) -> float:
    size = 8192 if runtime.device.type == "cuda" else 2048
    left, right = (torch.ones(size, size, device=runtime.device, dtype=runtime.dtype) for _ in range(2))
    return 2 * size**3 / _seconds(lambda: left @ right, runtime.device, until)


def _bandwidth(runtime: Runtime, until: float) -> float:
    values = torch.ones(2**28 if runtime.device.type == "cuda" else 2**26, device=runtime.device)
    return 4 * values.numel() / _seconds(lambda: values.sum(), runtime.device, until)


def _step_costs(runtime: Runtime, peak: float, until: float) -> StepCosts:
    """Fit the price of each cause on four shapes, after taking off what launching the blocks costs."""
    scale = 16 if runtime.device.type == "cuda" else 1
    shapes = {  # (config, context, rows)
        "matrices": (_shape(512, 2, 2048, 1024), 256, 4 * scale),
        "values": (_shape(256, 4, 1024, 2048), 512, 4 * scale),
        "attention": (_shape(256, 2, 512, 512), 1024, 4 * scale),
        "logits": (_shape(128, 1, 512, 8192), 256, 4 * scale),
    }
    launches = _shape(64, 8, 64, 64)
    per_block = _training_seconds(launches, 16, 1, runtime, until) / len(launches.stack.layers)
    causes, effects = [], []
    for config, context, rows in shapes.values():
        seconds = _training_seconds(config, context, rows, runtime, until) - len(config.stack.layers) * per_block
        causes.append([rows * context * amount for amount in work_per_symbol(config, context)])
        effects.append(max(seconds, 1e-5))
    return StepCosts(*_prices(causes, effects, least=1 / peak), per_block)


def _prices(causes: list[list[float]], effects: list[float], least: float) -> tuple[float, float, float]:
    """Return the prices of a matrix FLOP (`least` at the least), an attention FLOP and a value that explain effects.

    A noisy measurement can be explained best by free products, and a large model would then seem to cost nothing.
    """
    per_flop, per_attention_flop, per_value = fit_nonnegative(causes, effects)
    if per_flop < least:
        rest = [max(effect - least * row[0], 0.1 * effect) for row, effect in zip(causes, effects, strict=True)]
        per_flop, (per_attention_flop, per_value) = least, fit_nonnegative([row[1:] for row in causes], rest)
    return per_flop, per_attention_flop, per_value


def _shape(d_model: int, depth: int, d_ff: int, vocab_size: int) -> LlamaConfig:
    n_heads = d_model // 64
    attention = AttentionConfig(n_heads=n_heads, n_kv_heads=kv_heads_for(n_heads), qk_norm=True)
    stack = StackConfig(
        d_model=d_model,
        layers=tuple(range(depth)),
        attention=attention,
        mlp=ReLU2Config(d_ff=d_ff),
        residual_scalars=True,
    )
    return LlamaConfig(vocab_size=vocab_size, max_seq_len=1024, logit_softcap=20.0, stack=stack)


def _training_seconds(config: LlamaConfig, context: int, rows: int, runtime: Runtime, until: float) -> float:
    model = build_model(config, device=runtime.device)
    model.compute_dtype = runtime.dtype
    ids = torch.zeros(rows, context, dtype=torch.long, device=runtime.device)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).backward()

    return _seconds(step, runtime.device, until)


def _seconds(function: Callable[[], object], device: torch.device, until: float) -> float:
    """Return the fewest seconds of a call: what else the machine does only ever adds.

    Two calls are not counted; then up to ten within the time, at least two. After `until`, one call and one more.
    """
    times: list[float] = []
    for _ in range(12):
        _wait(device)
        start = time.perf_counter()
        function()
        _wait(device)
        times.append(time.perf_counter() - start)
        if len(times) >= 4 and sum(times[2:]) > _MEASURE_SECONDS:
            break
        if len(times) >= 2 and time.perf_counter() > until:
            break
    return min(times[2:] or times[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _cache_path(runtime: Runtime) -> Path:
    hardware = describe_hardware()
    parts = (_VERSION, hardware["cpu"], hardware["gpu"], torch.get_num_threads(), torch.__version__)
    text = "|".join(map(str, (*parts, runtime.device.type, _NAMES[runtime.dtype])))
    return cache_home() / f"machine-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _read(path: Path) -> MachineFacts | None:
    """Return remembered facts; anything unreadable counts as not remembered and is measured again."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return MachineFacts(**{**stored, "costs": StepCosts(**stored["costs"]), "note": ""})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(path: Path, facts: MachineFacts) -> MachineFacts:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(asdict(facts), indent=2) + "\n")
    except (OSError, RunError) as error:
        return replace(facts, note=f"the measurement could not be kept and will be repeated: {error}")
    return facts
