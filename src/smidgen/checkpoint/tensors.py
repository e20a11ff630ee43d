"""Named tensors in safetensors files, and the refusal of everything else that might be offered as weights.

Written here tensor by tensor, so that saving needs no second copy of the model, shared tensors need no cloning and
the digest is ready when the last byte is; read through the `safetensors` library. Nothing is ever unpickled.
Format: safetensors README: u64 header length, JSON header, then the bytes of all tensors without holes.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from smidgen.errors import CheckpointError

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
"""Names under which pickles are offered as models."""


@dataclass(frozen=True)
class TensorSource:
    """Tensors that can be listed without being read: a safetensors file, its shards, or a GGUF file."""

    where: str
    """What to name in an error."""
    shapes: Mapping[str, tuple[int, ...]]
    """Shape of every tensor."""
    dtypes: Mapping[str, torch.dtype]
    """Dtype in which `read` returns each."""
    read: Callable[[str], Tensor]
    """Return one tensor, which may be backed by the file: copy it before the file can change."""


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], dtype: torch.dtype | None = None
) -> str:
    """Write tensors to a safetensors file and return its sha256; `dtype` casts the floating ones on the way."""
    targets = {name: dtype if dtype and t.is_floating_point() else t.dtype for name, t in tensors.items()}
    # Wide dtypes first keeps every tensor aligned to its own size, which readers that map the file rely on.
    order = sorted(tensors, key=lambda name: (-targets[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        start, end = end, end + tensors[name].numel() * targets[name].itemsize
        shape = list(tensors[name].shape)
        header[name] = {"dtype": _NAMES[targets[name]], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        head = len(text).to_bytes(8, "little") + text
        file.write(head)
        digest.update(head)
        for name in order:
            piece = tensor_bytes(tensors[name].detach().to("cpu", targets[name]))
            file.write(piece.data)
            digest.update(piece.data)
    return digest.hexdigest()


def tensor_bytes(tensor: Tensor) -> np.ndarray:
    """Return the bytes of a CPU tensor, in row-major order."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorSource]:
    """Open a safetensors file for reading.

    Raises CheckpointError if it is a pickle under another name, truncated, or no safetensors file at all.
    """
    refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield TensorSource(str(path), *_listing(path, file), read=partial(_read_alone, path))
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}). Copy or download it again.") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}.") from None


def _read_alone(path: Path, name: str) -> Tensor:
    # Opened anew for each: an open file keeps every page in memory that was read, beside a 135M model in bf16 538 MB.
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name)


def _listing(path: Path, file: Any) -> tuple[dict[str, tuple[int, ...]], dict[str, torch.dtype]]:
    shapes, dtypes = {}, {}
    for name in file.keys():  # noqa: SIM118 (the library's handle is no mapping)
        part = file.get_slice(name)
        if part.get_dtype() not in _DTYPES:
            raise CheckpointError(f"{path}: {name} is stored as {part.get_dtype()}, which is not supported.")
        shapes[name] = tuple(part.get_shape())
        dtypes[name] = _DTYPES[part.get_dtype()]
    return shapes, dtypes


def refuse_pickle(path: Path) -> None:
    """Raise CheckpointError if a file is a pickle by its name or, whatever its name, by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}.") from None
    # torch.save writes a zip ("PK") or a bare pickle (0x80). A safetensors header of the right length may start with
    # the same bytes, but its ninth is always "{".
    looks_pickled = head[8:] != b"{" and head[:1] in (b"\x80", b"P") and (head[:1] == b"\x80" or head[:2] == b"PK")
    if path.suffix in PICKLE_SUFFIXES or looks_pickled:
        raise CheckpointError(
            f"{path} is a pickle: reading one runs whatever code its author put in. Refused. "
            "Ask for the safetensors file, or convert it on a machine you do not mind losing."
        )
