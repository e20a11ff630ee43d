"""Shapes obey their rules, and named presets are the models they name."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.errors import ConfigError
from smidgen.models.stats import count_parameters
from smidgen.planning.presets import LARGEST, SMALLEST, STYLES, TOLERANCE, preset, shape_for, vocabulary_for

sizes = st.floats(5.4, 9.17).map(lambda power: int(10**power)).filter(lambda n: SMALLEST <= n <= LARGEST)


@pytest.mark.parametrize(("name", "parameters"), [("tinyllama-1.1b", 1_100_048_384), ("smollm2-135m", 134_515_008)])
def test_named_presets_have_the_parameters_of_their_models(name, parameters):
    assert count_parameters(preset(name)).total == parameters


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ConfigError, match="smollm2-135m"):
        preset("smollm3")
    with pytest.raises(ConfigError, match="best, llama"):
        shape_for(10_000_000, 4096, "worst")


@given(sizes, st.sampled_from(STYLES), st.booleans())
@settings(max_examples=80, deadline=None)
def test_any_size_is_hit_within_tolerance_in_widths_that_quantize(parameters, style, at_most):
    config = shape_for(parameters, vocabulary_for(parameters), style, at_most=at_most)
    total, stack = count_parameters(config).total, config.stack
    assert abs(total / parameters - 1) <= TOLERANCE
    assert total <= parameters or not at_most
    assert stack.d_model % 32 == 0
    assert stack.mlp.d_ff % 32 == 0
    assert stack.d_head in (32, 64)
    assert config.tie_embeddings == (parameters < 300_000_000)


def test_styles_are_what_they_say():
    llama, best = (shape_for(10_000_000, 4096, style) for style in ("llama", "best"))
    assert not llama.stack.attention.qk_norm
    assert not llama.stack.residual_scalars
    assert llama.logit_softcap is None
    assert llama.stack.mlp.type == "swiglu"
    assert best.stack.attention.qk_norm
    assert best.stack.residual_scalars
    assert best.stack.zero_init_outputs
    assert best.logit_softcap == 20
    assert best.stack.mlp.type == "relu2"
    assert (len(best.stack.layers), best.stack.d_model) == (8, 320)


@pytest.mark.parametrize(
    ("parameters", "vocabulary"),
    [
        (300_000, 512),
        (1_000_000, 1024),
        (10_000_000, 4096),
        (30_000_000, 8192),
        (50_000_000, 8192),
        (100_000_000, 16_384),
        (1_100_000_000, 32_768),
    ],
)
def test_vocabulary_follows_the_table(parameters, vocabulary):
    assert vocabulary_for(parameters) == vocabulary


@given(sizes, st.integers(0, 10**9), st.integers(0, 10**9))
@settings(max_examples=100)
def test_less_text_never_gives_a_larger_vocabulary(parameters, one, other):
    small, large = (vocabulary_for(parameters, text) for text in sorted((one, other)))
    assert 512 <= small <= large <= vocabulary_for(parameters)


def test_a_vocabulary_that_leaves_no_room_is_refused():
    with pytest.raises(ConfigError, match="smaller vocabulary"):
        shape_for(300_000, 32_768)
