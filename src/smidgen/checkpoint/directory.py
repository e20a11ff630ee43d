"""The directory of a model: everything needed to use it, in files other tools read too.

    config.json         the model, in Hugging Face's words where they suffice
    model.safetensors   the weights
    tokenizer.json, tokenizer_config.json, generation_config.json     text in and out, and what ends an answer
    README.md           the model card, yours to edit
    SHA256SUMS          so that damage is noticed; `sha256sum -c` reads it too

It appears whole or not at all. Nothing for resuming training is in here; see `resume`.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from smidgen.checkpoint.atomic import recover_directory, refuse_foreign, staged_directory
from smidgen.checkpoint.hf_config import read_config, write_config
from smidgen.checkpoint.tensors import PICKLE_SUFFIXES, TensorSource, open_tensors, write_tensors
from smidgen.checkpoint.weights import read_model, unique_weights
from smidgen.errors import CheckpointError
from smidgen.models import Model
from smidgen.surgery.adapted import is_adapted
from smidgen.tokenizers.base import Tokenizer
from smidgen.tokenizers.loading import load_tokenizer

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_SUMS = "SHA256SUMS"
_SUMMED = ("config.json", _WEIGHTS, "tokenizer.json", "tokenizer_config.json")
_OURS = {*_SUMMED, _SUMS, "generation_config.json", "README.md", "chat_template.jinja", "special_tokens_map.json"}
_OURS |= {"evals.json", "evals"}  # what was found of the weights that are replaced goes with them


@dataclass(frozen=True)
class LoadedModel:
    """A model with what belongs to it."""

    model: Model
    """Ready for `forward`; on the device and in the dtype asked for."""
    tokenizer: Tokenizer
    """Its text side."""
    directory: Path
    """Where it was read from: a model directory, or a GGUF file."""
    chat_template: str | None
    """The jinja2 template of a conversation; None for a base model."""
    notes: tuple[str, ...] = ()
    """What was passed over on the way, to be said once."""


def save_model(
    directory: Path,
    model: nn.Module,
    tokenizer: Tokenizer,
    dtype: torch.dtype = torch.bfloat16,
    card: str | None = None,
) -> None:
    """Write a model directory, replacing an older one; `card` is the text of README.md.

    `transformers` loads a shape that Hugging Face knows as it is. Each weight is written once, so a model that shares
    blocks is ours alone; `merge_model` writes it out. Raises CheckpointError, the old directory intact, if it fails.
    """
    directory = Path(directory)
    refuse_foreign(directory, _OURS, "a model")
    with staged_directory(directory) as staging:
        tokenizer.save(staging)
        write_model_files(staging, model, tokenizer, dtype, card or f"# {directory.resolve().name}\n")


def write_model_files(staging: Path, model: nn.Module, tokenizer: Tokenizer, dtype: torch.dtype, card: str) -> None:
    """Write everything but the tokenizer into a directory that nobody reads yet."""
    if not isinstance(model, Model):
        raise TypeError(f"save the bare model, not a {type(model).__name__} around it")
    if is_adapted(model):
        raise CheckpointError(
            "the model carries an adapter, which is no part of it. Save adapter.merged(), or both apart."
        )
    config = model.config.model_copy(update={"heads": model.config.heads.shipped()})
    weights = unique_weights(model)
    if config.heads != model.config.heads:  # future heads that were only to teach
        weights = {name: weight for name, weight in weights.items() if not name.startswith("heads.future.")}
    stops = sorted(tokenizer.stop_ids)
    generation = {"bos_token_id": tokenizer.bos_id, "eos_token_id": stops if len(stops) > 1 else stops[0]}
    _write_json(staging / "config.json", write_config(config, tokenizer, dtype))
    _write_json(staging / "generation_config.json", generation)
    (staging / "README.md").write_text(card, encoding="utf-8")
    sums = {_WEIGHTS: write_tensors(staging / _WEIGHTS, weights, {"format": "pt"}, dtype)}
    sums |= {name: file_sha256(staging / name) for name in _SUMMED if name not in sums and (staging / name).exists()}
    lines = [f"{digest}  {name}\n" for name, digest in sorted(sums.items())]
    (staging / _SUMS).write_text("".join(lines), encoding="utf-8")


def load_directory(directory: Path, dtype: torch.dtype | None, device: torch.device | str) -> LoadedModel:
    """Read a model directory: ours, or any dense Llama's, Mistral's or Qwen3's with safetensors.

    Raises CheckpointError if anything is missing, damaged, a pickle, or a model that would compute differently here.
    """
    _verify_sums(directory)
    config = read_config(directory / "config.json")
    tokenizer = load_tokenizer(directory)
    with open_weights(directory) as source:
        model = read_model(config.model, source, dtype, device)
    check_vocabulary(tokenizer, config.model.vocab_size, directory)
    return LoadedModel(model, tokenizer, directory, tokenizer.chat_template, config.notes)


def check_vocabulary(tokenizer: Tokenizer, vocab_size: int, where: Path) -> None:
    """Raise CheckpointError if the tokenizer can say symbols that the model does not know."""
    if tokenizer.vocab_size > vocab_size:
        raise CheckpointError(
            f"{where}: the tokenizer has {tokenizer.vocab_size} symbols, the model knows {vocab_size}. "
            "They do not belong together."
        )


@contextlib.contextmanager
def open_weights(directory: Path) -> Iterator[TensorSource]:
    """Open the weights of a directory, one safetensors file or the shards of an index."""
    with contextlib.ExitStack() as stack:
        if (directory / _WEIGHTS).is_file():
            yield stack.enter_context(open_tensors(directory / _WEIGHTS))
            return
        owners: dict[str, TensorSource] = {}
        for name in _shards(directory):
            shard = stack.enter_context(open_tensors(directory / name))
            owners |= dict.fromkeys(shard.shapes, shard)
        yield TensorSource(
            where=str(directory),
            shapes={name: owner.shapes[name] for name, owner in owners.items()},
            dtypes={name: owner.dtypes[name] for name, owner in owners.items()},
            read=lambda name: owners[name].read(name),
        )


def _shards(directory: Path) -> list[str]:
    index = directory / _INDEX
    if not index.is_file():
        pickles = sorted(p.name for p in directory.iterdir() if p.suffix in PICKLE_SUFFIXES)
        hint = (
            f"{pickles[0]} is a pickle, and reading one runs whatever code its author put in: refused."
            if pickles
            else "Copy or download it again."
        )
        raise CheckpointError(f"{directory}: holds no {_WEIGHTS}. {hint}")
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{index}: is damaged. Copy or download it again.") from None
    missing = [name for name in names if Path(name).name != name or not (directory / name).is_file()]
    if missing or not names:
        raise CheckpointError(f"{directory}: {len(missing)} of {len(names)} shards are missing ({missing[:1]}).")
    return names


def resolve_directory(path: Path) -> Path:
    """Return the model directory that a path means: itself, or the model of a run.

    Raises CheckpointError if there is none.
    """
    recover_directory(path)
    recover_directory(path / "model")
    if (path / "config.json").is_file():
        return path
    if (path / "model" / "config.json").is_file():
        return path / "model"
    if (path / "adapter").is_dir():
        raise CheckpointError(f"{path}: is an adaptation, not a model. Name its base, and --adapter {path / 'adapter'}")
    if (path / "recipe.toml").is_file():
        raise CheckpointError(f"{path}: the run has no finished model yet. Go on with it: smidgen train {path}")
    ggufs = sorted(p.name for p in path.glob("*.gguf"))
    hint = f"Name the file: {path / ggufs[0]}" if ggufs else "Name a run, a model directory or a .gguf file."
    raise CheckpointError(f"{path}: holds no config.json, so it is no model directory. {hint}")


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify_sums(directory: Path) -> None:
    """Raise CheckpointError if a file differs from what SHA256SUMS says; directories from elsewhere have none."""
    sums = directory / _SUMS
    if not sums.is_file():
        return
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        path = directory / name
        if name not in _SUMMED:
            raise CheckpointError(f"{sums}: is damaged ({line[:80]!r}). Copy the directory again.")
        if not path.is_file():
            raise CheckpointError(f"{directory}: {name} is missing. Copy the directory again.")
        if file_sha256(path) != digest:
            raise CheckpointError(
                f"{path}: does not match its checksum, so it is damaged. Copy it again; "
                f"if you changed it on purpose, delete {sums}."
            )


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
