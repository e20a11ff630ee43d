"""A study names every mistake before anything runs, and resolves variants whatever they change."""

from pathlib import Path

import pytest

from smidgen.errors import ConfigError
from smidgen.models.stats import flops_per_symbol
from smidgen.study.config import Study
from smidgen.study.plan import check_only, plan_study
from smidgen.training.config import TokenBudget
from study_files import HEAD, PIECES, PLAIN, SMOKE, write

STUDIES = Path(__file__).parent.parent / "recipes" / "studies"


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        plan_study(path, overrides)
    return str(caught.value)


def test_all_mistakes_of_a_study_come_at_once(tmp_path: Path):
    wrong = """
[[variants]]
name = "plain"
set = { "model.stack.layres" = [0], "model.stack.d_modell" = 3 }
[[variants]]
name = "other"
set = { "train.seq_len" = 4096 }
"""
    message = refused(write(tmp_path, HEAD, wrong))
    assert "'plain': model.stack.layres: unknown key; did you mean 'layers'?" in message
    assert "did you mean 'd_model'?" in message
    assert "'other': train.seq_len (4096) is longer than model.max_seq_len (64)" in message


def test_a_misspelled_key_of_a_variant_is_named_with_its_place(tmp_path: Path):
    message = refused(write(tmp_path, HEAD, '[[variants]]\nname = "plain"\nnoet = "x"\n'))
    assert "variants.0.noet: unknown key; did you mean 'note'?" in message


def test_names_reference_and_seeds_are_checked_together(tmp_path: Path):
    path = write(tmp_path, HEAD.replace('"plain"', '"plian"').replace("[0, 1]", "[1, 1]"), PLAIN, PLAIN)
    message = refused(path)
    assert "'plain' is the name of 2 variants" in message
    assert "'plian' is no variant; did you mean 'plain'?" in message
    assert "names a seed twice" in message


@pytest.mark.parametrize("key", ["seed", "train.budget.steps", "name"])
def test_what_makes_runs_compare_is_not_for_a_variant(tmp_path: Path, key: str):
    message = refused(write(tmp_path, HEAD, f'[[variants]]\nname = "plain"\nset = {{ "{key}" = 3 }}\n'))
    assert f"{key} is for the study to decide" in message


def test_a_study_needs_variants_and_files_that_exist(tmp_path: Path):
    assert "there are none" in refused(write(tmp_path, HEAD))
    assert "no such recipe file" in refused(tmp_path / "absent.toml")
    path = write(tmp_path, HEAD, PLAIN, PIECES)
    assert "every variant: nowhere: no such file" in refused(path, "data.type=text", "data.path=nowhere").replace(
        str(Path.cwd()) + "/", ""
    )
    with pytest.raises(ConfigError, match="--only 'plane' is no variant"):
        check_only(plan_study(path), ["plane"])


def test_a_variant_may_change_a_kind_a_table_or_the_whole_recipe(tmp_path: Path):
    own = tmp_path / "own.toml"
    own.write_text(f'extends = "{SMOKE.as_posix()}"\n[train]\nseq_len = 32\n')
    more = """
[[variants]]
name = "table"
set.model.stack = { d_model = 16, layers = [0, 0] }
[[variants]]
name = "own"
recipe = "own.toml"
"""
    plan = plan_study(write(tmp_path, HEAD, PLAIN, PIECES, more))
    plain, pieces, table, own_arm = (arm.recipe for arm in plan.arms)
    assert (pieces.tokenizer.type, pieces.tokenizer.vocab_size) == ("bpe", 300)
    assert table.model.stack.layers == (0, 0)
    assert table.model.stack.attention == plain.model.stack.attention
    assert own_arm.train.seq_len == 32
    assert {arm.recipe.train.budget.tokens for arm in plan.arms} == {1536}  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "path", sorted([*STUDIES.glob("super-*.toml"), *STUDIES.glob("at-*.toml")]), ids=lambda path: path.stem
)
def test_every_study_in_the_repository_is_valid(tmp_path: Path, path: Path):
    (tmp_path / "a.txt").write_text("Once upon a time.")
    plan = plan_study(path, [f"data.path={tmp_path}"])
    assert len({arm.digest for arm in plan.arms}) == len(plan.arms)


def test_a_grid_is_every_combination(tmp_path: Path):
    grid = '[grid]\n"model.stack.d_model" = [16, 32]\n"model.stack.layers" = [[0], [0, 0], [0, 1]]\n'
    plan = plan_study(write(tmp_path, HEAD, PLAIN, grid))
    assert len(plan.arms) == 7
    assert plan.arms[1].name == "d_model=16 layers=0"
    assert {arm.recipe.model.stack.d_model for arm in plan.arms[1:]} == {16, 32}


def test_overrides_reach_the_study_or_lie_below_the_variants(tmp_path: Path):
    path = write(tmp_path, HEAD, PLAIN, '[[variants]]\nname = "short"\nset = { "train.seq_len" = 16 }\n')
    plan = plan_study(path, ["seeds=[3]", "train.seq_len=32"])
    assert plan.study.seeds == (3,)
    assert [arm.recipe.train.seq_len for arm in plan.arms] == [32, 16]


def test_equal_flops_are_symbols_by_what_one_costs(tmp_path: Path):
    head = HEAD.replace('type = "tokens", tokens = 1536', 'type = "flops", flops = 1e9')
    plan = plan_study(write(tmp_path, head, PLAIN, '[[variants]]\nname = "d"\nset = { "model.stack.d_model" = 64 }\n'))
    for arm in plan.arms:
        each = flops_per_symbol(arm.recipe.model, arm.recipe.train.seq_len, training=True).total
        assert arm.recipe.train.budget.tokens * each == pytest.approx(1e9, rel=1e-3)  # pyright: ignore[reportAttributeAccessIssue]


def test_cells_run_there_and_back_so_that_drift_cancels(tmp_path: Path):
    plan = plan_study(write(tmp_path, HEAD, PLAIN, PIECES))
    assert [(cell.variant, cell.seed) for cell in plan.cells()] == [
        ("plain", 0),
        ("pieces of words", 0),
        ("pieces of words", 1),
        ("plain", 1),
    ]
    assert [cell.seed for cell in plan.cells(["plain"])] == [0, 1]
    assert plan.cells()[0].recipe.seed == 0


def test_a_cell_is_named_by_what_decides_it(tmp_path: Path):
    def keys(*overrides: str) -> list[str]:
        return [cell.key for cell in plan_study(write(tmp_path, HEAD, PLAIN, PIECES), overrides).cells()]

    before = keys()
    assert keys() == before
    assert keys("reference=pieces of words", "validation_bytes=2000") == before
    assert not set(keys("train.schedule.decay=0.4")) & set(before)
    more = plan_study(write(tmp_path, HEAD, PLAIN, PIECES.replace("300", "310"))).cells()
    assert [cell.key in before for cell in more] == [True, False, False, True]


def test_a_quick_study_is_a_twentieth_with_one_seed_in_another_place(tmp_path: Path):
    study = plan_study(write(tmp_path, HEAD, PLAIN), quick=True).study
    assert (study.name, study.seeds) == ("trial-quick", (0,))
    assert study.budget.tokens == 77  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("key", ["seed=3", "train.budget.seconds=60", "train.samples=2"])
def test_what_the_study_decides_cannot_be_asked_of_its_recipes(tmp_path: Path, key: str):
    assert f"{key.partition('=')[0]} is for the study to decide" in refused(write(tmp_path, HEAD, PLAIN), key)


def test_long_names_of_a_grid_are_told_apart():
    long = {f"train.optimizer.learning_rate_of_{n}": [0.1, 0.2] for n in range(4)}
    study = Study(name="s", recipe="r.toml", budget=TokenBudget(tokens=9), reference="x", grid=long)
    names = [variant.name for variant in study.all_variants()]
    assert len(set(names)) == 16
    assert max(map(len, names)) <= 60
