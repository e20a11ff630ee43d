"""The container of a GGUF file: metadata and where each tensor lies, every length checked against the file's size.

Own reading, because the `gguf` library's reader takes 2.4 s for a vocabulary of 49k symbols (this one 0.1 s) and meets
a truncated file with whatever numpy raises; turning quantized blocks into numbers is the library's.
Format: ggml docs/gguf.md, versions 2 and 3, little-endian.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from smidgen.checkpoint.tensors import refuse_pickle
from smidgen.errors import CheckpointError, MissingExtraError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_TYPE_F32, _TYPE_F16, _TYPE_BF16 = 0, 1, 30
_MAX_DIMENSIONS = 4


class GGUFTensor(NamedTuple):
    """One tensor of the file."""

    shape: tuple[int, ...]
    """Slowest dimension first, as torch has it; the file says it the other way round."""
    type: int
    """ggml's number of the storage type."""
    start: int
    """First byte in the file."""
    n_bytes: int
    """Bytes it takes there."""


@dataclass(frozen=True)
class GGUFFile:
    """A GGUF file, opened."""

    path: Path
    metadata: dict[str, Any]
    """Every key; arrays of numbers as numpy arrays, arrays of strings as lists."""
    tensors: dict[str, GGUFTensor]
    content: mmap.mmap

    def read(self, name: str) -> np.ndarray:
        """Return a tensor as fp32 numbers (fp16 stays fp16, which holds the same numbers in half the space)."""
        from gguf.quants import dequantize

        tensor = self.tensors[name]
        raw = np.frombuffer(self.content, np.uint8, tensor.n_bytes, tensor.start)
        if tensor.type == _TYPE_F16:
            return raw.view(np.float16).reshape(tensor.shape)
        if tensor.type == _TYPE_F32:
            return raw.view(np.float32).reshape(tensor.shape)
        try:
            return dequantize(raw.reshape(*tensor.shape[:-1], -1), _quantization_type(tensor.type))
        except NotImplementedError:
            kind = _quantization_type(tensor.type).name
            raise CheckpointError(f"{self.path}: {name} is stored as {kind}, which cannot be read.") from None


class _Cursor:
    """Reads forward through the file; whatever would reach past its end is reported as truncation."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self.path, self.content, self.position = path, content, 0

    def take(self, n_bytes: int) -> int:
        start, self.position = self.position, self.position + n_bytes
        if self.position > len(self.content):
            raise CheckpointError(
                f"{self.path}: is truncated or damaged: {len(self.content)} bytes, but its header goes on. "
                "Download it again."
            )
        return start

    def scalar(self, code: str) -> Any:
        return struct.unpack_from(f"<{code}", self.content, self.take(struct.calcsize(f"<{code}")))[0]

    def string(self) -> str:
        length = self.scalar("Q")
        start = self.take(length)
        try:
            return self.content[start : start + length].decode()
        except UnicodeDecodeError:
            raise self.damage("a name or symbol is not UTF-8") from None

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            item, length = self.scalar("I"), self.scalar("Q")
            if item == _STRING:
                self.take(0 if length * 8 <= len(self.content) - self.position else length * 8)
                return [self.string() for _ in range(length)]
            if item not in _SCALARS:
                raise self.damage(f"arrays of type {item} are unknown")
            dtype = np.dtype(_SCALARS[item]).newbyteorder("<")
            return np.frombuffer(self.content, dtype, length, self.take(length * dtype.itemsize))
        if kind not in _SCALARS:
            raise self.damage(f"values of type {kind} are unknown")
        return self.scalar(_SCALARS[kind])

    def damage(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: is damaged at byte {self.position}: {what}. Download it again.")


def open_gguf(path: Path) -> GGUFFile:
    """Read the header of a GGUF file and check that all its tensors are there.

    Raises CheckpointError if it is no GGUF file, truncated or damaged.
    """
    try:
        import gguf  # noqa: F401 (needed by `read`; better missed now than after the header)
    except ImportError:
        raise MissingExtraError("Reading GGUF files", "gguf") from None
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if magic == b"GGUF" else None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}.") from None
    if content is None:
        refuse_pickle(path)
        raise CheckpointError(f"{path}: is no GGUF file (it begins with {magic!r}).")
    cursor = _Cursor(path, content)
    cursor.take(4)
    version = cursor.scalar("I")
    if version not in (2, 3):
        raise CheckpointError(f"{path}: GGUF version {version} is not supported, only 2 and 3.")
    n_tensors, n_values = cursor.scalar("Q"), cursor.scalar("Q")
    metadata = {}
    for _ in range(n_values):
        key = cursor.string()
        metadata[key] = cursor.value(cursor.scalar("I"))
    tensors = _read_tensors(cursor, n_tensors, metadata.get("general.alignment", 32))
    return GGUFFile(path, metadata, tensors, content)


def _read_tensors(cursor: _Cursor, n_tensors: int, alignment: Any) -> dict[str, GGUFTensor]:
    tensors: dict[str, GGUFTensor] = {}
    if not isinstance(alignment, int) or alignment < 1:
        raise cursor.damage(f"an alignment of {alignment!r}")
    for _ in range(n_tensors):
        name, n_dimensions = cursor.string(), cursor.scalar("I")
        if not 1 <= n_dimensions <= _MAX_DIMENSIONS:
            raise cursor.damage(f"{name} has {n_dimensions} dimensions")
        shape = tuple(cursor.scalar("Q") for _ in range(n_dimensions))[::-1]
        kind, offset = cursor.scalar("I"), cursor.scalar("Q")
        tensors[name] = GGUFTensor(shape, kind, offset, _stored_bytes(cursor, name, shape, kind))
    base = -(-cursor.position // alignment) * alignment
    placed = {name: tensor._replace(start=base + tensor.start) for name, tensor in tensors.items()}
    end = max((tensor.start + tensor.n_bytes for tensor in placed.values()), default=base)
    if end > len(cursor.content):
        raise CheckpointError(
            f"{cursor.path}: is truncated: {len(cursor.content):,} of {end:,} bytes are there. Download it again."
        )
    return placed


def _stored_bytes(cursor: _Cursor, name: str, shape: tuple[int, ...], kind: int) -> int:
    from gguf.constants import GGML_QUANT_SIZES

    try:
        block, size = GGML_QUANT_SIZES[_quantization_type(kind)]
    except (ValueError, KeyError):
        raise cursor.damage(f"{name} is stored as type {kind}, which is unknown") from None
    if shape[-1] % block:
        raise cursor.damage(f"rows of {shape[-1]} in {name} do not fill blocks of {block}")
    return math.prod(shape) // block * size


def _quantization_type(kind: int) -> Any:
    from gguf.constants import GGMLQuantizationType

    return GGMLQuantizationType(kind)
