"""A recipe reads back as it was written, disagreements between rooms are caught, and all errors come at once."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smidgen.config import apply_overrides, merge, validate_config
from smidgen.errors import ConfigError
from smidgen.models import BytePatchConfig
from smidgen.models.stack import StackConfig
from smidgen.models.stats import count_parameters, weight_bytes
from smidgen.recipe import Recipe, differing_keys, format_recipe, load_recipe, recipe_from

RECIPES = Path(__file__).parent.parent / "recipes"


def refused(data: dict) -> str:
    with pytest.raises(ConfigError) as caught:
        recipe_from(data, "test.toml")
    return str(caught.value)


@given(
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    path=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1),
    rate=st.floats(min_value=1e-12, max_value=1e6),
    layers=st.integers(1, 5).map(lambda n: list(range(n))),
)
def test_a_written_recipe_reads_back_equal(name: str, path: str, rate: float, layers: list[int]):
    recipe = recipe_from(
        {
            "name": name,
            "data": {"type": "text", "path": path},
            "model": {"stack": {"layers": layers}},
            "train": {"optimizer": {"type": "adamw", "learning_rate": rate}},
        },
        "test",
    )
    assert recipe_from(tomllib.loads(format_recipe(recipe, "heading\nof two lines")), "again") == recipe
    assert not differing_keys(recipe.model_dump(), recipe.model_dump())


@pytest.mark.parametrize(
    "path", sorted([*RECIPES.glob("*.toml"), *RECIPES.glob("stlm/*.toml")]), ids=lambda path: path.name
)
def test_every_recipe_in_the_repository_is_valid(path: Path):
    recipe = load_recipe(path)
    assert recipe_from(tomllib.loads(format_recipe(recipe)), path.name) == recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("stlm/*m*.toml")), ids=lambda path: path.name)
def test_the_super_tiny_family_has_the_sizes_of_its_names(path: Path):
    size = re.match(r"(\d+)m", path.stem)
    if size is None:  # the smallest is named after what it is
        assert weight_bytes(load_recipe(path).model) < 4e6
    else:
        assert count_parameters(load_recipe(path).model).total == pytest.approx(int(size[1]) * 1e6, rel=0.08)


def test_a_vocabulary_must_be_one_number():
    message = refused({"tokenizer": {"type": "bpe", "vocab_size": 512}, "model": {"vocab_size": 1024}})
    assert "tokenizer.vocab_size (512) and model.vocab_size (1024) differ" in message


def test_a_choice_without_its_type_is_asked_for():
    assert "say which with tokenizer.type" in refused({"tokenizer": {"vocab_size": 512}})


def test_rows_longer_than_the_model_are_refused():
    assert "train.seq_len (512) is longer than model.max_seq_len (256)" in refused({"model": {"max_seq_len": 256}})


def test_a_step_is_a_whole_number_of_rows():
    assert "Try 8192 or 8704" in refused({"train": {"batch_tokens": 8200}})


def test_every_error_comes_at_once_with_the_key_that_was_meant():
    message = refused(
        {"nmae": "x", "train": {"sequence_length": 3, "clip_norn": 2.0}, "model": {"stack": {"d_modell": 1}}}
    )
    for hint in ("nmae: unknown key; did you mean 'name'?", "did you mean 'clip_norm'?", "did you mean 'd_model'?"):
        assert hint in message


def test_an_override_may_change_a_variant(tmp_path: Path):
    path = tmp_path / "a.toml"
    path.write_text("[train.budget]\ntype = 'time'\nseconds = 5.0\n")
    recipe = load_recipe(path, ["train.budget.type=steps", "train.budget.steps=7"])
    assert recipe.train.budget.model_dump() == {"type": "steps", "steps": 7}
    assert merge({"a": {"type": "x", "k": 1}}, {"a": {"k": 2}}) == {"a": {"type": "x", "k": 2}}


@pytest.mark.parametrize("order", [1, -1])
def test_overrides_may_come_in_any_order(order: int):
    said = ["train.optimizer.type=muon", "train.optimizer.embedding_learning_rate=0.5"]
    tree = apply_overrides({}, said[::order])
    assert tree == {"train": {"optimizer": {"type": "muon", "embedding_learning_rate": 0.5}}}


def test_a_difference_is_told_by_key():
    other = recipe_from({"train": {"seq_len": 256}}, "test")
    assert differing_keys(Recipe().model_dump(), other.model_dump()) == ["train.seq_len (512, now 256)"]


def test_one_key_of_a_table_does_not_undo_what_its_field_sets():
    before, after = (validate_config(given, BytePatchConfig, "here") for given in ({}, {"encoder": {"norm_eps": 1e-6}}))
    assert after.encoder == before.encoder.model_copy(update={"norm_eps": 1e-6})
    assert after.encoder.d_model != StackConfig().d_model
