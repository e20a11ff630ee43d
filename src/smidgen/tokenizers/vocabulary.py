"""The bytes behind every id of a `tokenizer.json`, and the pieces such a file is made of.

Two kinds of BPE vocabulary are understood: byte-level (GPT-2 and after), which spells each byte as one printable
character, and sentencepiece's, which spells a space as ▁ and unknown bytes as <0xNN>.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smidgen.errors import RunError, TokenizerError
from smidgen.runs import atomic_write


def _byte_characters() -> tuple[str, ...]:
    """Printable Latin-1 bytes spell themselves, the other 68 the characters from U+0100 on. Source: Radford 2019."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (chr(0x100 + n) for n in range(256))
    return tuple(chr(byte) if byte in printable else next(others) for byte in range(256))


BYTE_CHARACTERS = _byte_characters()
"""How a byte-level vocabulary spells each byte."""

_BYTE_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")


def symbol_table(definition: Mapping[str, Any]) -> list[bytes]:
    """Return the bytes of every id; b"" for special symbols and for ids nothing is assigned to.

    Raises TokenizerError for models other than byte-level and sentencepiece BPE.
    """
    model, kind = definition["model"], _kind(definition)
    vocabulary: Mapping[str, int] = model["vocab"]
    added = definition.get("added_tokens") or []
    size = 1 + max([*vocabulary.values(), *(token["id"] for token in added)])
    table = [b""] * size
    spell = _byte_level_bytes if kind == "byte-level" else _sentencepiece_bytes
    for symbol, number in vocabulary.items():
        table[number] = spell(symbol)
    for token in added:
        table[token["id"]] = b"" if token["special"] else token["content"].encode()
    return table


def _kind(definition: Mapping[str, Any]) -> str:
    model_type = definition["model"].get("type")
    if model_type != "BPE":
        raise TokenizerError(f"tokenizer.json holds a {model_type} model. Only BPE vocabularies can be used here.")
    if '"ByteLevel"' in json.dumps([definition.get("decoder"), definition.get("pre_tokenizer")]):
        return "byte-level"
    spaces = json.dumps(
        [definition.get(part) for part in ("normalizer", "pre_tokenizer", "decoder")], ensure_ascii=False
    )
    if "▁" in spaces:
        return "sentencepiece"
    raise TokenizerError("tokenizer.json is neither byte-level nor sentencepiece BPE: its bytes cannot be told.")


def _byte_level_bytes(symbol: str) -> bytes:
    # Symbols added by hand are sometimes spelled as plain text in the vocabulary; they are their own UTF-8.
    values = [_BYTE_VALUES.get(character) for character in symbol]
    return symbol.encode() if None in values else bytes(value for value in values if value is not None)


_BYTE_VALUES = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}


def _sentencepiece_bytes(symbol: str) -> bytes:
    fallback = _BYTE_FALLBACK.fullmatch(symbol)
    return bytes([int(fallback[1], 16)]) if fallback else symbol.replace("▁", " ").encode()


def without_prefix(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a sentencepiece definition that puts no ▁ before a text."""

    def strip(part: Any) -> Any:
        if isinstance(part, list):
            return [strip(child) for child in part if not (isinstance(child, dict) and child.get("type") == "Prepend")]
        if isinstance(part, dict):
            never = {"prepend_scheme": "never"} if part.get("type") == "Metaspace" else {}
            return {key: strip(value) for key, value in part.items()} | never
        return part

    normalizer = strip([definition.get("normalizer")])
    return {
        **definition,
        "normalizer": normalizer[0] if normalizer else None,
        "pre_tokenizer": strip(definition.get("pre_tokenizer")),
    }


def encoding_identity(definition: Mapping[str, Any]) -> str:
    """Return what decides encoding as canonical JSON, the same whatever library version wrote the file."""
    model = definition["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model.get("merges", [])]
    added = [[t["id"], t["content"], t["special"]] for t in definition.get("added_tokens") or []]
    switches = {k: model.get(k) for k in ("unk_token", "byte_fallback", "ignore_merges")}
    parts = [definition.get("normalizer"), definition.get("pre_tokenizer")]
    return json.dumps([sorted(model["vocab"].items()), merges, added, switches, parts], sort_keys=True)


def write_tokenizer_files(directory: Path, definition: str, config: Mapping[str, Any]) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`, each to a temporary name, then renamed."""
    contents = {
        "tokenizer.json": definition,
        "tokenizer_config.json": json.dumps(config, indent=2, ensure_ascii=False) + "\n",
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{directory}: the tokenizer cannot be written ({error.strerror}).") from None
    for name, content in contents.items():
        atomic_write(directory / name, content)
