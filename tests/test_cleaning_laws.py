"""Laws of all cleaning steps: any text, same verdict, no part of the corpus is special."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smidgen.config import Config, validate_config
from smidgen.data.cleaning.decontaminate import DecontaminateConfig
from smidgen.data.cleaning.diversity import DiversityConfig
from smidgen.data.cleaning.exact import ExactConfig
from smidgen.data.cleaning.in_memory import clean_in_memory
from smidgen.data.cleaning.minhash import NearConfig
from smidgen.data.cleaning.step import Columns, CorpusStep, Dropped, Kept, Record, Step, hash64
from smidgen.data.cleaning.steps import RECOMMENDED, StepConfig, build_step

ALONE = [config for config in RECOMMENDED if not isinstance(build_step(config), CorpusStep)]
TOGETHER: list[StepConfig] = [
    *(config for config in RECOMMENDED if isinstance(build_step(config), CorpusStep)),
    ExactConfig(unit="paragraph", min_characters=20),
    ExactConfig(unit="line", min_characters=20),
    DiversityConfig(max_bytes=4_000, clusters=4),
]
WORDS = [
    "the",
    "mill",
    "stood",
    "where",
    "two",
    "rivers",
    "met",
    "and",
    "every",
    "spring",
    "water",
    "came",
    "up",
    "to",
    "its",
    "door",
    "while",
    "old",
    "miller",
    "slept",
]


def alone(config: StepConfig) -> Step:
    step = build_step(config)
    assert not isinstance(step, CorpusStep)
    return step


def together(config: StepConfig) -> CorpusStep:
    step = build_step(config)
    assert isinstance(step, CorpusStep)
    return step


def story(seed: int, sentences: int = 12) -> str:
    """Prose enough for every rule: paragraphs of sentences of words drawn with a seed."""
    generator = np.random.default_rng(seed)
    made = [
        " ".join(generator.choice(WORDS, 9)).capitalize() + f" in {generator.integers(10**6)}."
        for _ in range(sentences)
    ]
    return "\n\n".join(" ".join(made[at : at + 4]) for at in range(0, sentences, 4))


def corpus() -> list[Record]:
    """Stories, some twice, some nearly so, some with a line that all pages have."""
    texts = [story(seed) for seed in range(30)]
    texts += [texts[3], texts[4].upper(), texts[5].replace(" the ", " a "), texts[0] + "\n\n" + story(99, 24)]
    texts += [story(seed) + "\n\nAll rights reserved by Example Press, 2016." for seed in range(50, 65)]
    return [Record(f"c/{n}", text, "c") for n, text in enumerate(texts)]


@pytest.mark.parametrize("config", ALONE, ids=lambda config: config.type)
def test_any_text_gets_a_verdict_and_always_the_same(config: StepConfig):
    step, another = alone(config), alone(config)

    @given(text=st.text(st.characters(), max_size=300))
    @settings(max_examples=60, deadline=None)
    def law(text: str) -> None:
        one, other = step(text), another(text)
        assert one == other
        if isinstance(one, Dropped):
            assert ":" in one.reason
            assert " " not in one.reason
        else:
            assert all(count > 0 for count in one.changes.values())

    law()


@pytest.mark.parametrize("config", ALONE, ids=lambda config: config.type)
def test_sound_prose_passes_untouched(config: StepConfig):
    text = story(7)
    assert alone(config)(text) == Kept(text)


@pytest.mark.parametrize("kind", ["repair", "personal"])
@given(text=st.text("aeZ é\u0301’—\n\r\t\x00\x1b\x7f\ufffd\u200b\u00a0\u2028.-@:0123", max_size=300))
@example(text="a\u200b\u0301")
@settings(max_examples=100, deadline=None)
def test_what_was_mended_needs_no_mending(kind: str, text: str):
    step = alone(next(config for config in ALONE if config.type == kind))
    first = step(text)
    if isinstance(first, Kept):
        assert step(first.text) == Kept(first.text)


@given(text=st.text(st.characters(), max_size=300))
@settings(max_examples=100, deadline=None)
def test_repaired_text_can_be_written(text: str):
    verdict = alone(next(config for config in ALONE if config.type == "repair"))(text)
    if isinstance(verdict, Kept):
        verdict.text.encode()


@pytest.mark.parametrize("config", TOGETHER, ids=lambda config: f"{config.type}-{getattr(config, 'unit', '')}")
def test_the_decision_does_not_depend_on_how_the_corpus_is_cut(config: StepConfig):
    records = corpus()
    decisions = [decided(config, cut(records, size)) for size in (7, len(records))]
    for decision in decisions[1:]:
        assert decision.keys() == decisions[0].keys()
        for name in decision:
            np.testing.assert_array_equal(decision[name], decisions[0][name])


def cut(records: Sequence[Record], size: int) -> list[Sequence[Record]]:
    return [records[at : at + size] for at in range(0, len(records), size)]


def decided(config: StepConfig, parts: list[Sequence[Record]]) -> Columns:
    """What one worker collects, another decides on."""
    worker = together(config)
    return together(config).decide([worker.collect(part) for part in parts])


@pytest.mark.parametrize("config", TOGETHER, ids=lambda config: f"{config.type}-{getattr(config, 'unit', '')}")
def test_no_documents_are_a_corpus_too(config: StepConfig):
    corpora: list[list[Sequence[Record]]] = [[], [[]], [[Record("a", "")]]]
    for parts in corpora:
        judge = together(config).judge(decided(config, parts))
        assert judge(Record("a", "")) == Kept("")


def test_the_first_of_what_is_the_same_stays():
    configs = [ExactConfig(), NearConfig()]
    kept = clean_in_memory(corpus(), [build_step(config) for config in configs])
    assert set(kept.dropped) == {"c/30", "c/31", "c/32"}
    assert kept.dropped["c/30"] == Dropped("exact:document", f"of {hash64('c/3'):016x}")


def test_nothing_is_lost_in_silence():
    records = corpus()
    cleaned = clean_in_memory(records, [build_step(config) for config in RECOMMENDED])
    assert len(cleaned.records) + len(cleaned.dropped) == len(records)
    assert sum(sum(step.reasons.values()) for step in cleaned.steps) == len(cleaned.dropped)
    for step, after in zip(cleaned.steps, cleaned.steps[1:], strict=False):
        assert step.kept == step.documents - sum(step.reasons.values()) == after.documents


def test_hashes_are_the_same_in_every_process():
    code = "from smidgen.data.cleaning.step import hash64; print(hash64('a/b.jsonl:7'))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(told) == hash64("a/b.jsonl:7") == Record("a/b.jsonl:7", "x").key


def test_every_step_can_be_named_in_a_file():
    class File(Config):
        """A pipeline's steps."""

        steps: tuple[StepConfig, ...]
        """Told apart by type."""

    told = [config.model_dump(mode="json") for config in (*RECOMMENDED, *TOGETHER)]
    told.append({"type": "decontaminate", "against": ["items.jsonl"]})
    read = validate_config({"steps": told}, File, where="here")
    assert read.steps[:-1] == (*RECOMMENDED, *TOGETHER)
    assert read.steps[-1] == DecontaminateConfig(against=(Path("items.jsonl"),))
