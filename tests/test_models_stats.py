"""What stats counts from a config is what the model really has and does."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from smidgen.models import build_empty, build_model
from smidgen.models.llama import LlamaConfig
from smidgen.models.stats import (
    PRECISIONS,
    count_effective,
    count_parameters,
    count_savings,
    flops_per_symbol,
    kv_bytes_per_symbol,
    weight_bytes,
)

SMALL = {"d_model": 16, "layers": (0, 1, 2, 3), "attention": {"n_heads": 2}, "mlp": {"type": "swiglu", "d_ff": 24}}


@st.composite
def configs(draw):
    d_head = draw(st.sampled_from([8, 16]))
    groups, per_group = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    layers = draw(st.sampled_from([(0,), (0, 1, 2), (0, 0, 1, 1), (0, 1, 1, 0)]))
    n_blocks = max(layers) + 1
    ids = st.sampled_from([None, (0,) * n_blocks, tuple(range(n_blocks))])
    mlps, outputs = draw(ids), draw(ids)
    shares = n_blocks < len(layers) or any(x and len(set(x)) < n_blocks for x in (mlps, outputs))
    kind = draw(st.sampled_from(["swiglu", "relu2"]))
    return LlamaConfig.model_validate(
        {
            "vocab_size": draw(st.integers(10, 90)),
            "tie_embeddings": draw(st.booleans()),
            "embedding_rank": draw(st.sampled_from([None, 6])),
            "stack": {
                "d_model": draw(st.sampled_from([24, 32])),
                "layers": layers,
                "mlps": mlps,
                "attention_outputs": outputs,
                "depth_lora_rank": draw(st.sampled_from([0, 3])) if shares else 0,
                "attention": {
                    "n_heads": groups * per_group,
                    "n_kv_heads": groups,
                    "d_head": d_head,
                    "qk_norm": draw(st.booleans()),
                },
                "mlp": {"type": kind, "d_ff": draw(st.sampled_from([32, 40]))},
                "residual_scalars": draw(st.booleans()),
            },
        }
    )


@given(configs())
@settings(max_examples=30, deadline=None)
def test_counts_are_the_model_s_own(config):
    model = build_empty(config)
    counted, named = count_parameters(config), dict(model.named_parameters())
    assert counted.total == sum(p.numel() for p in named.values())

    def part(word: str) -> int:
        return sum(p.numel() for name, p in named.items() if word in name and ("lora" in word or "lora" not in name))

    assert counted.embedding == part("embed_")
    assert counted.adapters == part("lora_")
    assert counted.head == part("lm_head")
    assert counted.attention == sum(part(f"{x}_proj") for x in "qkvo")
    assert counted.feed_forward == part("mlp.")
    assert counted.norms == part("norm") + part("_scale")


@given(configs())
@settings(max_examples=30, deadline=None)
def test_effective_is_the_unshared_twin(config):
    depth = len(config.stack.layers)
    alone = {"layers": tuple(range(depth)), "mlps": None, "attention_outputs": None, "depth_lora_rank": 0}
    stack = config.stack.model_copy(update=alone)
    twin = config.model_copy(update={"stack": stack, "tie_embeddings": False, "embedding_rank": None})
    assert count_effective(config) == count_parameters(twin)


@given(configs())
@settings(max_examples=60, deadline=None)
def test_what_each_trick_saves_adds_up(config):
    saved = count_savings(config)
    assert count_effective(config).total - count_parameters(config).total == sum(saved.values())
    assert all(saved.values())


def test_each_trick_is_credited_with_what_it_saves():
    def config(**stack):
        return LlamaConfig.model_validate({"vocab_size": 50, "tie_embeddings": False, "stack": SMALL | stack})

    assert count_savings(config()) == {}
    block, mlp, output = 3 * 16 * 16 + 16 * 16 + 3 * 16 * 24 + 32, 3 * 16 * 24, 16 * 16
    assert count_savings(config(layers=(0, 1, 1, 0))) == {"blocks are used again": 2 * block}
    assert count_savings(config(mlps=(0, 0, 1, 1))) == {"feed-forwards are shared": 2 * mlp}
    assert count_savings(config(attention_outputs=(0, 0, 0, 0))) == {"attention outputs are shared": 3 * output}
    lora = count_savings(config(attention_outputs=(0, 0, 0, 0), depth_lora_rank=2))
    assert lora["each depth adds its own updates"] == -4 * 2 * (16 + 16)


@given(configs(), st.sampled_from([16, 48]))
@settings(max_examples=15, deadline=None)
def test_flops_are_torch_s_count(config, context):
    model, ids = build_model(config), torch.zeros(2, context, dtype=torch.long)
    with sdpa_kernel(SDPBackend.MATH):  # torch counts no FLOPs for its fused CPU attention
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            model(ids)
        with FlopCounterMode(display=False) as training:
            model(ids).sum().backward()
    assert forward.get_total_flops() == flops_per_symbol(config, context).total * ids.numel()
    assert training.get_total_flops() == flops_per_symbol(config, context, training=True).total * ids.numel()


@given(configs())
@settings(max_examples=20, deadline=None)
def test_kv_bytes_are_what_a_decode_state_holds(config):
    state = build_model(config).init_state(rows=1, max_len=5)
    held = state.keys.nbytes + state.values.nbytes
    assert held == 5 * kv_bytes_per_symbol(config, bytes_per_value=4)


@given(configs())
@settings(max_examples=30, deadline=None)
def test_weight_bytes(config):
    counted = count_parameters(config)
    assert weight_bytes(config, "fp32") == 4 * counted.total
    assert weight_bytes(config, "bf16") == 2 * counted.total
    rows = {
        name: p.shape[0]
        for name, p in build_empty(config).named_parameters()
        if name.endswith(("proj.weight", "shared.weight"))
    }
    expected = 2 * (counted.total - counted.matrices) + counted.matrices + 2 * sum(rows.values())
    assert weight_bytes(config, "int8") == expected
    sizes = [weight_bytes(config, name) for name in ("int4-group32", "int8", "int8-group32", "bf16", "fp32")]
    assert sizes == sorted(sizes)
    assert set(PRECISIONS) == {"int4-group32", "int8", "int8-group32", "bf16", "fp32"}
