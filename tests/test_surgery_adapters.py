"""The parts that adapters are made of: the ladder's grammar, frozen factors, shared vectors, strings."""

import copy
import functools
import hashlib
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from model_zoo import BYTE_MODELS, MODELS, randomized, some_ids
from smidgen.errors import CheckpointError, ConfigError
from smidgen.models import build_model
from smidgen.surgery import (
    attach,
    from_text,
    model_fingerprint,
    read_adapter,
    read_text,
    resolve,
    to_text,
    write_adapter,
)
from smidgen.surgery.config import (
    AdapterConfig,
    BiasConfig,
    FullConfig,
    Ia3Config,
    LoraConfig,
    LoraXsConfig,
    TinyLoraConfig,
)
from smidgen.surgery.counter import normals
from smidgen.surgery.svd import svd_factors, truncated_svd
from smidgen.surgery.text import text_dtype
from smidgen.surgery.tinylora import TinyVector, random_projections, share_out

THIRTEEN = TinyLoraConfig(groups=13)


def fill(adapter, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in adapter.weights.values():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return adapter


# the ladder as text


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("full", FullConfig()),
        ("bias:maps=v_proj", BiasConfig(maps=("v_proj",))),
        ("ia3", Ia3Config()),
        ("lora", LoraConfig()),
        ("lora:4", LoraConfig(r=4)),
        ("lora:r=4,alpha=3", LoraConfig(r=4, alpha=3.0)),
        ("rslora:r=64", LoraConfig(r=64, rank_stabilized=True)),
        ("lora_xs:r=2", LoraXsConfig(r=2)),
        ("tinylora:13", TinyLoraConfig(parameters=13)),
        ("tinylora:13,seed=3", TinyLoraConfig(parameters=13, seed=3)),
        ("tinylora:u=1,groups=16", TinyLoraConfig(u=1, groups=16)),
        ("tinylora:order=structured,maps=q_proj+v_proj", TinyLoraConfig(order="structured", maps=("q_proj", "v_proj"))),
    ],
)
def test_a_line_of_text_names_an_adapter(text, config):
    assert read_adapter(text) == config


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(data):
    counts, maps = st.integers(1, 300), st.none() | st.just(("q_proj", "1.mlp.up_proj"))
    kinds = [
        st.builds(LoraConfig, r=counts, alpha=st.none() | st.floats(0.5, 99), rank_stabilized=st.booleans(), maps=maps),
        st.builds(TinyLoraConfig, u=counts, groups=counts, order=st.sampled_from(["tiled", "peft"]), seed=counts),
        st.builds(TinyLoraConfig, parameters=counts, maps=maps),
        st.builds(LoraXsConfig, r=counts, maps=maps),
        st.just(BiasConfig()),
    ]
    config = data.draw(st.one_of(kinds))
    assert read_adapter(write_adapter(config)) == config


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lorra:8", "there is no adapter 'lorra'. There are: tinylora, lora_xs"),
        ("lora:rank=8", "unknown key"),
        ("lora:0", "greater than or equal to 1"),
        ("lora:r=2,alpha=inf", "finite number"),
        ("lora:r=two", "got 'two'"),
        ("lora:r=2,4", "'4' is no setting"),
        ("", "there is no adapter ''"),
        ("bias:3", "'3' is no setting"),
        ("tinylora:parameters=13,u=2", "give one or the others"),
    ],
)
def test_a_line_that_means_nothing_is_refused(text, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        read_adapter(text)


@pytest.mark.parametrize(
    ("n", "u", "groups"), [(1, 1, 1), (13, 1, 13), (210, 1, 210), (212, 2, 106), (400, 2, 200), (840, 4, 210)]
)
def test_groups_grow_before_vectors_do(n, u, groups):
    assert resolve(TinyLoraConfig(parameters=n), 210) == TinyLoraConfig(u=u, groups=groups)


def test_numbers_that_cannot_be_shared_out_name_the_nearest_that_can():
    with pytest.raises(ConfigError, match="Try 210 or 212"):
        resolve(TinyLoraConfig(parameters=211), 210)
    with pytest.raises(ConfigError, match="300 groups"):
        resolve(TinyLoraConfig(groups=300), 210)


def test_more_numbers_than_cores_have_name_the_next_rung():
    with pytest.raises(ConfigError, match=r"840 numbers in all, fewer than 10,000.*lora_xs:r=7, which trains 10,290"):
        resolve(TinyLoraConfig(parameters=10_000), 210)
    with pytest.raises(ConfigError, match=r"4 numbers.*lora_xs:r=3,maps=0\.mlp\.up_proj, which trains 9\."):
        resolve(TinyLoraConfig(parameters=5, maps=("0.mlp.up_proj",)), 1)


@pytest.mark.parametrize(("n_maps", "r"), [(21, 2), (7, 3), (5, 1)])
def test_every_number_that_is_asked_for_moves_the_model_another_way(n_maps, r):
    resolved = 0
    for n in range(1, n_maps * r * r + 1):
        try:
            config = resolve(TinyLoraConfig(parameters=n, r=r), n_maps)
        except ConfigError as error:
            for other in map(int, re.findall(r"Try (\d+) or (\d+)", str(error))[0]):
                resolve(TinyLoraConfig(parameters=other, r=r), n_maps)
            continue
        resolved += 1
        assert config.u * config.groups == n
        assert directions_of(config, n_maps) == n
    assert resolved > n_maps * r * r / 2


def directions_of(config, n_maps):
    """Rank of what the numbers do to all cores together, counted and not derived."""
    groups = torch.tensor(share_out(["q_proj"] * n_maps, config.groups, config.order))
    vector = TinyVector(config.groups, groups, random_projections(n_maps, config.u, config.r, 0))
    each = torch.eye(vector.v.numel()).unflatten(1, vector.v.shape)
    cores = torch.einsum("nmu,murs->nmrs", each[:, groups], vector.projections).flatten(1)
    return int(torch.linalg.matrix_rank(cores))


@pytest.mark.parametrize("text", ["tinylora:u=9,groups=21", "tinylora:u=9,groups=20", "tinylora:u=90,groups=1"])
def test_what_says_the_same_twice_is_counted_once(text):
    adapter = attach(build_model(MODELS["gqa"]), read_adapter(text))
    assert adapter.n_directions == directions_of(adapter.config, 21) < adapter.n_parameters
    assert attach(build_model(MODELS["gqa"]), LoraConfig()).n_directions == 3 * 8 * (
        2 * (32 + 32) + 2 * (32 + 16) + 240
    )


# what is computed again must be the same everywhere


def test_fixed_numbers_have_the_same_bits_on_every_platform():
    drawn = normals((1000,), 1.0, seed=7, index=3)
    assert hashlib.sha256(drawn.numpy().tobytes()).hexdigest()[:16] == "336925342e5a7a80"
    assert torch.equal(normals((5, 3), 1.0, 7, 3).flatten(), drawn[:15])
    assert not torch.equal(normals((1000,), 1.0, 7, 4), drawn)
    many = normals((200_000,), 0.5, 0, 0)
    assert abs(many.mean()) < 0.005
    assert abs(many.std() - 0.5) < 0.003
    assert abs((many / 0.5).pow(4).mean() - 3) < 0.15


@pytest.mark.parametrize("shape", [(300, 250), (200, 400), (40, 30), (5, 2), (200, 200)])
@pytest.mark.parametrize("r", [2, 8])
def test_singular_directions_are_those_of_the_whole_decomposition(shape, r):
    matrix = normals(shape, 1.0, 1, 0) + 3 * normals((shape[0], 1), 1.0, 1, 1) @ normals((1, shape[1]), 1.0, 1, 2)
    kept = min(r, *shape)
    u, s, vt = truncated_svd(matrix, kept)
    _, exact, _ = torch.linalg.svd(matrix)
    torch.testing.assert_close(s, exact[:kept], rtol=5e-3, atol=1e-5)
    torch.testing.assert_close(s[0], exact[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(u.mT @ u, torch.eye(kept), rtol=0, atol=1e-4)
    torch.testing.assert_close((u * s).mT @ matrix, s[:, None].square() * vt, rtol=0.05, atol=0.01 * float(s[0]) ** 2)
    assert (u.gather(0, u.abs().argmax(0, keepdim=True)) > 0).all()
    factors = svd_factors(matrix, r)
    assert factors.up.shape == (shape[0], r)
    assert not factors.down[kept:].any()


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_matrix_of_less_rank_than_asked_for_is_no_harm(rank):
    matrix = normals((300, max(rank, 1)), 1.0, 0, 0) @ normals((max(rank, 1), 400), 1.0, 0, 1) * bool(rank)
    factors = svd_factors(matrix, 2)
    torch.testing.assert_close(factors.up @ factors.down, matrix, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("shape", [(300, 200), (20, 30)])
def test_a_base_with_nan_is_refused_by_name(shape):
    with pytest.raises(ConfigError, match="not finite"):
        svd_factors(torch.full(shape, torch.nan), 2)
    model = build_model(MODELS["gqa"])
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 3] = torch.nan
    with pytest.raises(ConfigError, match=r"layers\.1\.mlp\.up_proj: .*not finite"):
        attach(model, TinyLoraConfig())
    assert all(weight.requires_grad for weight in model.parameters())


def test_groups_are_neighbours_in_depth_or_of_one_kind():
    kinds = ["q", "k", "v"] * 4
    assert share_out(kinds, 4, "tiled") == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert share_out(kinds, 3, "structured") == [0, 1, 2] * 4
    assert share_out(kinds, 5, "peft") == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4]
    sizes = torch.bincount(torch.tensor(share_out(["q"] * 210, 13, "tiled")))
    assert sizes.max() - sizes.min() <= 1


# the vector that maps share


def gradient_of(adapter, ids, parts):
    adapter.weights["v"].grad = None
    for part in ids.split(len(ids) // parts):
        adapter.model(part).logsumexp(-1).sum().backward()
    return adapter.weights["v"].grad.clone()


def test_micro_batches_share_cores_and_add_up():
    adapter = fill(attach(randomized(MODELS["gqa"]), TinyLoraConfig(u=3, groups=4)))
    ids = some_ids(adapter.model.config, rows=4)
    whole = gradient_of(adapter, ids, 1)
    torch.testing.assert_close(gradient_of(adapter, ids, 4), whole)
    with torch.inference_mode():
        adapter.model(ids)
    with torch.no_grad():
        adapter.model(ids)
    torch.testing.assert_close(gradient_of(adapter, ids, 2), whole)


def test_the_gradient_is_that_of_finite_differences():
    adapter = fill(attach(randomized(MODELS["pairwise"]), TinyLoraConfig(u=2, groups=3)))
    ids = some_ids(adapter.model.config)
    slope = gradient_of(adapter, ids, 1)
    v, step = adapter.weights["v"], 1e-2
    ends = []
    with torch.no_grad():
        for sign in (1, -1):
            v[1, 1] += sign * step
            ends.append(adapter.model(ids).logsumexp(-1).sum())
            v[1, 1] -= sign * step
    torch.testing.assert_close((ends[0] - ends[1]) / (2 * step), slope[1, 1], rtol=0.02, atol=0.02)


def test_an_optimizer_step_reaches_every_map():
    adapter = attach(randomized(MODELS["gqa"]), TinyLoraConfig(groups=4))
    ids = some_ids(adapter.model.config)
    optimizer = torch.optim.AdamW(adapter.weights.values(), lr=0.1, fused=True)
    for _ in range(2):
        gradient_of(adapter, ids, 1)
        optimizer.step()
        with torch.no_grad():
            torch.testing.assert_close(adapter.model(ids), adapter.merged()(ids), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_each_row_may_have_a_vector_of_its_own():
    adapter = fill(attach(randomized(MODELS["window"]), TinyLoraConfig(u=2, groups=3)))
    ids = some_ids(adapter.model.config, rows=4)
    vectors = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    trained = adapter.model(ids)
    adapter.use_rows(vectors)
    together = adapter.model(ids)
    for row in range(4):
        adapter.use_rows(vectors[row : row + 1])
        torch.testing.assert_close(adapter.model(ids)[row], together[row], rtol=1e-4, atol=1e-4)
    adapter.use_rows(vectors[:2])
    with pytest.raises(ConfigError, match="2 rows were given vectors of their own, and 4 rows"):
        adapter.model(ids)
    adapter.use_rows(None)
    assert torch.equal(adapter.model(ids), trained)
    with pytest.raises(ConfigError, match="6 numbers"):
        adapter.use_rows(vectors[:, :5])
    with pytest.raises(ConfigError, match="byte model"):
        attach(build_model(BYTE_MODELS["bytes-fixed"]), TinyLoraConfig()).use_rows(torch.zeros(2, 1))
    with pytest.raises(ConfigError, match="TinyLoRA only"):
        attach(build_model(MODELS["gqa"]), LoraConfig()).use_rows(vectors)


def test_rows_of_vectors_can_have_gradients():
    adapter = attach(randomized(MODELS["gqa"]), TinyLoraConfig(groups=3))
    ids = some_ids(adapter.model.config, rows=2)
    rows = torch.zeros(2, 3, requires_grad=True)
    adapter.use_rows(rows)
    adapter.model(ids).logsumexp(-1).sum().backward()
    adapter.use_rows(None)
    assert rows.grad is not None
    torch.testing.assert_close(rows.grad.sum(0)[:, None], gradient_of(adapter, ids, 1))


@pytest.mark.parametrize("rung", ["tinylora:4", "lora_xs:r=2"])
def test_no_input_of_a_map_is_kept_for_the_backward_pass(rung):
    adapter = attach(randomized(MODELS["plain"]), read_adapter(rung))
    one = adapter.modules["model.layers.1.mlp.down_proj"]
    x = torch.randn(2, 5, 48, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        one(x).sum().backward()
    assert kept
    assert all(tensor.numel() <= one.base.weight.numel() and tensor.shape[-2:] != (5, 48) for tensor in kept)
    assert not any(tensor.shape == (10, 48) for tensor in kept)
    assert one.base.weight.grad is None


def test_one_compiled_graph_serves_every_depth():
    adapter = fill(attach(randomized(MODELS["gqa"]), TinyLoraConfig(groups=5)))
    ids = some_ids(adapter.model.config)
    expected = gradient_of(adapter, ids, 1)
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    for block in adapter.model.model.layers:
        block.compile(backend=count, dynamic=False)
    for seed in (0, 1, 0):
        fill(adapter, seed)
        found = gradient_of(adapter, ids, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert len(graphs) <= 3, "the first depth's input needs no gradient, the others' does"


def test_low_rank_updates_are_ordinary_lora():
    for config in (LoraConfig(r=3), LoraXsConfig(r=3), TinyLoraConfig(u=2)):
        adapter = fill(attach(randomized(MODELS["gqa"]), config))
        for name, (up, down) in adapter.as_lora().items():
            one = adapter.modules[name]
            torch.testing.assert_close(one.base.weight + up @ down, one.merged())
    with pytest.raises(ConfigError, match="no low-rank"):
        attach(build_model(MODELS["gqa"]), Ia3Config()).as_lora()


# the adapter string


@pytest.fixture
def thirteen():
    return fill(attach(randomized(MODELS["gqa"]), THIRTEEN))


@functools.cache
def a_string():
    return to_text(fill(attach(randomized(MODELS["gqa"]), THIRTEEN)))


def test_a_string_carries_an_adapter_to_its_base_bit_for_bit(thirteen):
    text = to_text(thirteen)
    model = randomized(MODELS["gqa"])
    there = from_text(text, model)
    assert there.config == thirteen.config
    assert torch.equal(there.weights["v"], thirteen.weights["v"].bfloat16().float())
    assert to_text(there) == text
    exact = from_text(to_text(thirteen, torch.float32), randomized(MODELS["gqa"]))
    assert torch.equal(exact.weights["v"], thirteen.weights["v"])
    ids = some_ids(model.config)
    torch.testing.assert_close(exact.model(ids), thirteen.model(ids))


def test_a_string_is_short_and_safe_in_a_url(thirteen):
    text = to_text(thirteen)
    assert len(text) < 140
    assert re.fullmatch(r"[A-Za-z0-9:._~-]+", text)
    assert text.startswith(f"smidgen-adapter:1:{model_fingerprint(thirteen.model)}:tinylora:r2:u1:g13:tiled:s0:bf16:")
    assert len(text.rpartition(":")[2]) == 35  # 26 bytes
    assert torch.equal(read_text(f" {text[:50]}\n{text[50:]} ").numbers, read_text(text).numbers)


@pytest.mark.parametrize(
    "rung",
    [
        "bias:maps=v_proj",
        "ia3:maps=k_proj",
        "lora:r=1,alpha=0.5,maps=0.mlp.up_proj",
        "rslora:r=1,maps=q_proj",
        "lora_xs:1",
    ],
)
def test_strings_carry_any_small_adapter(rung):
    adapter = fill(attach(randomized(MODELS["gqa"]), read_adapter(rung)))
    there = from_text(to_text(adapter, torch.float32), randomized(MODELS["gqa"]))
    assert there.config == adapter.config
    assert all(torch.equal(weight, there.weights[name]) for name, weight in adapter.weights.items())


def test_factors_near_one_survive_a_line_of_text():
    adapter = attach(randomized(MODELS["gqa"]), Ia3Config(maps=("v_proj",)))
    with torch.no_grad():
        for weight in adapter.weights.values():
            weight += 1.5e-3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    there = from_text(to_text(adapter), randomized(MODELS["gqa"]))
    assert all(torch.equal(weight, there.weights[name]) for name, weight in adapter.weights.items())
    assert text_dtype(adapter.config) == torch.float32
    with pytest.raises(ConfigError, match="factors near 1, which bf16"):
        to_text(adapter, torch.bfloat16)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ("tinylora:r99999999:u1:g13:tiled:s0", ConfigError, "r=99999999 is more than any map.*32 at most"),
        ("tinylora:r32:u999999999:g13:tiled:s0", CheckpointError, "13 numbers; 12,999,999,987 are needed"),
        ("lora_xs:r99999999", CheckpointError, "13 numbers; .* are needed"),
        ("lora:r99999999", CheckpointError, "13 numbers; .* are needed"),
        ("full", CheckpointError, "says nothing"),
    ],
)
def test_a_string_that_asks_for_too_much_is_refused_before_anything_is_made(thirteen, settings, error, says):
    text = to_text(thirteen)
    head, _, end = text.partition(":tinylora:")
    head, payload = f"{head}:{settings}:bf16", end.rpartition(":")[2]
    check = hashlib.sha256(f"{head}:{payload}".encode()).hexdigest()[:8]
    model = randomized(MODELS["gqa"])
    with pytest.raises(error, match=says):
        from_text(f"{head}:{check}:{payload}", model)
    attach(model, THIRTEEN)


def test_fixed_matrices_have_a_measure():
    with pytest.raises(ConfigError, match="make 215,040,000 fixed numbers, 100,000,000 at most"):
        attach(build_model(MODELS["gqa"]), TinyLoraConfig(u=10_000, r=32))


def test_a_string_for_another_base_names_both(thirteen):
    model = randomized(MODELS["gqa"], seed=4)
    with pytest.raises(CheckpointError, match=f"{thirteen.base_hash}.*{model_fingerprint(model)}"):
        from_text(to_text(thirteen), model)
    assert not any("lora" in type(module).__name__.lower() for module in model.modules())


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_damaged_string_is_one_clear_line(data):
    text = a_string()
    place = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:place] + data.draw(st.text(max_size=3)) + text[place + 1 :]
    if "".join(damaged.split()) == text:
        return
    read_text(text)
    with pytest.raises(CheckpointError) as error:
        read_text(damaged)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_numbers_that_are_not_finite_are_refused(thirteen, dtype):
    with torch.no_grad():
        thirteen.weights["v"][3] = torch.nan
    with pytest.raises(CheckpointError, match="1 of 13 values that are not finite"):
        to_text(thirteen, dtype)
    with pytest.raises(CheckpointError, match="not finite"):
        fill(copy.deepcopy(thirteen)).load_state(thirteen.state())


def test_what_no_line_can_carry_is_refused():
    with pytest.raises(ConfigError, match="directory"):
        to_text(attach(build_model(MODELS["gqa"]), LoraConfig(r=30)))
    with pytest.raises(ConfigError, match="directory"):
        to_text(attach(build_model(MODELS["gqa"]), FullConfig()))


def test_every_adapter_can_stand_in_a_recipe():
    adapter = TypeAdapter(AdapterConfig)
    for config in (FullConfig(), BiasConfig(), Ia3Config(), LoraConfig(), LoraXsConfig(), THIRTEEN):
        assert adapter.validate_json(config.model_dump_json()) == config
