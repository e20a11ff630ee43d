"""Adapters in files: ours restores bit for bit and is tiny; PEFT's are read and written with equal logits."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from model_zoo import MODELS, randomized, some_ids
from smidgen.checkpoint import load_adapter, load_model, save_adapter, save_model, save_peft
from smidgen.errors import CheckpointError, ConfigError
from smidgen.models import LlamaConfig, build_model
from smidgen.surgery import attach, read_adapter, to_text
from smidgen.surgery.adapted import is_adapted
from smidgen.surgery.config import FullConfig, Ia3Config, LoraConfig, LoraXsConfig, TinyLoraConfig
from smidgen.tokenizers.bytes import ByteTokenizer

warnings.filterwarnings("ignore", module="peft")

BASE = MODELS["gqa"]
WITH_BYTES = BASE.model_copy(update={"vocab_size": 300})
PLACES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
OURS = {
    "lora": LoraConfig(r=3),
    "rslora": LoraConfig(r=4, alpha=5.0, rank_stabilized=True, maps=("q_proj", "1.mlp.up_proj")),
    "lora_xs": LoraXsConfig(r=3),
    "ia3": Ia3Config(),
    "bias": read_adapter("bias:maps=v_proj"),
    "tinylora, countable": TinyLoraConfig(groups=7, u=2),
    "tinylora, uneven": TinyLoraConfig(groups=13),
    "tinylora, structured": TinyLoraConfig(groups=3, order="structured"),
    "tinylora, beyond the rank": TinyLoraConfig(r=20, u=3),
}
THEIRS = {
    "lora": peft.LoraConfig(r=3, lora_alpha=7, target_modules=["q_proj", "down_proj"], lora_dropout=0.1),
    "rslora": peft.LoraConfig(r=4, use_rslora=True, target_modules="all-linear"),
    "one layer": peft.LoraConfig(r=2, target_modules=["v_proj"], layers_to_transform=[1]),
    "ia3": peft.IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "ia3, both sides": peft.IA3Config(target_modules=["up_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "ia3, every map": peft.IA3Config(target_modules=PLACES, feedforward_modules=["down_proj"]),
    "ia3, every output": peft.IA3Config(target_modules=PLACES, feedforward_modules=[]),
    "beft": peft.BeftConfig(target_modules=["v_proj", "o_proj"]),
    "tinylora": peft.TinyLoraConfig(u=3, target_modules="all-linear"),
    "tinylora, tied": peft.TinyLoraConfig(u=2, weight_tying=0.7, target_modules=PLACES),
    "tinylora, not stored": peft.TinyLoraConfig(
        u=2, weight_tying=0.5, projection_seed=5, save_projection=False, target_modules=["q_proj", "up_proj"]
    ),
    "tinylora, beyond the rank": peft.TinyLoraConfig(r=20, u=1, save_projection=False, target_modules=PLACES),
}


def shake(adapter, seed=5):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in adapter.weights.values():
            weight += 0.2 * torch.randn(weight.shape, generator=generator)
    return adapter


def theirs_of(model) -> transformers.LlamaForCausalLM:
    """The same model in transformers."""
    config: LlamaConfig = model.config
    stack = config.stack
    made = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=stack.d_model,
            intermediate_size=stack.mlp.d_ff,
            num_hidden_layers=len(stack.layers),
            num_attention_heads=stack.attention.n_heads,
            num_key_value_heads=stack.attention.kv_heads,
            rms_norm_eps=stack.norm_eps,
            rope_theta=stack.attention.rope_theta,
            tie_word_embeddings=True,
        )
    )
    made.load_state_dict(dict(model.named_parameters()), strict=False)
    return made.eval()


@torch.no_grad()
@pytest.mark.parametrize("projections", [True, False])
@pytest.mark.parametrize("name", THEIRS)
def test_what_peft_saves_computes_the_same_here_and_goes_back(name, projections, tmp_path):
    model = randomized(BASE)
    ids = some_ids(BASE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        live = peft.get_peft_model(theirs_of(model), THEIRS[name]).eval()
    generator = torch.Generator().manual_seed(0)
    for weight in live.parameters():
        if weight.requires_grad:
            weight += 0.2 * torch.randn(weight.shape, generator=generator)
    live.save_pretrained(tmp_path / "theirs")
    adapter = load_adapter(tmp_path / "theirs", model)
    expected = live(ids).logits
    torch.testing.assert_close(model(ids), expected, rtol=1e-4, atol=1e-4)

    save_adapter(tmp_path / "ours", adapter)
    again = load_adapter(tmp_path / "ours", randomized(BASE))
    assert torch.equal(again.model(ids), model(ids))

    if projections or name.startswith("tinylora"):
        save_peft(tmp_path / "back", again, projections=projections)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            back = peft.PeftModel.from_pretrained(theirs_of(randomized(BASE)), tmp_path / "back").eval()
        torch.testing.assert_close(back(ids).logits, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("as_lora", [False, True])
@pytest.mark.parametrize("name", OURS)
def test_what_we_save_computes_the_same_in_peft_and_comes_back(name, as_lora, tmp_path):
    adapter = shake(attach(randomized(BASE), OURS[name]))
    ids = some_ids(BASE)
    expected = adapter.model(ids)
    if as_lora and name in ("ia3", "bias"):
        with pytest.raises(ConfigError, match="no low-rank"):
            save_peft(tmp_path / "peft", adapter, as_lora=True)
        return
    save_peft(tmp_path / "peft", adapter, base_name="somewhere/base", as_lora=as_lora)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message=".*has no bias term")
        live = peft.PeftModel.from_pretrained(theirs_of(randomized(BASE)), tmp_path / "peft").eval()
    torch.testing.assert_close(live(ids).logits, expected, rtol=1e-4, atol=1e-4)
    back = load_adapter(tmp_path / "peft", randomized(BASE))
    torch.testing.assert_close(back.model(ids), expected, rtol=1e-5, atol=1e-5)
    if not as_lora:
        assert back.config.type == ("lora" if name == "lora_xs" else OURS[name].type)


@torch.no_grad()
@pytest.mark.parametrize("name", OURS)
def test_our_directory_restores_bit_for_bit(name, tmp_path):
    adapter = shake(attach(randomized(BASE), OURS[name]))
    save_adapter(tmp_path / "a", adapter)
    back = load_adapter(str(tmp_path / "a"), randomized(BASE))
    assert back.config == adapter.config
    assert all(torch.equal(weight, back.weights[key]) for key, weight in adapter.weights.items())
    assert torch.equal(back.model(some_ids(BASE)), adapter.model(some_ids(BASE)))


def test_thirteen_numbers_take_less_than_a_kilobyte(tmp_path):
    save_adapter(tmp_path / "a", shake(attach(randomized(BASE), TinyLoraConfig(groups=13))))
    assert sum(file.stat().st_size for file in (tmp_path / "a").iterdir()) < 1000


def test_a_string_is_an_adapter_too():
    adapter = shake(attach(randomized(BASE), TinyLoraConfig(groups=13)))
    there = load_adapter(to_text(adapter, torch.float32), randomized(BASE))
    assert torch.equal(there.weights["v"], adapter.weights["v"])


IN_ANOTHER_PROCESS = """
import sys, torch
from smidgen.checkpoint import load_adapter, load_model
loaded = load_model(sys.argv[1])
adapter = load_adapter(sys.argv[2], loaded.model)
ids = torch.arange(20)[None]
print(float(loaded.model.eval()(ids).double().square().sum()))
"""


@torch.no_grad()
def test_a_string_says_the_same_in_another_process(tmp_path):
    save_model(tmp_path / "m", randomized(WITH_BYTES), ByteTokenizer(), torch.float32)
    adapter = shake(attach(load_model(tmp_path / "m").model.eval(), TinyLoraConfig(groups=13)))
    text = to_text(adapter)
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path / "m"), text]
    said = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    here = load_adapter(text, load_model(tmp_path / "m").model.eval()).model(torch.arange(20)[None])
    assert said == pytest.approx(float(here.double().square().sum()), rel=1e-6)


@torch.no_grad()
def test_a_merged_model_is_a_directory_like_any_other(tmp_path):
    adapter = shake(attach(randomized(WITH_BYTES), LoraConfig(r=2)))
    with pytest.raises(CheckpointError, match="carries an adapter"):
        save_model(tmp_path / "m", adapter.model, ByteTokenizer())
    save_model(tmp_path / "m", adapter.merged(), ByteTokenizer(), torch.float32)
    ids = some_ids(adapter.model.config)
    torch.testing.assert_close(load_model(tmp_path / "m").model(ids), adapter.model(ids), rtol=1e-4, atol=1e-4)


@pytest.fixture
def saved(tmp_path) -> Path:
    save_adapter(tmp_path / "a", shake(attach(randomized(BASE), TinyLoraConfig(groups=13))))
    return tmp_path / "a"


def refused(path: Path, says: str, seed: int = 0) -> None:
    """Loading fails with one line, and the model is as it was."""
    model = randomized(BASE, seed)
    with pytest.raises(CheckpointError, match=says) as error:
        load_adapter(path, model)
    assert "\n" not in str(error.value)
    assert not is_adapted(model)
    assert all(weight.requires_grad for weight in model.parameters())


def test_another_base_is_refused(saved, tmp_path):
    refused(saved, "belongs to base [0-9a-f]{16}; this model is [0-9a-f]{16}", seed=3)
    save_peft(tmp_path / "p", load_adapter(saved, randomized(BASE)))
    refused(tmp_path / "p", "belongs to base", seed=3)


def test_damage_is_one_clear_line(saved):
    tensors = saved / "adapter.safetensors"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-1])
    refused(saved, "missing or damaged")
    tensors.unlink()
    refused(saved, "missing or damaged")
    tensors.write_bytes(whole)
    (saved / "adapter.json").write_text("{")
    refused(saved, "is damaged")
    (saved / "adapter.json").write_text('{"smidgen_adapter": 2}')
    refused(saved, "format 2")
    (saved / "adapter.json").unlink()
    refused(saved, "is no adapter")


def test_numbers_that_are_not_finite_are_not_saved_and_the_last_state_stays(saved):
    adapter = load_adapter(saved, randomized(BASE))
    before = (saved / "adapter.safetensors").read_bytes()
    with torch.no_grad():
        adapter.weights["v"][0] = torch.inf
    with pytest.raises(CheckpointError, match="v holds 1 of 13 values that are not finite"):
        save_adapter(saved, adapter)
    assert (saved / "adapter.safetensors").read_bytes() == before
    assert len(list(saved.parent.iterdir())) == 1


def test_a_directory_of_something_else_is_not_replaced(saved):
    adapter = load_adapter(saved, randomized(BASE))
    (saved / "notes.txt").write_text("mine")
    for save in (save_adapter, save_peft):
        with pytest.raises(CheckpointError, match="no part of an adapter"):
            save(saved, adapter)


def test_full_training_is_no_adapter_to_save(tmp_path):
    adapter = attach(build_model(BASE), FullConfig())
    for save in (save_adapter, save_peft):
        with pytest.raises(ConfigError, match="save_model"):
            save(tmp_path / "a", adapter)


def test_a_shape_that_transformers_has_not_is_no_base_for_peft(tmp_path):
    with pytest.raises(ConfigError, match="shape"):
        save_peft(tmp_path / "a", attach(build_model(MODELS["pairwise"]), LoraConfig()))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"peft_type": "VERA"}, "VERA is not known"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "biases in the base"),
        ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern"),
        ({"init_lora_weights": "pissa_niter_4"}, "base's weights"),
        ({"r": "many"}, "do not fit together"),
        ({"r": 5}, "has shape"),
        ({"lora_alpha": None, "r": None}, "do not fit together"),
    ],
)
def test_what_peft_can_and_we_cannot_is_refused(change, says, tmp_path):
    save_peft(tmp_path / "p", attach(randomized(BASE), LoraConfig(r=3)))
    path = tmp_path / "p" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refused(tmp_path / "p", says)


def test_tensors_of_maps_we_do_not_adapt_are_refused(tmp_path):
    save_peft(tmp_path / "p", attach(randomized(BASE), LoraConfig(r=3)))
    path = tmp_path / "p" / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"base_model.model.lm_head.lora_A.weight": torch.zeros(3, 32)}, path)
    refused(tmp_path / "p", "lm_head.lora_A.weight is no part")
    first = next(iter(tensors))
    save_file({name: tensor for name, tensor in tensors.items() if name != first}, path)
    refused(tmp_path / "p", "has only")
    path.unlink()
    refused(tmp_path / "p", "holds no adapter_model.safetensors")
