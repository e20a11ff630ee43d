"""Device, dtype, rank and threads: decided once, here, and passed in. Nothing else asks the machine what it is."""

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from smidgen.errors import ConfigError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD, _M_ARENA_MAX = -3, -1, -8  # glibc malloc.h
_LONGEST_SILENCE = timedelta(hours=1)  # the first process measures held-out text while the others wait in a collective
_BETWEEN_LOOKS = timedelta(seconds=1)


@dataclass(frozen=True)
class Runtime:
    """Where a process computes."""

    device: torch.device
    dtype: torch.dtype
    """Dtype of activations; weights in training stay fp32."""
    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0


def open_runtime(precision: str = "auto", device: str | None = None) -> Runtime:
    """Choose device and dtype, and join the process group when started by `torchrun`.

    Raises ConfigError if the asked device or precision does not exist here.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    chosen = _choose_device(device)
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_LONGEST_SILENCE)
    if chosen.type == "cpu":
        keep_large_blocks()
    return Runtime(chosen, choose_dtype(precision, chosen), rank, world)


def cache_home() -> Path:
    """Return where what can be had again is kept: $SMIDGEN_CACHE, or `smidgen` below $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("SMIDGEN_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "smidgen"


def tell_others(runtime: Runtime, word: str) -> None:
    """Say one word to every other process; each hears it with `hear_first`."""
    if runtime.world > 1:
        _store().set("word", word)


def hear_first(runtime: Runtime) -> str:
    """Wait for the word of the first process, however long it takes.

    No collective does that: its timeout would end a preparation of hours, and Python heeds no signal meanwhile.
    """
    while True:
        try:
            _store().wait(["word"], _BETWEEN_LOOKS)
        except dist.DistStoreError:  # not yet
            continue
        word = _store().get("word").decode()
        if _store().add("heard", 1) == runtime.world - 1:  # what was heard by all must not be heard again
            _store().delete_key("word")
            _store().delete_key("heard")
        return word


def _store() -> dist.Store:
    """Return what the processes of a group can all read and write: the store they found each other by."""
    return dist.distributed_c10d._get_default_store()


def close_runtime() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _choose_device(name: str | None) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"device {name!r} is not a device. Try cpu, cuda, cuda:1 or mps.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"device {name!r} was asked for, but this machine shows no Metal device. Try cpu.")
    if device.type != "cuda":
        return device
    # Without a number each process of a `torchrun` takes its own.
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index)
    if device.index >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r} was asked for; this machine shows {torch.cuda.device_count()} CUDA devices."
        )
    torch.cuda.set_device(device)
    return device


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Resolve "auto" to the fastest safe dtype: bf16 where the processor multiplies it, fp16 on old GPUs, else fp32."""
    if precision != "auto":
        return _DTYPES[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu":
        return torch.bfloat16 if cpu_multiplies_bf16() else torch.float32
    return torch.float32


def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has bf16 dot products (AVX-512 BF16 or AMX); without them bf16 is emulated and slower."""
    capabilities = torch.backends.cpu.get_cpu_capability()
    flags = _cpu_flags()
    return capabilities.startswith("AVX512") and bool({"avx512_bf16", "amx_bf16"} & flags)


def _cpu_flags() -> set[str]:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return set()
    line = next((line for line in info.read_text().splitlines() if line.startswith("flags")), "")
    return set(line.partition(":")[2].split())


def keep_large_blocks() -> None:
    """Let glibc keep freed blocks up to 1 GiB instead of returning them to the kernel, of all threads in one place.

    A tensor above 32 MiB is otherwise mapped, page-faulted and unmapped at every use: a third of the speed
    (measured.md, Ceiling). So is any above a thread's own 64 MiB. Does nothing on other C libraries.
    """
    if _has_glibc():
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> None:
    """Give what is freed, and kept by `keep_large_blocks`, back to the kernel: 1 to 15 ms, and what is touched again
    is faulted again. Does nothing on other C libraries."""
    if _has_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _has_glibc() -> bool:
    return sys.platform == "linux" and platform.libc_ver()[0] == "glibc"


def describe_hardware() -> dict[str, str | int]:
    """Return what a result was measured on, for logs and reports."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    info = Path("/proc/cpuinfo")
    names = [x for x in info.read_text().splitlines() if x.startswith("model name")] if info.exists() else []
    cpu = names[0].partition(":")[2].strip() if names else platform.processor()
    features = sorted({"avx512f", "avx512_bf16", "amx_bf16", "avx2"} & _cpu_flags())
    return {
        "cpu": cpu,
        "cpu_features": " ".join(features),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "gpu": device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(terse=True),
    }
