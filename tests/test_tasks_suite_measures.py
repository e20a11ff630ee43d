"""What papers report of all answers together: BLEU and chrF of a corpus, three ROUGE means."""

from pathlib import Path
from typing import Any

import pytest

from smidgen.evaluation.runner import run_task
from smidgen.inference import Engine, SamplingParams
from smidgen.models import LlamaConfig, build_model
from smidgen.models.attention import AttentionConfig
from smidgen.models.stack import StackConfig
from smidgen.tasks.base import Example
from smidgen.tasks.loading import load_task
from smidgen.tasks.summarization import measure_summaries
from smidgen.tasks.translation import measure_translations
from smidgen.tokenizers.bytes import ByteTokenizer
from task_files import make_task_files

sacrebleu = pytest.importorskip("sacrebleu", reason="the extra `tasks` is not installed")
rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="the extra `tasks` is not installed")

RIGHT = ["Ein Hund wartet am Fluss .", "Zwei Katzen schlafen in der Scheune .", "Die Gans sieht einen Hafen ."]
SAID = ["Ein Hund wartet am Park .", "Here it is:\nZwei Katzen schlafen in der Scheune .", ""]


def examples(rights: list[Any]) -> list[Example]:
    return [
        Example(str(n), "?", right[0], extra={"references": right})
        if isinstance(right, list)
        else Example(str(n), "?", right)
        for n, right in enumerate(rights)
    ]


def test_bleu_and_chrf_are_the_library_s_over_the_corpus() -> None:
    said = [SAID[0], SAID[1].splitlines()[1], ""]
    bleu, chrf = measure_translations(examples(RIGHT), SAID)
    assert (bleu.name, chrf.name) == ("BLEU", "chrF")
    assert bleu.value == pytest.approx(sacrebleu.corpus_bleu(said, [RIGHT]).score)
    assert chrf.value == pytest.approx(sacrebleu.corpus_chrf(said, [RIGHT]).score)
    assert f"tok:13a|smooth:exp|version:{sacrebleu.__version__}" in bleu.how
    assert [round(m.value) for m in measure_translations(examples(RIGHT), RIGHT)] == [100, 100]


def test_examples_may_have_different_numbers_of_references() -> None:
    several = examples([[RIGHT[0], "Am Fluss wartet ein Hund ."], RIGHT[1], [RIGHT[2]]])
    said = ["Am Fluss wartet ein Hund .", *RIGHT[1:]]
    assert [round(m.value) for m in measure_translations(several, said)] == [100, 100]


def test_rouge_is_the_library_s_best_reference() -> None:
    several = examples([["They met late .", "A dog met a cat ."], "He went home ."])
    measures = {m.name: m.value for m in measure_summaries(several, ["A dog met the cat", ""])}
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    scores = scorer.score("A dog met a cat .", "A dog met the cat")
    expected = {"ROUGE-1": "rouge1", "ROUGE-2": "rouge2", "ROUGE-L": "rougeL"}
    assert measures == pytest.approx({name: 50 * scores[key].fmeasure for name, key in expected.items()})


def test_tasks_of_likeness_measure_the_whole_and_others_do_not(tmp_path: Path) -> None:
    files = make_task_files(tmp_path)
    names = {
        name: [m.name for m in task.measures(some, [example.answer for example in some])]
        for name in ("translation", "summarization", "sentiment", "gsm8k")
        for task in [load_task(name, files, lambda line: None)]
        for some in [list(task.examples())[:3]]
    }
    assert names == {
        "translation": ["BLEU", "chrF"],
        "summarization": ["ROUGE-1", "ROUGE-2", "ROUGE-L"],
        "sentiment": [],
        "gsm8k": [],
    }
    assert load_task("translation", files).measures([], []) == []


def test_a_result_brings_the_measures_of_its_answers(tmp_path: Path) -> None:
    stack = StackConfig(d_model=16, layers=(0,), attention=AttentionConfig(n_heads=1, n_kv_heads=1))
    model = build_model(LlamaConfig(vocab_size=264, max_seq_len=512, stack=stack), seed=0).eval()
    task = load_task("translation", make_task_files(tmp_path))
    result = run_task(task, Engine(model, ByteTokenizer()), limit=2, options=SamplingParams(max_symbols=8))
    expected = measure_translations(list(task.examples())[:2], [item.answer for item in result.items])
    assert list(result.measures) == expected
    assert [measure["name"] for measure in result.as_dict()["measures"]] == ["BLEU", "chrF"]
