"""SIGINT and SIGTERM at any time: one line, exit code 0, nothing half-written, and the same command goes on."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import REPOSITORY, Outcome, Smidgen
from smidgen.journey import begin, finish, train
from smidgen.journey.screen import Screen

SMOKE = REPOSITORY / "recipes/smoke.toml"
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def interrupted(smidgen: Smidgen, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, number: int) -> Outcome:
    """Train, with a signal that arrives when `owner.name` has done its work."""
    real: Callable = getattr(owner, name)

    def work(*arguments, **named):
        result = real(*arguments, **named)
        signal.raise_signal(number)
        return result

    # Started in the background of a shell, a process ignores SIGINT: the test is about one that does not.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, work)
            return smidgen("train", SMOKE)
    finally:
        signal.signal(signal.SIGINT, inherited)


def one_line(outcome: Outcome) -> str:
    assert outcome.code == 0, outcome
    assert not outcome.err
    [line] = [line for line in outcome.out.splitlines() if line.startswith("Stopped")]
    assert line == outcome.out.splitlines()[-1]
    return line


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    ("owner", "name"), [(train, "open_runtime"), (begin, "open_source"), (begin, "make_material"), (begin, "_facts")]
)
def test_during_preparation_nothing_is_left(smidgen: Smidgen, tmp_path: Path, monkeypatch, owner, name, number):
    assert "begins again" in one_line(interrupted(smidgen, monkeypatch, owner, name, number))
    assert not (tmp_path / "runs").exists()
    assert smidgen("train", SMOKE).code == 0


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", ["save_model", "_measure", "_ask_village", "_health", "write_card"])
def test_during_the_final_measuring_the_same_command_goes_on(smidgen: Smidgen, tmp_path, monkeypatch, name, number):
    assert "Go on with the same command" in one_line(interrupted(smidgen, monkeypatch, finish, name, number))
    run = tmp_path / "runs/smoke"
    assert not [path for path in run.rglob("*") if "part" in path.name]
    assert not (run / "report.html").exists()
    again = smidgen("train", SMOKE)
    assert again.code == 0, again.err
    assert (run / "report.html").is_file()
    assert (run / "model/README.md").read_text().startswith("---")


def test_during_training_twice_is_meant(smidgen: Smidgen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def twice(screen: Screen, record: dict) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Screen, "show_progress", twice)
        assert "Go on with" in one_line(smidgen("train", SMOKE))
    assert smidgen("train", SMOKE).code == 0


def test_the_handlers_from_before_are_back_afterwards(smidgen: Smidgen, monkeypatch: pytest.MonkeyPatch):
    before = [signal.getsignal(number) for number in SIGNALS]
    interrupted(smidgen, monkeypatch, begin, "make_material", signal.SIGTERM)
    assert [signal.getsignal(number) for number in SIGNALS] == before
