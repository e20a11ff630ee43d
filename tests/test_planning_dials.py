"""Every plan is a valid recipe within its budget; every refusal names a budget that works."""

import re
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from smidgen.errors import BudgetError
from smidgen.models.llama import LlamaConfig
from smidgen.models.stats import count_parameters
from smidgen.planning import rules
from smidgen.planning.corpus import CorpusFacts
from smidgen.planning.dials import PlanRequest, plan
from smidgen.planning.footprint import file_bytes
from smidgen.planning.machine import MachineFacts, StepCosts
from smidgen.planning.render import render_plan
from smidgen.planning.units import Size, format_time, parse_size, parse_time
from smidgen.recipe import recipe_from

# As the two-core machine of measured.md: 8,200 symbols/s at 10M, compiled.
LAPTOP = MachineFacts(
    "2 cores", "cpu", "bf16", 2, 20 << 30, 2.6e12, 25e9, StepCosts(1.15e-12, 4e-12, 1.2e-10, 2e-3), True
)
GPU = MachineFacts("GPU", "cuda", "bf16", 16, 70 << 30, 6e14, 2e12, StepCosts(4e-15, 8e-15, 1e-12, 5e-4), True)
ENGLISH = CorpusFacts(46_000_000, 4_490)

sizes = st.floats(5.4, 8.3).map(lambda power: Size(int(10**power))).filter(lambda size: size.amount >= 250_000)
times = st.floats(1.0, 4.5).map(lambda power: round(10**power, 1))
corpora = st.one_of(st.just(CorpusFacts(None)), st.floats(3, 9.5).map(lambda power: CorpusFacts(int(10**power), 100)))
machines = st.sampled_from([LAPTOP, GPU, replace(LAPTOP, compiles=False, memory_bytes=2 << 30, correction=0.4)])


def request(size=None, time=None, corpus=ENGLISH, machine=LAPTOP):
    return PlanRequest(
        corpus, machine, parse_size(size) if size else None, parse_time(time) if time else None, name="test"
    )


def check(asked: PlanRequest, made) -> None:
    recipe, expected = recipe_from(made.recipe, "the plan"), made.expected
    train, config = recipe.train, recipe.model
    assert isinstance(config, LlamaConfig)
    parameters = count_parameters(config).total
    assert parameters == expected.parameters
    if asked.size is not None and not asked.size.in_bytes:
        assert abs(parameters / asked.size.amount - 1) <= 0.03
    if asked.time_seconds is not None:
        assert train.budget.seconds == asked.time_seconds
    assert expected.steps >= rules.LEAST_STEPS
    assert expected.tokens == expected.steps * train.batch_tokens
    assert (train.batch_tokens // train.seq_len) % train.micro_rows == 0
    assert expected.memory_bytes <= asked.machine.memory_bytes
    assert 0 < expected.bits_per_byte < 8
    assert expected.file_bytes_int8 < expected.file_bytes
    assert (made.expected.epochs > 1) == any("text is read" in warning.lower() for warning in made.warnings)
    keys = [decision.key for decision in made.decisions]
    assert len(keys) == len(set(keys))
    assert all(decision.rule and decision.source for decision in made.decisions)


@given(st.none() | sizes, st.none() | times, corpora, machines)
@settings(max_examples=50, deadline=None)
def test_any_dials_give_a_valid_plan_or_a_refusal_whose_advice_works(size, seconds, corpus, machine):
    asked = PlanRequest(corpus, machine, size, seconds)
    try:
        made = plan(asked)
    except BudgetError as refusal:
        follow(asked, str(refusal))
    else:
        check(asked, made)


def follow(asked: PlanRequest, advice: str) -> None:
    """Take each way out that a refusal names."""
    tried = advice.partition("Try ")[2]
    assert tried
    if found := re.search(r"--size (\S+?)(?=[.]? |[.]?$)", tried):
        smaller = replace(asked, size=parse_size(found[1]))
        check(smaller, plan(smaller))
    if found := re.search(r"--time (\S+?)(?=[.]? |[.]?$)", tried):
        longer = replace(asked, time_seconds=parse_time(found[1]))
        check(longer, plan(longer))
    assert "--size" in tried or "--time" in tried or "memory" in tried


@pytest.mark.parametrize(
    ("size", "time", "says"),
    [
        ("100M", "1m", "--time .* or --size"),
        ("100", "10m", "Try --size 250k"),
        ("7B", "10h", "Try --size"),
        ("300KB", "10m", "does not hold the smallest model"),
        (None, "2s", "Try --time"),
    ],
)
def test_hopeless_budgets_are_refused_with_the_nearest_that_works(size, time, says):
    asked = request(size, time)
    with pytest.raises(BudgetError, match=says) as refused:
        plan(asked)
    follow(asked, str(refused.value))


def test_a_model_that_does_not_fit_the_memory_is_refused():
    asked = request("300M", "10h", machine=replace(LAPTOP, memory_bytes=3 << 30))
    with pytest.raises(BudgetError, match=r"3.22GB free\. Try --size") as refused:
        plan(asked)
    follow(asked, str(refused.value))


def test_the_benchmark_s_budget_gives_the_benchmark_s_run():
    made = plan(request("10M", "10m"))
    recipe = recipe_from(made.recipe, "the plan")
    assert (len(recipe.model.stack.layers), recipe.model.stack.d_model, recipe.model.vocab_size) == (8, 320, 4096)
    assert (recipe.train.seq_len, recipe.train.batch_tokens) == (512, 8192)
    assert made.warnings == []
    assert 1.4 < made.expected.bits_per_byte < 1.9


@given(st.integers(600_000, 300_000_000))
@settings(max_examples=15, deadline=None)
def test_a_byte_budget_holds_the_file_written_now_and_says_what_int8_will_allow(budget):
    asked = PlanRequest(ENGLISH, GPU, Size(budget, in_bytes=True), 36_000.0)
    made = plan(asked)
    config = recipe_from(made.recipe, "the plan").model
    assert 0.9 * budget < file_bytes(config, "bf16") <= budget
    later = next(d for d in made.decisions if d.key == "parameters in int8, later")
    assert later.value > made.expected.parameters
    check(asked, made)


@given(sizes, st.floats(1.6, 3))
@settings(max_examples=20, deadline=None)
def test_more_time_is_more_text_and_a_better_score(size, factor):
    try:
        short = plan(PlanRequest(CorpusFacts(None), LAPTOP, size, 3000.0)).expected
    except BudgetError:
        assume(False)
    long = plan(PlanRequest(CorpusFacts(None), LAPTOP, size, 3000.0 * factor)).expected
    assert long.tokens > short.tokens
    assert long.bits_per_byte < short.bits_per_byte


def test_a_free_size_grows_with_time_and_with_text():
    def size_of(time, corpus):
        return plan(request(None, time, corpus)).expected.parameters

    assert size_of("1m", ENGLISH) < size_of("10m", ENGLISH) < size_of("10h", ENGLISH)
    assert size_of("10h", CorpusFacts(300_000)) < size_of("10h", CorpusFacts(300_000_000))


def test_free_dials_have_defaults():
    assert plan(request()).expected.seconds == 600
    assert plan(request("10M")).expected.seconds == 600
    assert plan(request("1.1B", machine=replace(LAPTOP, memory_bytes=1 << 40))).expected.seconds > 600


def test_repetition_is_loud():
    assert any(w.startswith("THE TEXT IS READ") for w in plan(request("3M", "2h")).warnings)
    once = plan(request("3M", "10m", CorpusFacts(10_000_000_000)))
    assert once.expected.epochs < 1
    assert once.warnings == []


def test_too_large_a_model_is_told_of_a_better_one():
    assert any("--size" in w and "instead of" in w for w in plan(request("100M", "20m")).warnings)


def test_a_tiny_text_gets_bytes_for_symbols():
    made = plan(request("1M", "1m", CorpusFacts(20_000)))
    assert made.recipe["tokenizer"] == {"type": "bytes", "vocab_size": 264}


def test_the_village_tells_what_the_run_reads_and_a_tenth_of_its_time_at_most():
    made = plan(request("10M", "5m", CorpusFacts(None)))
    assert 2 * made.expected.tokens < made.recipe["data"]["text_bytes"] < 30_000_000
    assert 0 < made.expected.epochs < 1
    fast = plan(request("1M", "5m", CorpusFacts(None), GPU))
    assert fast.recipe["data"]["text_bytes"] == 30_000_000
    assert fast.expected.epochs > 2
    assert any("READ" in warning for warning in fast.warnings)
    fresh = plan(request("1M", "5m", CorpusFacts(10**12), GPU))
    assert fresh.expected.bits_per_byte < fast.expected.bits_per_byte


def test_compiling_costs_the_plan_what_it_costs_this_machine():
    quick, slow = (plan(request("10M", "5m", machine=replace(LAPTOP, compile_seconds=s))) for s in (10.0, 60.0))
    assert quick.expected.tokens_per_second == slow.expected.tokens_per_second
    assert quick.expected.steps > 1.15 * slow.expected.steps
    never = plan(request("10M", "5m", machine=replace(LAPTOP, compile_seconds=100.0)))
    assert never.recipe["train"]["compile"] == "off"
    assert next(d for d in never.decisions if d.key == "train.compile").rule.endswith("its 100 s on this machine")


def test_the_llama_style_is_plain_llama():
    made = plan(replace(request("10M", "10m"), style="llama"))
    assert made.recipe["model"]["stack"]["mlp"]["type"] == "swiglu"
    assert "logit_softcap" not in made.recipe["model"]


def test_a_rendered_plan_shows_every_choice_with_its_reason():
    made = plan(request("8MB", "20m"))
    text = render_plan(made, width=100)
    assert all(decision.key in text for decision in made.decisions)
    assert "Expected: " in text
    assert max(map(len, text.splitlines())) <= 100
    assert format_time(1200) in text
    assert made.as_dict()["decisions"][0]["key"] == "train.budget.seconds"
