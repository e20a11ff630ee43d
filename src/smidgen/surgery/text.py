"""The adapter string: a whole adapter as a line of text, to be pasted into a message, a URL, a header, a model's name.

    smidgen-adapter:1:<base>:tinylora:r2:u1:g13:tiled:s0:bf16:<check>:<numbers>

Base: fingerprint of the model it belongs to. Then all that it takes to build the adapter again, the dtype of the
numbers, a checksum of everything else, and the numbers, little-endian, in base64url: 26 bytes for 13 in bf16. Nothing
in it has to be escaped in a URL. Updates are carried in bf16; factors, which begin as 1, in fp32 (`text_dtype`).
"""

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from smidgen.config import validate_config
from smidgen.errors import CheckpointError, ConfigError
from smidgen.models import Model
from smidgen.surgery.adapter import Adapter, attach, check_finite, count_numbers
from smidgen.surgery.config import ADAPTERS, AdapterConfig, FullConfig, Ia3Config, TinyLoraConfig
from smidgen.surgery.fingerprint import model_fingerprint

PREFIX = "smidgen-adapter"
_VERSION = "1"
_LONGEST = 8000
"""Characters; what HTTP servers take as one header."""

_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_LETTERS = {"r": "r", "u": "u", "groups": "g", "seed": "s", "alpha": "a"}
_FIELDS = {letter: field for field, letter in _LETTERS.items()}
_FLAG = "rs"
"""Stands for rank_stabilized."""
_MAPS = "maps"
_SETTING = re.compile(r"([a-z])([0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?)")


@dataclass(frozen=True)
class AdapterText:
    """An adapter string, taken apart and found whole."""

    base: str
    """Fingerprint of the model it belongs to."""
    config: AdapterConfig
    """What it takes to build the adapter."""
    numbers: Float[Tensor, " n"]
    """The trained numbers, in fp32: for TinyLoRA the vector that a row may bring."""


def text_dtype(config: AdapterConfig) -> torch.dtype:
    """Return the dtype that an adapter's numbers are told in: bf16, which keeps 8 significant bits of an update.

    Of a factor it would keep next to none: from 1 the next one is 1.008, and of 240 factors trained to 1 +- 0.0015 nine
    in ten became 1 again. So those are told in fp32.
    """
    return torch.float32 if isinstance(config, Ia3Config) else torch.bfloat16


def to_text(adapter: Adapter, dtype: torch.dtype | None = None) -> str:
    """Return the adapter string, its numbers in `text_dtype` unless one is named; in fp32 they are exact.

    Raises CheckpointError if a number is not finite, ConfigError if the adapter is too large to be a line of text or
    rests on factors from a file.
    """
    config = adapter.config
    dtype = dtype or text_dtype(config)
    if isinstance(config, FullConfig) or (isinstance(config, TinyLoraConfig) and config.stored):
        why = "trained the whole model" if isinstance(config, FullConfig) else "rests on frozen factors from a file"
        raise ConfigError(f"this adapter {why}: no line of text can carry it. Save it as a directory.")
    name = next((name for name, known in _DTYPES.items() if known == dtype), None)
    if name is None:
        raise ConfigError(f"adapter strings carry {' or '.join(_DTYPES)}, not {dtype}.")
    if dtype != torch.float32 == text_dtype(config):
        raise ConfigError(f"{config.type} trains factors near 1, which {name} cannot tell apart. Write them in fp32.")
    n = adapter.n_parameters
    if n * dtype.itemsize * 4 / 3 > _LONGEST:
        raise ConfigError(f"{n:,} numbers are no line of text: {_LONGEST} characters at most. Save a directory.")
    check_finite(adapter.weights)
    numbers = torch.cat([weight.detach().flatten().cpu() for weight in adapter.weights.values()]).to(dtype)
    check_finite({f"numbers in {name}": numbers})
    payload = base64.urlsafe_b64encode(_to_bytes(numbers)).decode().rstrip("=")
    head = ":".join([PREFIX, _VERSION, adapter.base_hash, config.type, *_settings(config), name])
    return f"{head}:{_checksum(head, payload)}:{payload}"


def read_text(text: str) -> AdapterText:
    """Take an adapter string apart; white space that a message has put in is no harm.

    Raises CheckpointError if it is damaged or of a newer kind.
    """
    text = "".join(text.split())
    parts = text.split(":")
    if parts[0] != PREFIX or len(parts) < 7:
        raise CheckpointError(f"{_shown(text)} is no adapter string: those begin with {PREFIX}:{_VERSION}: and a base.")
    if parts[1] != _VERSION:
        raise CheckpointError(f"{_shown(text)} is an adapter string of kind {parts[1]}; this smidgen reads {_VERSION}.")
    *head, check, payload = parts
    _, _, base, kind, *settings, dtype = head
    if check != _checksum(":".join(head), payload):
        raise CheckpointError(f"{_shown(text)} is damaged: its checksum does not fit. Copy the whole string again.")
    try:
        numbers = _from_bytes(base64.b64decode(payload + "=" * (-len(payload) % 4), b"-_", True), _DTYPES[dtype])
        config = _read_settings(kind, settings)
        if isinstance(config, FullConfig):
            raise ValueError("a whole model is no line of text")
    except (KeyError, ValueError, binascii.Error, ConfigError):
        raise CheckpointError(f"{_shown(text)} says nothing that this smidgen understands.") from None
    check_finite({"vector": numbers})
    return AdapterText(base, config, numbers.float())


def from_text(text: str, model: Model) -> Adapter:
    """Attach the adapter that a string describes to the model it belongs to, in place.

    Raises CheckpointError, the model unchanged, if the string is damaged or belongs to another base; ConfigError if it
    asks for maps or a rank that the model has not.
    """
    read = read_text(text)
    check_base(read.base, model_fingerprint(model), "this adapter string")
    needed = count_numbers(model, read.config)  # before anything of the size that it asks for is made
    if len(read.numbers) != needed:
        raise CheckpointError(f"the string has {len(read.numbers)} numbers; {needed:,} are needed.")
    adapter = attach(model, read.config)
    try:
        pieces = read.numbers.split([weight.numel() for weight in adapter.weights.values()])
        state = zip(adapter.weights.items(), pieces, strict=True)
        adapter.load_state({name: piece.view(weight.shape) for (name, weight), piece in state})
    except CheckpointError:
        adapter.remove()
        raise
    return adapter


def check_base(wanted: str, found: str, what: str) -> None:
    """Raise CheckpointError if an adapter belongs to another base than this one."""
    if wanted != found:
        raise CheckpointError(
            f"{what} belongs to base {wanted}; this model is {found}. "
            "Load the model it was trained on, in the dtype it was trained in."
        )


def _settings(config: AdapterConfig) -> list[str]:
    """Write every field out: a default that changes later must not change what an old string means."""
    settings = []
    for field, value in config.model_dump(exclude={"type", "parameters", "stored"}).items():
        if field == "maps":
            settings += [] if value is None else ["~".join([_MAPS, *value])]
        elif isinstance(value, bool):
            settings += [_FLAG] if value else []
        elif value is not None:
            settings.append(f"{_LETTERS[field]}{value}" if field in _LETTERS else value)
    return settings


def _read_settings(kind: str, settings: list[str]) -> AdapterConfig:
    """Read settings; raises KeyError, ValueError or ConfigError where they say nothing."""
    fields: dict[str, Any] = {"type": kind, **({"maps": None} if "maps" in ADAPTERS[kind].model_fields else {})}
    for setting in settings:
        if setting == _FLAG:
            fields["rank_stabilized"] = True
        elif setting.startswith(f"{_MAPS}~"):
            fields["maps"] = setting.split("~")[1:]
        elif match := _SETTING.fullmatch(setting):
            fields[_FIELDS[match[1]]] = json.loads(match[2])
        else:
            fields["order"] = setting
    return validate_config(fields, ADAPTERS[kind], where="adapter string")  # pyright: ignore[reportReturnType]


def _checksum(head: str, payload: str) -> str:
    return hashlib.sha256(f"{head}:{payload}".encode()).hexdigest()[:8]


def _to_bytes(numbers: Tensor) -> bytes:
    code = torch.int16 if numbers.dtype == torch.bfloat16 else torch.int32
    return numbers.view(code).numpy().astype(f"<i{numbers.itemsize}", copy=False).tobytes()


def _from_bytes(data: bytes, dtype: torch.dtype) -> Tensor:
    codes = np.frombuffer(data, dtype=f"<i{dtype.itemsize}")
    return torch.from_numpy(codes.astype(codes.dtype.newbyteorder("="))).view(dtype)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
