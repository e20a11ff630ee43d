"""Adapters in files: our own directory, small as what it says, and one way in for every form an adapter comes in.

    adapter.json          what kind, the fingerprint of its base, the digest of the other file
    adapter.safetensors   the trained numbers, in fp32, and whatever else the base and the seed do not tell

Thirteen numbers take less than 1 KB. It appears whole or not at all.
"""

import json
from pathlib import Path
from typing import Any

from smidgen.checkpoint.atomic import recover_directory, refuse_foreign, staged_directory
from smidgen.checkpoint.directory import file_sha256
from smidgen.checkpoint.peft import PEFT_CONFIG, load_peft
from smidgen.checkpoint.tensors import open_tensors, write_tensors
from smidgen.config import Config, validate_config
from smidgen.errors import CheckpointError, ConfigError
from smidgen.models import Model
from smidgen.surgery.adapter import Adapter, attach, check_finite
from smidgen.surgery.config import AdapterConfig, FullConfig
from smidgen.surgery.fingerprint import model_fingerprint
from smidgen.surgery.text import PREFIX, check_base, from_text

_JSON = "adapter.json"
_TENSORS = "adapter.safetensors"
_VERSION = 1


class _Record(Config):
    smidgen_adapter: int
    """Version of the format."""
    base: str
    """Fingerprint of the base."""
    adapter: AdapterConfig
    """What it takes to build it."""
    sha256: str
    """Digest of the tensors' file."""


def save_adapter(directory: Path, adapter: Adapter) -> None:
    """Write an adapter directory, replacing an older one.

    Raises CheckpointError, the old directory intact, if a number is not finite or it cannot be written; ConfigError
    after full training, which makes a model of its own.
    """
    if isinstance(adapter.config, FullConfig):
        raise ConfigError("full training makes a model of its own: save it with save_model.")
    directory = Path(directory)
    refuse_foreign(directory, (_JSON, _TENSORS), "an adapter")
    state = adapter.state()
    check_finite(state)
    with staged_directory(directory) as staging:
        record: dict[str, Any] = {
            "smidgen_adapter": _VERSION,
            "base": adapter.base_hash,
            "adapter": adapter.config.model_dump(mode="json"),
            "sha256": write_tensors(staging / _TENSORS, state, {}),
        }
        (staging / _JSON).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def load_adapter(source: str | Path, model: Model) -> Adapter:
    """Attach an adapter to the model it belongs to, in place: from our directory, a PEFT directory or a string.

    Raises CheckpointError, the model unchanged, if there is none, if it is damaged or belongs to another base.
    """
    if str(source).strip().startswith(f"{PREFIX}:"):
        return from_text(str(source), model)
    directory = Path(source)
    recover_directory(directory)
    if (directory / PEFT_CONFIG).is_file():
        return load_peft(directory, model)
    if not (directory / _JSON).is_file():
        raise CheckpointError(
            f"{source}: holds neither {_JSON} nor {PEFT_CONFIG}, so it is no adapter. Name its directory."
        )
    record = _read_record(directory)
    check_base(record.base, model_fingerprint(model), f"{directory}: this adapter")
    adapter = attach(model, record.adapter)
    try:
        with open_tensors(directory / _TENSORS) as file:
            adapter.load_state({name: file.read(name) for name in file.shapes})
    except CheckpointError as error:
        adapter.remove()
        raise CheckpointError(f"{directory}: {error}") from None
    return adapter


def _read_record(directory: Path) -> _Record:
    path = directory / _JSON
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise CheckpointError(f"{path}: is damaged. Copy the directory again.") from None
    version = data.get("smidgen_adapter") if isinstance(data, dict) else None
    if version != _VERSION:
        raise CheckpointError(f"{path}: is an adapter of format {version!r}; this smidgen reads {_VERSION}.")
    try:
        record = validate_config(data, _Record, where=str(path))
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    tensors = directory / _TENSORS
    if not tensors.is_file() or file_sha256(tensors) != record.sha256:
        raise CheckpointError(
            f"{tensors}: is missing or damaged (its digest is not {_JSON}'s). Copy the directory again."
        )
    return record
