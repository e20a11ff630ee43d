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
    flops_per_symbol,
    kv_bytes_per_symbol,
    weight_bytes,
)


@st.composite
def configs(draw):
    d_head = draw(st.sampled_from([8, 16]))
    groups, per_group = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    layers = draw(st.sampled_from([(0,), (0, 1, 2), (0, 0, 1, 1), (0, 1, 1, 0)]))
    n_blocks = max(layers) + 1
    mlps = draw(st.sampled_from([None, (0,) * n_blocks, tuple(range(n_blocks))]))
    kind = draw(st.sampled_from(["swiglu", "relu2"]))
    return LlamaConfig.model_validate(
        {
            "vocab_size": draw(st.integers(10, 90)),
            "tie_embeddings": draw(st.booleans()),
            "stack": {
                "d_model": draw(st.sampled_from([24, 32])),
                "layers": layers,
                "mlps": mlps,
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
        return sum(p.numel() for name, p in named.items() if word in name)

    assert counted.embedding == part("embed_tokens")
    assert counted.head == part("lm_head")
    assert counted.attention == sum(part(f"{x}_proj") for x in "qkvo")
    assert counted.feed_forward == part("mlp.")
    assert counted.norms == part("norm") + part("_scale")


@given(configs())
@settings(max_examples=30, deadline=None)
def test_effective_is_the_unshared_twin(config):
    depth = len(config.stack.layers)
    stack = config.stack.model_copy(update={"layers": tuple(range(depth)), "mlps": None})
    twin = config.model_copy(update={"stack": stack, "tie_embeddings": False})
    assert count_effective(config) == count_parameters(twin)
    assert count_effective(config).total >= count_parameters(config).total


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
    rows = {name: p.shape[0] for name, p in build_empty(config).named_parameters() if name.endswith("proj.weight")}
    expected = 2 * (counted.total - counted.matrices) + counted.matrices + 2 * sum(rows.values())
    assert weight_bytes(config, "int8") == expected
    sizes = [weight_bytes(config, name) for name in ("int4-group32", "int8", "int8-group32", "bf16", "fp32")]
    assert sizes == sorted(sizes)
    assert set(PRECISIONS) == {"int4-group32", "int8", "int8-group32", "bf16", "fp32"}
