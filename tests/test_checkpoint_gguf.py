"""GGUF files are read exactly: numbers, order of rows, shapes, vocabulary; and damage is one clear line."""

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers as library
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from smidgen.checkpoint import LoadedModel, load_model
from smidgen.checkpoint.gguf_tokenizer import write_gguf_tokenizer
from smidgen.errors import CheckpointError, SmidgenError
from smidgen.models import LlamaConfig, build_model
from smidgen.tokenizers.base import Tokenizer
from smidgen.tokenizers.loading import load_tokenizer
from smidgen.tokenizers.vocabulary import BYTE_CHARACTERS

gguf = pytest.importorskip("gguf")
Type = gguf.GGMLQuantizationType

SYMBOLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *BYTE_CHARACTERS, "Ġt", "he", "Ġthe", "12", "Ġa"]
VOCABULARY: dict[str, Any] = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": SYMBOLS,
    "tokenizer.ggml.token_type": [3, 3, 3, *[1] * (len(SYMBOLS) - 3)],
    "tokenizer.ggml.merges": ["Ġ t", "h e", "Ġt he", "1 2", "Ġ a"],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.chat_template": "{{ messages[0]['content'] }}",
}
INNER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tiny(**changes: Any) -> LlamaConfig:
    attention = {"n_heads": 4, "n_kv_heads": 2, "rope_theta": 1e5, "qk_norm": changes.pop("qk_norm", False)}
    stack = {"d_model": 256, "layers": [0, 1], "attention": attention, "mlp": {"type": "swiglu", "d_ff": 256}}
    return LlamaConfig.model_validate_json(json.dumps({"vocab_size": len(SYMBOLS), "stack": stack, **changes}))


def permuted(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Order rows as llama.cpp's converter does."""
    return weight.reshape(n_heads, 2, weight.shape[0] // n_heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def their_name(name: str) -> str:
    outer = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem = name.removesuffix(".weight")
    if stem in outer:
        return f"{outer[stem]}.weight"
    _, _, block, inner = stem.split(".", 3)
    return f"blk.{block}.{INNER[inner]}.weight"


def write_gguf(path: Path, model: nn.Module, kind: Any = Type.F32, more: dict[str, Any] | None = None) -> Path:
    """Write a model as llama.cpp's converter would, matrices stored as `kind`; `more` adds or changes metadata."""
    config, attention = model.config, model.config.stack.attention
    arch = "qwen3" if attention.qk_norm else "llama"
    writer = gguf.GGUFWriter(path, arch)
    metadata = {
        f"{arch}.block_count": len(config.stack.layers),
        f"{arch}.context_length": config.max_seq_len,
        f"{arch}.embedding_length": config.stack.d_model,
        f"{arch}.feed_forward_length": config.stack.mlp.d_ff,
        f"{arch}.attention.head_count": attention.n_heads,
        f"{arch}.attention.head_count_kv": attention.kv_heads,
        f"{arch}.attention.key_length": config.stack.d_head,
        f"{arch}.rope.freq_base": attention.rope_theta,
        f"{arch}.attention.layer_norm_rms_epsilon": config.stack.norm_eps,
        **VOCABULARY,
        **(more or {}),
    }
    add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for key, value in metadata.items():
        if value is not None:
            add.get(type(value), writer.add_array)(key, value)
    for name, weight in model.named_parameters():
        numbers = weight.detach().numpy()
        if arch == "llama" and ".q_proj" in name:
            numbers = permuted(numbers, attention.n_heads)
        if arch == "llama" and ".k_proj" in name:
            numbers = permuted(numbers, attention.kv_heads)
        add_tensor(writer, their_name(name), numbers, kind)
    for finish in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        finish()
    writer.close()
    return path


def add_tensor(writer: Any, name: str, numbers: np.ndarray, kind: Any) -> None:
    if numbers.ndim == 1 or kind == Type.F32:
        writer.add_tensor(name, numbers.astype(np.float32))
        return
    try:
        stored = gguf.quants.quantize(numbers, kind)
    except NotImplementedError:  # the library reads K-quants but does not write them; any small bytes are numbers
        block, size = gguf.GGML_QUANT_SIZES[kind]
        shape = (numbers.shape[0], numbers.shape[1] // block * size)
        stored = np.random.default_rng(len(name)).integers(0, 0x3B, shape, dtype=np.uint8)
    writer.add_tensor(name, stored, raw_dtype=kind)


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, len(SYMBOLS), (2, 17), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("change", [{}, {"tie_embeddings": False}, {"qk_norm": True}], ids=str)
def test_fp32_comes_back_bit_for_bit(change: dict, tmp_path: Path, ids: Tensor) -> None:
    model = build_model(tiny(**change), seed=2)
    loaded = load_model(write_gguf(tmp_path / "m.gguf", model))
    assert torch.equal(loaded.model(ids), model(ids))
    assert loaded.model.config.stack.norm_eps == model.config.stack.norm_eps
    assert loaded.chat_template == VOCABULARY["tokenizer.chat_template"]
    assert loaded.tokenizer.eot_id == 0
    assert loaded.tokenizer.stop_ids == {0, 2}


KINDS = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_storage_type_gives_the_numbers_transformers_gets(kind: str, tmp_path: Path, ids: Tensor) -> None:
    transformers = pytest.importorskip("transformers")
    path = write_gguf(tmp_path / "m.gguf", build_model(tiny(), seed=2), Type[kind])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    loaded = load_model(path)
    expected = {"F16": torch.float16, "BF16": torch.bfloat16}.get(kind, torch.float32)
    assert loaded.model.model.embed_tokens.weight.dtype == expected
    ours = load_model(path, dtype=torch.float32).model
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits)


REFUSED: dict[str, dict[str, Any]] = {
    "architecture": {"general.architecture": "gemma"},
    "block_count": {"llama.block_count": "many"},
    "tensors, which is no whole model": {"llama.block_count": 2**31 - 1},
    "head_count_kv": {"llama.attention.head_count_kv": [2, 1]},
    "embedding_length": {"llama.embedding_length": None},
    "rope.scaling.type": {"llama.rope.scaling.type": "yarn"},
    "rope.dimension_count": {"llama.rope.dimension_count": 32},
    "sliding_window": {"llama.attention.sliding_window": 16},
    "expert_count": {"llama.expert_count": 8},
    "wrong shape": {"llama.feed_forward_length": 255},
    "not a shape that can be built": {"llama.attention.head_count_kv": 3},
    "carries no tokenizer": {"tokenizer.ggml.tokens": None},
    "tokenizer model": {"tokenizer.ggml.model": "t5"},
    "text cut as 'unheard-of'": {"tokenizer.ggml.pre": "unheard-of"},
    "does not hold together": {"tokenizer.ggml.merges": ["x yz"]},
    "symbol 9999 has a role": {"tokenizer.ggml.eos_token_id": 9999},
    "types of symbols": {"tokenizer.ggml.token_type": [3, 3]},
    "no symbol that ends a document": {"tokenizer.ggml.token_type": [1] * len(SYMBOLS)},
    f"has {len(SYMBOLS) + 1} symbols": {"tokenizer.ggml.tokens": [*SYMBOLS, "more"], "tokenizer.ggml.token_type": None},
}


@pytest.mark.parametrize(("reason", "more"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_meant_is_refused_by_name(reason: str, more: dict, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", build_model(tiny()), more=more)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_model(path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    stack = {"d_model": 32, "layers": [0], "attention": {"n_heads": 2}, "mlp": {"type": "swiglu", "d_ff": 32}}
    model = build_model(tiny(stack=stack))
    return write_gguf(tmp_path_factory.mktemp("intact") / "m.gguf", model).read_bytes()


def attempt(content: bytes, path: Path) -> LoadedModel | str:
    path.write_bytes(content)
    try:
        return load_model(path)
    except SmidgenError as error:
        return str(error)


def test_a_truncated_file_is_one_clear_line(intact: bytes, tmp_path: Path) -> None:
    assert isinstance(attempt(intact, tmp_path / "m.gguf"), LoadedModel)
    for length in [0, 3, 4, 10, 24, 100, 3000, len(intact) // 2, len(intact) - 1]:
        message = attempt(intact[:length], tmp_path / "m.gguf")
        assert isinstance(message, str)
        assert "truncated" in message or "is no GGUF file" in message


@settings(deadline=None, max_examples=150)
@given(where=st.integers(0, 12_000), value=st.integers(0, 255))
def test_a_damaged_header_never_surprises(intact: bytes, where: int, value: int, tmp_path_factory: Any) -> None:
    content = bytearray(intact)
    content[where % len(content)] = value
    outcome = attempt(bytes(content), tmp_path_factory.mktemp("damaged") / "m.gguf")
    assert isinstance(outcome, LoadedModel) or len(outcome.splitlines()) == 1


def test_other_files_named_gguf_are_recognised(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "m.gguf")
    with pytest.raises(CheckpointError, match="is a pickle"):
        load_model(tmp_path / "m.gguf")
    (tmp_path / "m.gguf").write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(CheckpointError, match="is no GGUF file"):
        load_model(tmp_path / "m.gguf")


def tokenizer_of(metadata: dict[str, Any], directory: Path) -> Tokenizer:
    write_gguf_tokenizer(metadata, directory, directory)
    return load_tokenizer(directory)


LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "qwen2", "llama-bpe"])
def test_text_is_cut_as_the_name_says(pre: str, tmp_path: Path) -> None:
    parts = library.pre_tokenizers
    split = LLAMA3 if pre == "llama-bpe" else LLAMA3.replace("{1,3}", "")
    theirs = {
        "gpt-2": parts.ByteLevel(add_prefix_space=False),
        "smollm": parts.Sequence([parts.Digits(individual_digits=True), parts.ByteLevel(add_prefix_space=False)]),
    }.get(pre, parts.Sequence([parts.Split(library.Regex(split), "isolated"), parts.ByteLevel(False, use_regex=False)]))
    ours = tokenizer_of({**VOCABULARY, "tokenizer.ggml.pre": pre}, tmp_path)
    cut = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).pre_tokenizer
    for text in ["the 1234 DON'T don't\r\n\n  \t x", "ß 你好, e\u0301!? ½²", "12 12a", "", "  "]:
        assert [w for w, _ in cut.pre_tokenize_str(text)] == [w for w, _ in theirs.pre_tokenize_str(text)]
        assert ours.decode(ours.encode(text)) == text
    assert (SYMBOLS.index("12") in ours.encode("a12")) == (pre in ("gpt-2", "llama-bpe"))
    assert ours.bos_id == (1 if pre == "llama-bpe" else 0)


@pytest.mark.parametrize("prefixed", [True, False], ids=["prefix", "no prefix"])
def test_a_sentencepiece_vocabulary_cuts_as_sentencepiece_does(prefixed: bool, tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    draws = random.Random(3)
    words = ["".join(draws.choices("abcdeé 12.", k=draws.randint(1, 7))) for _ in range(80)]
    lines = [" ".join(draws.choices(words, k=12)) for _ in range(200)]
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=trained, vocab_size=360, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=prefixed, minloglevel=2,
    )  # fmt: skip
    theirs = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
    numbers = range(theirs.vocab_size())
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [theirs.id_to_piece(n) for n in numbers],
        "tokenizer.ggml.scores": [theirs.get_score(n) for n in numbers],
        "tokenizer.ggml.token_type": [
            3 if theirs.is_control(n) else 6 if theirs.is_byte(n) else 2 if theirs.is_unknown(n) else 1 for n in numbers
        ],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_space_prefix": prefixed,
    }
    ours = tokenizer_of(metadata, tmp_path)
    assert (ours.bos_id, ours.eot_id, ours.text_prefix) == (1, 2, " " if prefixed else "")
    for text in [*lines, " lead", "trail ", "", "  ", "你好\n\tzz", "aaaaaaaaabbbbbb"]:
        assert ours.encode(text) == theirs.encode(text), text
        assert ours.decode(ours.encode(text)) == text
