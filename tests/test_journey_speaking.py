"""How a model is sampled: our defaults, over them what its directory says, over both what the person says."""

import json
from pathlib import Path

import pytest

from conftest import REPOSITORY, Smidgen
from smidgen.checkpoint import save_model
from smidgen.errors import ConfigError
from smidgen.inference import CHAT_DEFAULTS
from smidgen.journey.speaking import open_speaker
from smidgen.models import build_model
from smidgen.recipe import load_recipe
from smidgen.tokenizers.bytes import ByteTokenizer


@pytest.fixture
def model(tmp_path: Path) -> Path:
    recipe = load_recipe(REPOSITORY / "recipes/smoke.toml")
    save_model(tmp_path / "model", build_model(recipe.model), ByteTokenizer())
    return tmp_path / "model"


def says(model: Path, **sampling: object) -> None:
    path = model / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | sampling))


def test_our_own_directories_say_nothing(model: Path):
    assert open_speaker(str(model), "cpu", {}).params({}, CHAT_DEFAULTS) == CHAT_DEFAULTS
    assert (CHAT_DEFAULTS.temperature, CHAT_DEFAULTS.top_p, CHAT_DEFAULTS.repetition_penalty) == (0.2, 0.9, 1.1)


def test_what_a_directory_says_comes_before_defaults_and_after_the_person(model: Path):
    says(model, do_sample=True, temperature=0.6, top_k=0, top_p=0.95, pad_token_id=0)
    speaker = open_speaker(str(model), "cpu", {})
    params = speaker.params({"top_p": 0.5}, CHAT_DEFAULTS)
    assert (params.temperature, params.top_k, params.top_p, params.repetition_penalty) == (0.6, None, 0.5, 1.1)


def test_greedy_is_said_by_not_sampling(model: Path):
    says(model, do_sample=False, temperature=0.9)
    assert open_speaker(str(model), "cpu", {}).params({}).temperature == 0


def test_a_value_that_cannot_be_is_refused_by_its_file(model: Path):
    says(model, temperature=-1)
    with pytest.raises(ConfigError, match=r"generation_config\.json of .*model"):
        open_speaker(str(model), "cpu", {}).params({})


def test_chatting_tells_whose_settings_it_uses(smidgen: Smidgen, model: Path):
    says(model, temperature=0.6)
    talked = smidgen("chat", model, "--max-symbols", "2", said="Hello\n")
    assert talked.code == 0, talked.err
    assert "Sampling as its generation_config.json says: temperature 0.6." in talked.err
