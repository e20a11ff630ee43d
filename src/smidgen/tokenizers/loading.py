"""A tokenizer from a model directory: one saved here, or any Hugging Face directory with a BPE `tokenizer.json`."""

import json
from pathlib import Path
from typing import Any

from smidgen.errors import TokenizerError
from smidgen.tokenizers.base import Tokenizer
from smidgen.tokenizers.bpe import BpeTokenizer
from smidgen.tokenizers.bytes import ByteTokenizer, byte_definition
from smidgen.tokenizers.bytes_bpe import WRITTEN_AS, BytesBpeTokenizer
from smidgen.tokenizers.vocabulary import encoding_identity


def load_tokenizer(directory: Path) -> Tokenizer:
    """Read the tokenizer of a model directory, its chat template and the symbols that end an answer.

    Raises TokenizerError if `tokenizer.json` is missing, damaged, or not a BPE vocabulary.
    """
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise TokenizerError(f"{directory}: holds no tokenizer.json. Name a model directory, such as runs/NAME/model.")
    definition = _read_text(path)
    fields = _parse(definition, path)
    try:
        if encoding_identity(fields) == encoding_identity(byte_definition()):
            return ByteTokenizer()
    except (KeyError, TypeError, AttributeError):
        raise TokenizerError(f"{path}: is not a BPE tokenizer.json.") from None
    config = _optional_json(directory / "tokenizer_config.json")
    template = directory / "chat_template.jinja"
    if template.is_file():  # where newer directories keep it
        config["chat_template"] = _read_text(template)
    config["stop_symbols"] = _stop_symbols(directory, fields, config)
    try:
        tokenizer = BpeTokenizer(definition, config)
        return BytesBpeTokenizer(tokenizer) if config.get("written_as") == WRITTEN_AS else tokenizer
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from None


def _stop_symbols(directory: Path, fields: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """Collect what the directory's own files say ends an answer; ids of `config.json` told as symbols."""
    symbols = {token["id"]: token["content"] for token in fields.get("added_tokens") or []}
    found = list(config.get("stop_symbols") or ())
    for name in ("generation_config.json", "config.json"):
        ids = _optional_json(directory / name).get("eos_token_id")
        for number in ids if isinstance(ids, list) else [ids]:
            found += [symbols[number]] if number in symbols else []
    return list(dict.fromkeys(found))


def _optional_json(path: Path) -> dict[str, Any]:
    return _parse(_read_text(path), path) if path.is_file() else {}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{path}: cannot be read ({error}).") from None


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise TokenizerError(f"{path}: is damaged (not JSON: {error}).") from None
    if not isinstance(fields, dict):
        raise TokenizerError(f"{path}: is damaged (not a JSON object).")
    return fields
