"""A model directory restores exactly what was saved, notices damage, and refuses what it cannot mean."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from smidgen.checkpoint import load_model, save_model
from smidgen.checkpoint.hf_config import is_expressible
from smidgen.errors import CheckpointError, SmidgenError
from smidgen.models import LlamaConfig, build_model
from smidgen.tokenizers.bytes import ByteTokenizer

RICH = {"logit_softcap": 15.0, "stack": {"mlp": {"type": "relu2", "d_ff": 64}, "residual_scalars": True}}
SHAPES = {
    "plain": {},
    "untied": {"tie_embeddings": False},
    "shared blocks": {"stack": {"layers": [0, 0, 1, 1]}},
    "shared feed-forwards": {"stack": {"layers": [0, 1], "mlps": [0, 0]}},
    "shared outputs": {"stack": {"layers": [0, 1], "attention_outputs": [0, 0]}},
    "depth updates": {"stack": {"layers": [0, 0, 1], "mlps": [0, 0], "depth_lora_rank": 2}},
    "factored": {"embedding_rank": 8},
    "query and key norm": {"stack": {"attention": {"n_heads": 4, "qk_norm": True}}},
    "rich": RICH,
    "rich, shared": {**RICH, "stack": {**RICH["stack"], "layers": [0, 1, 1, 0], "zero_init_outputs": True}},
}


def tiny(change: dict) -> LlamaConfig:
    stack = {"d_model": 32, "layers": [0, 1], "attention": {"n_heads": 4}, "mlp": {"type": "swiglu", "d_ff": 48}}
    base = {"vocab_size": 264, "max_seq_len": 64, **change, "stack": {**stack, **change.get("stack", {})}}
    return LlamaConfig.model_validate_json(json.dumps(base))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A directory that loads, to be spoilt."""
    save_model(tmp_path / "model", build_model(tiny({}), seed=1), ByteTokenizer(), torch.float32, card="# Mine\n")
    return tmp_path / "model"


@pytest.mark.parametrize("change", SHAPES.values(), ids=SHAPES)
def test_what_is_loaded_is_bit_for_bit_what_was_saved(change: dict, tmp_path: Path) -> None:
    model = build_model(tiny(change), seed=1)
    save_model(tmp_path / "model", model, ByteTokenizer(), torch.float32)
    loaded = load_model(tmp_path / "model")
    assert loaded.model.config == model.config
    assert loaded.notes == ()
    assert loaded.chat_template == ByteTokenizer.chat_template
    theirs = dict(loaded.model.named_parameters())
    assert theirs.keys() == dict(model.named_parameters()).keys()
    for name, weight in model.named_parameters():
        assert torch.equal(weight, theirs[name]), name
    ids = torch.arange(20).view(1, -1)
    assert torch.equal(model(ids), loaded.model(ids))


def test_shared_blocks_are_one_module_again(tmp_path: Path) -> None:
    save_model(tmp_path / "m", build_model(tiny(SHAPES["shared blocks"])), ByteTokenizer())
    layers = load_model(tmp_path / "m").model.model.layers
    assert layers[0] is layers[1]
    assert layers[2] is layers[3]
    assert layers[1] is not layers[2]


@pytest.mark.parametrize("shape", ["shared blocks", "shared feed-forwards", "shared outputs", "rich, shared"])
def test_each_shared_weight_is_stored_once(shape: str, tmp_path: Path) -> None:
    model = build_model(tiny(SHAPES[shape]))
    save_model(tmp_path / "m", model, ByteTokenizer(), torch.bfloat16)
    stored = load_file(tmp_path / "m" / "model.safetensors")
    assert not is_expressible(model.config)
    assert sum(t.numel() for t in stored.values()) == sum(p.numel() for p in model.parameters())
    assert json.loads((tmp_path / "m" / "config.json").read_text())["architectures"] == ["SmidgenForCausalLM"]
    assert load_model(tmp_path / "m").model.model.norm.weight.dtype == torch.bfloat16


def test_a_run_directory_means_its_model(saved: Path) -> None:
    assert load_model(saved.parent).directory == saved
    (saved.parent / "unfinished").mkdir()
    (saved.parent / "unfinished" / "recipe.toml").write_text("")
    with pytest.raises(CheckpointError, match="no finished model yet"):
        load_model(saved.parent / "unfinished")


def test_saving_again_replaces_the_old_model_and_leaves_nothing_else(saved: Path) -> None:
    save_model(saved, build_model(tiny({"tie_embeddings": False})), ByteTokenizer())
    assert not load_model(saved).model.config.tie_embeddings
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


def test_saving_never_deletes_what_is_not_a_model(saved: Path) -> None:
    (saved / "thesis.tex").write_text("mine")
    with pytest.raises(CheckpointError, match=r"thesis\.tex"):
        save_model(saved, build_model(tiny({})), ByteTokenizer())
    assert (saved / "thesis.tex").read_text() == "mine"


def test_an_interrupted_swap_is_mended_on_loading(saved: Path) -> None:
    saved.rename(saved.with_name(".model.retired"))
    saved.with_name(".model.partial-abc").mkdir()
    assert load_model(saved.parent).directory == saved


def test_a_full_disk_keeps_the_old_model(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = load_file(saved / "model.safetensors")
    monkeypatch.setattr("smidgen.checkpoint.directory.write_tensors", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save_model(saved, build_model(tiny({}), seed=9), ByteTokenizer())
    after = load_file(saved / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


def flip(path: Path, position: int = -7) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def without_sums(directory: Path) -> None:
    (directory / "SHA256SUMS").unlink(missing_ok=True)


def as_pickle(directory: Path, name: str, legacy: bool = False) -> None:
    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    torch.save(weights, directory / name, _use_new_zipfile_serialization=not legacy)
    without_sums(directory)


def as_index(directory: Path, text: str) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(text)
    without_sums(directory)


def edit_weights(directory: Path, change: Callable[[dict], None]) -> None:
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors")
    without_sums(directory)


def edit_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    data = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not ...}))
    without_sums(directory)


def rename_all(weights: dict) -> None:
    for name in list(weights):
        weights[name.replace("model.", "", 1)] = weights.pop(name)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit": (lambda d: flip(d / "model.safetensors"), "does not match its checksum"),
    "truncated": (lambda d: truncate(d / "model.safetensors"), "does not match its checksum"),
    "truncated, no sums": (lambda d: (without_sums(d), truncate(d / "model.safetensors")), "not a whole safetensors"),
    "empty": (lambda d: (without_sums(d), (d / "model.safetensors").write_bytes(b"")), "not a whole safetensors"),
    "config changed": (lambda d: flip(d / "config.json", 20), "config.json: does not match its checksum"),
    "config garbage": (lambda d: (without_sums(d), (d / "config.json").write_text("{")), "not JSON"),
    "config a list": (lambda d: (without_sums(d), (d / "config.json").write_text("[]")), "not a JSON object"),
    "sums garbage": (lambda d: (d / "SHA256SUMS").write_bytes(b"\xff\xfe what"), "SHA256SUMS: is damaged"),
    "sums elsewhere": (lambda d: (d / "SHA256SUMS").write_text("00  ../../etc/passwd\n"), "SHA256SUMS: is damaged"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "model.safetensors is missing"),
    "no tokenizer": (lambda d: (without_sums(d), (d / "tokenizer.json").unlink()), "tokenizer.json"),
    "pickle": (lambda d: as_pickle(d, "pytorch_model.bin"), "pytorch_model.bin is a pickle"),
    "zip renamed": (lambda d: as_pickle(d, "model.safetensors"), "is a pickle"),
    "pickle renamed": (lambda d: as_pickle(d, "model.safetensors", legacy=True), "is a pickle"),
    "missing": (lambda d: edit_weights(d, lambda w: w.pop("model.norm.weight")), r"1 missing \(model.norm.weight\)"),
    "unexpected": (lambda d: edit_weights(d, lambda w: w.update(a=torch.ones(2))), r"1 unexpected \(a\)"),
    "wrong shape": (
        lambda d: edit_weights(d, lambda w: w.update({"model.norm.weight": torch.ones(31)})),
        r"1 of the wrong shape \(model.norm.weight \(31,\) instead of \(32,\)\)",
    ),
    "all wrong": (lambda d: edit_weights(d, rename_all), r"20 missing \(.*, \.\.\.\); 20 unexpected"),
    "index garbage": (lambda d: as_index(d, "{}"), "index.json: is damaged"),
    "index elsewhere": (lambda d: as_index(d, '{"weight_map": {"a": "../b.safetensors"}}'), "1 of 1 shards"),
    "contradiction": (lambda d: edit_config(d, rope_theta=1.0), "contradicts itself: stack.attention.rope_theta"),
    "ours broken": (lambda d: edit_config(d, model_type="smidgen", smidgen={"vocab": 3}), "vocab: unknown key"),
    "ours absent": (lambda d: edit_config(d, model_type="smidgen", smidgen=...), "no model config"),
    "vocabulary": (lambda d: edit_config(d, smidgen=..., vocab_size=100), "wrong shape"),
}


@pytest.mark.parametrize(("spoil", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_one_clear_line(spoil: Callable[[Path], object], reason: str, saved: Path) -> None:
    spoil(saved)
    with pytest.raises(SmidgenError, match=reason) as caught:
        load_model(saved)
    assert len(str(caught.value).splitlines()) == 1
    assert str(saved) in str(caught.value)


UNSUPPORTED = {
    "model_type": "qwen2",
    "attention_bias": True,
    "mlp_bias": True,
    "hidden_act": "gelu",
    "sliding_window": 16,
    "layer_types": ["full_attention", "sliding_attention"],
    "quantization_config": {"bits": 4},
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
    "rope_parameters": {"type": "yarn", "factor": 8.0},
    "partial_rotary_factor": 0.5,
    "rope_interleaved": True,
    "num_attention_heads": 5,
    "hidden_size": "wide",
}


@pytest.mark.parametrize(("key", "value"), UNSUPPORTED.items(), ids=UNSUPPORTED)
def test_what_would_compute_differently_is_refused_by_name(key: str, value: object, saved: Path) -> None:
    edit_config(saved, smidgen=..., head_dim=..., **{key: value})
    with pytest.raises(CheckpointError, match=key if key != "model_type" else "model_type 'qwen2'") as caught:
        load_model(saved)
    assert len(str(caught.value).splitlines()) == 1


def test_keys_without_effect_are_accepted_and_unknown_ones_named(saved: Path) -> None:
    edit_config(saved, smidgen=..., rope_scaling={"type": "linear", "factor": 1.0}, sliding_window=64, use_cache=False)
    assert load_model(saved).notes == ()
    edit_config(saved, wobble=3, wibble=None)
    assert "wobble" in load_model(saved).notes[0]
    assert "wibble" not in load_model(saved).notes[0]


def test_a_tied_head_stored_all_the_same_is_no_trouble(saved: Path) -> None:
    inverse_frequencies = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    edit_weights(saved, lambda w: w.update({"lm_head.weight": torch.ones(264, 32)} | inverse_frequencies))
    assert load_model(saved).model.config.tie_embeddings


def test_single_files_and_unknown_names_say_what_to_name_instead(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMIDGEN_CACHE", str(saved.parent))
    (saved.parent / "evil.pt").write_bytes(pickle.dumps([1]))
    shutil.copy(saved / "README.md", saved.parent / "notes.md")
    for source, reason in {
        saved / "model.safetensors": "Name its directory",
        saved.parent / "evil.pt": "is a pickle",
        saved.parent / "notes.md": "only part of a model",
        "smollm2-135m": "smidgen pull smollm2-135m",
        "smollm-135": "Did you mean smollm2-135m",
        "owner/name": "smidgen pull owner/name",
        saved.parent / "nowhere": "no such directory",
    }.items():
        with pytest.raises(CheckpointError, match=reason):
            load_model(source)


def test_a_wrapped_model_is_not_saved_under_wrong_names(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Sequential"):
        save_model(tmp_path / "m", torch.nn.Sequential(build_model(tiny({}))), ByteTokenizer())
    assert list(tmp_path.iterdir()) == []
