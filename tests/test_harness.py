"""Our engine as a model of lm-eval: found by its name, and the same numbers as the harness's own backend gives."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import REPOSITORY
from model_zoo import BYTE_MODELS, randomized, tiny
from smidgen.checkpoint import load_model, save_model
from smidgen.checkpoint.adapters import save_adapter
from smidgen.errors import ConfigError, DataError, SmidgenError
from smidgen.surgery import attach, read_adapter
from smidgen.tokenizers.bpe import BpeConfig, train_bpe
from smidgen.tokenizers.bytes import ByteTokenizer

pytest.importorskip("lm_eval")

WORDS = "the fox went over the hill to look for the moon in the water of the lake and the moon was not in the lake"
PAIRS = [
    ("The fox went over", " the hill"),
    ("The fox went over", " the lake"),
    ("The fox went over ", "the moon"),
    ("", "the moon was in the water"),
    ("", "the moon was"),
    ("to look for\n", "the fox"),
    (WORDS * 2, " and the hill"),
]
TEXTS = ["the fox", WORDS, WORDS * 3, "m"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory that `transformers` reads, too."""
    tokenizer, _ = train_bpe([WORDS] * 20, BpeConfig(vocab_size=300))
    config = tiny().model_copy(update={"vocab_size": tokenizer.vocab_size})
    folder = tmp_path_factory.mktemp("harness") / "model"
    save_model(folder, randomized(config), tokenizer, torch.float32)
    return folder


@pytest.fixture(scope="module")
def ours(directory: Path) -> Any:
    from smidgen.harness.model import SmidgenLM

    return SmidgenLM(path=str(directory), dtype="fp32", device="cpu")


@pytest.fixture(scope="module")
def theirs(directory: Path) -> Callable[..., Any]:
    """lm-eval's own backend on the same files."""
    from lm_eval.models.huggingface import HFLM

    def load(add_bos_token: bool | None = None) -> Any:
        return HFLM(
            str(directory), dtype="float32", device="cpu", batch_size=2, add_bos_token=add_bos_token, max_length=64
        )

    return load


def requests(kind: Any, arguments: Sequence[tuple]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, each, number) for number, each in enumerate(arguments)]


def test_likelihoods_are_those_of_the_harness_own_backend(ours: Any, theirs: Callable[..., Any]):
    asked = requests("loglikelihood", PAIRS)
    here, there = ours.loglikelihood(asked, disable_tqdm=True), theirs().loglikelihood(asked, disable_tqdm=True)
    for (nats, greedy), (expected, best) in zip(here, there, strict=True):
        assert nats == pytest.approx(expected, abs=1e-4)
        assert greedy == best
    assert ours.shortened == 1, "the last context is longer than 64 symbols, and that is counted"


def test_whole_texts_cost_what_they_cost_in_the_harness_own_backend(ours: Any, theirs: Callable[..., Any]):
    """The harness charges for the symbol a vocabulary begins texts with, where it does; that is no text."""
    asked = requests("loglikelihood_rolling", [(text,) for text in TEXTS])
    here = ours.loglikelihood_rolling(asked, disable_tqdm=True)
    there = theirs(add_bos_token=False).loglikelihood_rolling(asked, disable_tqdm=True)
    assert here == pytest.approx(there, abs=1e-3)
    assert ours.loglikelihood_rolling(requests("loglikelihood_rolling", [("",)]), disable_tqdm=True) == [0.0]


def test_what_is_generated_is_what_the_harness_own_backend_generates(ours: Any, theirs: Callable[..., Any]):
    wanted = [("The fox", {"until": ["zz"], "max_gen_toks": 12}), ("to look", {"until": "o", "max_gen_toks": 9})]
    wanted += [(WORDS * 2, {"until": [], "max_gen_toks": 20, "do_sample": False})]
    asked = requests("generate_until", wanted)
    assert ours.generate_until(asked, disable_tqdm=True) == theirs().generate_until(asked, disable_tqdm=True)


def test_requests_of_any_model_are_answered(tmp_path: Path):
    """Byte models that pool have no form that `transformers` knows."""
    from smidgen.harness.model import SmidgenLM

    model = BYTE_MODELS["bytes-space"].model_copy(update={"vocab_size": 264})
    save_model(tmp_path / "model", randomized(model), ByteTokenizer(), torch.float32)
    lm = SmidgenLM(path=str(tmp_path / "model"), dtype="fp32", device="cpu")
    assert all(nats < 0 for nats, _ in lm.loglikelihood(requests("loglikelihood", PAIRS[:4]), disable_tqdm=True))
    told = lm.generate_until(requests("generate_until", [("a", {"max_gen_toks": 4})]), disable_tqdm=True)
    assert isinstance(told[0], str)


def test_weights_are_held_once_and_score_as_they_answer(ours: Any):
    """What likelihoods are found with is what generates; the weights as they were read are let go."""
    assert ours._engine.model is ours._model
    assert [held for held in vars(ours).values() if isinstance(held, torch.nn.Module)] == [ours._model]


def test_an_adapter_is_applied(directory: Path, ours: Any, tmp_path: Path):
    from smidgen.harness.model import SmidgenLM

    model = load_model(directory, dtype=torch.float32).model
    adapter = attach(model, read_adapter("tinylora:3"))
    adapter.load_state({name: tensor + 0.5 for name, tensor in adapter.state().items()})
    save_adapter(tmp_path / "adapter", adapter)
    adapted = SmidgenLM(path=str(directory), adapter=str(tmp_path / "adapter"), dtype="fp32", device="cpu")
    asked = requests("loglikelihood", PAIRS[:1])
    assert adapted.loglikelihood(asked, disable_tqdm=True) != ours.loglikelihood(asked, disable_tqdm=True)
    assert adapted.get_model_info()["model_adapter"] == str(tmp_path / "adapter")


def test_sampling_follows_its_seed_and_greedy_is_said_in_every_way(ours: Any):
    hot = {"do_sample": True, "temperature": 2.0, "max_gen_toks": 12, "seed": 4}
    drawn = [ours.generate_until(requests("generate_until", [("the", hot)]), disable_tqdm=True) for _ in range(2)]
    assert drawn[0] == drawn[1]
    cold = [{"max_gen_toks": 6}, {"max_new_tokens": 6, "do_sample": False, "temperature": 1.0}]
    cold += [{"max_tokens": 6, "temperature": 0}]
    told = ours.generate_until(requests("generate_until", [("the", each) for each in cold]), disable_tqdm=True)
    assert len(set(told)) == 1


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"num_beams": 4}, "no 'num_beams'"),
        ({"max_gen_toks": 64}, "64 symbols are to be generated in a context of 64"),
        ({"max_gen_toks": 4, "top_p": 2.0}, "top_p"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(ours: Any, said: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        ours.generate_until(requests("generate_until", [("the", said)]), disable_tqdm=True)


def test_a_special_symbol_may_end_an_answer(ours: Any, directory: Path):
    from smidgen.harness.options import read_gen_kwargs

    tokenizer = load_model(directory).tokenizer
    options = read_gen_kwargs({"until": ["<|pad|>", "\n\n", ""]}, tokenizer)
    assert options.stop == ("<|pad|>", "\n\n")
    assert options.stop_ids == {*tokenizer.stop_ids, tokenizer.special_id("<|pad|>")}


def test_conversations_are_written_as_the_model_s_template_writes_them(ours: Any, theirs: Callable[..., Any]):
    history = [{"role": "user", "content": "the hill?"}]
    assert ours.apply_chat_template(history) == theirs().apply_chat_template(history)
    opened = [*history, {"role": "assistant", "content": "the lake"}]
    assert ours.apply_chat_template(opened, add_generation_prompt=False).endswith("the lake")
    assert ours.chat_template(True) == theirs().chat_template(True)
    with pytest.raises(DataError, match="called 'rag'"):
        ours.chat_template("rag")
    rendered = [(ours.apply_chat_template(history), {"max_gen_toks": 6})]
    asked = requests("generate_until", rendered)
    assert ours.generate_until(asked, disable_tqdm=True) == theirs().generate_until(asked, disable_tqdm=True)
    pair = requests("loglikelihood", [(rendered[0][0], "the lake")])
    nats, _ = ours.loglikelihood(pair, disable_tqdm=True)[0]
    assert nats == pytest.approx(theirs().loglikelihood(pair, disable_tqdm=True)[0][0], abs=1e-4)


def test_no_model_is_one_line(tmp_path: Path):
    from smidgen.harness.model import SmidgenLM

    with pytest.raises(SmidgenError, match="nowhere"):
        SmidgenLM(path="nowhere", device="cpu")
    with pytest.raises(ConfigError, match="dtype=int8"):
        SmidgenLM(path="nowhere", dtype="int8", device="cpu")


TASK = """
task: moons
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: right
metric_list:
  - metric: acc
metadata:
  version: 1.0
"""


def entry_points_of_the_package(folder: Path) -> Path:
    """Write what `pip install smidgen` would write of its entry points."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    info = folder / "smidgen-0.0.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: smidgen\nVersion: 0.0.0\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))
    return folder


SLOWLY = pytest.param(["-m", "smidgen.harness"], marks=pytest.mark.slow, id="smidgen.harness")


@pytest.mark.parametrize("typed", [pytest.param(["-m", "lm_eval"], id="lm_eval"), SLOWLY])
def test_the_harness_knows_the_model_by_name_as_typed(directory: Path, tmp_path: Path, typed: list[str]):
    rows = [{"question": "The fox went over", "choices": ["the hill", "the lake"], "right": n % 2} for n in range(6)]
    (tmp_path / "moons.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/moons.yaml").write_text(TASK.format(data=tmp_path / "moons.jsonl"))
    installed = entry_points_of_the_package(tmp_path / "site")
    command = [*typed, "--model", "smidgen", "--model_args", f"path={directory},dtype=fp32", "--tasks", "moons"]
    command += ["--include_path", tmp_path / "tasks", "--output_path", tmp_path / "out.json"]
    paths = os.pathsep.join(map(str, [REPOSITORY / "src", *([installed] if "lm_eval" in typed else [])]))
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | offline | {"PYTHONPATH": paths},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(next(tmp_path.glob("out*.json")).read_text())
    assert results["results"]["moons"]["acc,none"] == 0.5, "one answer to six equal questions is right in three"
    assert results["config"]["model"] == "smidgen"
    assert results["config"]["model_num_parameters"] > 0


def test_torch_is_imported_as_ever_where_nobody_asks_for_the_harness():
    code = "import smidgen.harness.announce as a, sys; a.on_torch_import(); print('lm_eval' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")},
        check=True,
    )
    assert done.stdout.strip() == "False"


def test_a_harness_that_cannot_be_told_does_not_break_torch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from smidgen.harness import announce

    monkeypatch.setitem(sys.modules, "lm_eval.models", None)
    announce.on_torch_import()
    assert "python -m smidgen.harness" in capsys.readouterr().err
