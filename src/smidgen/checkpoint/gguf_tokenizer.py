"""The vocabulary inside a GGUF file as a `tokenizer.json`, with its chat template.

How text is cut before merging is not in the file, only its name (`tokenizer.ggml.pre`), out of llama.cpp's list.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tokenizers as library

from smidgen.errors import CheckpointError
from smidgen.tokenizers.vocabulary import write_tokenizer_files

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
"""Kinds of symbols, `tokenizer.ggml.token_type`. Source: ggml docs/gguf.md."""

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _WORDS + r"\p{N}{1,3}" + _REST
_QWEN2 = _WORDS + r"\p{N}" + _REST

_SPLITS = {
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "midm-2.0", "dbrx", "smaug-bpe"), _LLAMA3
    ),
    **dict.fromkeys(("qwen2", "stablelm2", "deepseek-r1-qwen", "megrez", "hunyuan"), _QWEN2),
}
_WHOLE_WORDS_FIRST = ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "midm-2.0")
"""Vocabularies that take a whole word when they hold it, whatever the merges would make of it; they also add bos."""
_GPT2 = ("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "gigachat", "exaone4", "mellum")
_GPT2_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
"""GPT-2's words, each digit alone. Sources of all names and patterns: llama.cpp src/llama-vocab.cpp, 2026."""

_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


def write_gguf_tokenizer(metadata: Mapping[str, Any], directory: Path, where: Path) -> None:
    """Write the tokenizer of GGUF metadata as `tokenizer.json` and `tokenizer_config.json` into a directory.

    Raises CheckpointError if the vocabulary is of a kind whose text would be cut differently here.
    """
    symbols: list[str] | None = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(symbols, list) or not symbols:
        raise CheckpointError(f"{where}: carries no tokenizer. Ask for a GGUF file with one.")
    types = metadata.get("tokenizer.ggml.token_type")
    if types is not None and len(types) != len(symbols):
        raise CheckpointError(f"{where}: is damaged: {len(symbols)} symbols, but {len(types)} types of symbols.")
    roles = _roles(metadata, symbols, where)
    kind = metadata.get("tokenizer.ggml.model")
    if kind == "gpt2":
        tokenizer = _byte_level(metadata, symbols, where)
        adds_bos = bool(
            metadata.get("tokenizer.ggml.add_bos_token", metadata["tokenizer.ggml.pre"] in _WHOLE_WORDS_FIRST)
        )
    elif kind == "llama":
        tokenizer = _sentencepiece(metadata, symbols, roles.get("unk_token", symbols[0]), where)
        adds_bos = bool(metadata.get("tokenizer.ggml.add_bos_token", True))
    else:
        raise CheckpointError(f"{where}: tokenizer model {kind!r} is not supported, only 'gpt2' and 'llama'.")
    _add_specials(tokenizer, metadata, symbols, set(roles.values()))
    if adds_bos and "bos_token" in roles:
        bos = roles["bos_token"]
        tokenizer.post_processor = library.processors.TemplateProcessing(
            single=[bos, "$A"], pair=[bos, "$A", bos, "$B"], special_tokens=[(bos, symbols.index(bos))]
        )
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **roles, "add_bos_token": adds_bos}
    config["clean_up_tokenization_spaces"] = False
    if "tokenizer.chat_template" in metadata:
        config["chat_template"] = metadata["tokenizer.chat_template"]
    write_tokenizer_files(directory, tokenizer.to_str(), config)


def _byte_level(metadata: Mapping[str, Any], symbols: list[str], where: Path) -> library.Tokenizer:
    pre = library.pre_tokenizers
    name = metadata.get("tokenizer.ggml.pre")
    if name in _SPLITS:
        cut: Any = [
            pre.Split(library.Regex(_SPLITS[name]), behavior="isolated"),
            pre.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    elif name in _GPT2_DIGITS:
        cut = [pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)]
    elif name in _GPT2:
        cut = [pre.ByteLevel(add_prefix_space=False)]
    else:
        known = ", ".join(sorted({*_SPLITS, *_GPT2, *_GPT2_DIGITS}))
        raise CheckpointError(f"{where}: text cut as {name!r} is not supported. Known: {known}.")
    merges = [tuple(merge.split(" ", 1)) for merge in metadata.get("tokenizer.ggml.merges", [])]
    vocabulary = {symbol: number for number, symbol in enumerate(symbols)}
    with _coherent(where):
        whole_first = name in _WHOLE_WORDS_FIRST
        tokenizer = library.Tokenizer(library.models.BPE(vocabulary, merges, ignore_merges=whole_first))
    tokenizer.pre_tokenizer = pre.Sequence(cut)
    tokenizer.decoder = library.decoders.ByteLevel()
    return tokenizer


def _sentencepiece(metadata: Mapping[str, Any], symbols: list[str], unknown: str, where: Path) -> library.Tokenizer:
    scores = metadata.get("tokenizer.ggml.scores")
    if scores is None or len(scores) != len(symbols):
        raise CheckpointError(f"{where}: the scores of its sentencepiece vocabulary are missing or too few.")
    vocabulary = {symbol: number for number, symbol in enumerate(symbols)}
    merges = _merges_from_scores(metadata, symbols, scores)
    with _coherent(where):
        tokenizer = library.Tokenizer(
            library.models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
        )
    prefixed = bool(metadata.get("tokenizer.ggml.add_space_prefix", True))
    prefix = [library.normalizers.Prepend("▁")] if prefixed else []
    tokenizer.normalizer = library.normalizers.Sequence([*prefix, library.normalizers.Replace(" ", "▁")])
    decoders = library.decoders
    strip = [decoders.Strip(" ", 1, 0)] if prefixed else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return tokenizer


def _merges_from_scores(
    metadata: Mapping[str, Any], symbols: list[str], scores: Sequence[float]
) -> list[tuple[str, str]]:
    """Return the merges that make a sentencepiece vocabulary: every way to split a symbol in two, best scores first.

    Source: sentencepiece bpe_model.cc: the adjacent pair whose union scores highest is merged first.
    """
    types = metadata.get("tokenizer.ggml.token_type")
    usual = [types is None or types[n] not in (_CONTROL, _BYTE) for n in range(len(symbols))]
    numbers = {symbol: number for number, symbol in enumerate(symbols) if usual[number]}
    found = []
    for symbol, number in numbers.items():
        for cut in range(1, len(symbol)):
            left, right = symbol[:cut], symbol[cut:]
            if left in numbers and right in numbers:
                found.append((-float(scores[number]), number, numbers[left], numbers[right]))
    return [(symbols[left], symbols[right]) for *_, left, right in sorted(found)]


@contextmanager
def _coherent(where: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the library raises bare Exception for a merge that names no symbol
        raise CheckpointError(f"{where}: its vocabulary does not hold together: {error}.") from None


def _roles(metadata: Mapping[str, Any], symbols: list[str], where: Path) -> dict[str, str]:
    ids = {role: metadata.get(f"tokenizer.ggml.{name}_token_id") for role, name in _ROLES.items()}
    wrong = [number for number in ids.values() if number is not None and number not in range(len(symbols))]
    if wrong:
        raise CheckpointError(f"{where}: symbol {wrong[0]} has a role but the vocabulary holds {len(symbols)} symbols.")
    return {f"{role}_token": symbols[number] for role, number in ids.items() if number is not None}


def _add_specials(
    tokenizer: library.Tokenizer, metadata: Mapping[str, Any], symbols: list[str], roles: set[str]
) -> None:
    types = metadata.get("tokenizer.ggml.token_type")
    if types is None:  # old files: at least the symbols with a role are known
        types = [_CONTROL if symbol in roles else _NORMAL for symbol in symbols]
    special, visible = [], []
    for symbol, kind in zip(symbols, types, strict=True):
        if kind in (_UNKNOWN, _CONTROL):
            special.append(library.AddedToken(symbol, normalized=False, special=True))
        elif kind == _USER_DEFINED:
            visible.append(library.AddedToken(symbol, normalized=False, special=False))
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens(visible)
