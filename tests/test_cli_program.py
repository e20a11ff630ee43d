"""The command line answers quickly, fails in one line with exit code 2, and shows a traceback only when asked."""

import ast
import importlib
import os
import subprocess
import sys

import click
import pytest

from conftest import REPOSITORY, Smidgen
from smidgen.cli import TURNS_BEFORE_SLEEP, VERBS, overview


def test_help_does_not_wait_for_what_it_does_not_need():
    """`smidgen --help` in 0.3 s: measured by what is imported, since clocks on shared machines lie."""
    heavy = ("torch", "pydantic", "rich", "numpy", "tokenizers", "jinja2")
    code = f"""
import sys
sys.argv = ["smidgen", "--help"]
from smidgen.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
assert not (loaded := [name for name in {heavy} if name in sys.modules]), loaded
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP is Linux's")
@pytest.mark.parametrize(("theirs", "spins"), [({}, TURNS_BEFORE_SLEEP), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_threads_that_wait_leave_the_cores_to_others(theirs: dict[str, str], spins: str):
    code = """
import sys
sys.argv = ["smidgen", "--version"]
from smidgen.cli import main
try:
    main()
except SystemExit:
    import torch
"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | theirs | {"OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    assert f"GOMP_SPINCOUNT = '{spins}'" in told.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_command_with_help(verb: str):
    command = importlib.import_module(f"smidgen.commands.{verb}").command
    assert isinstance(command, click.Command)
    assert command.help
    assert verb in overview()
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or parameter.help, f"{verb} {parameter.name} has no help"


def test_verbs_bring_in_heavy_rooms_only_when_they_run():
    heavy = ("torch", "pydantic", "rich", "smidgen.models", "smidgen.recipe", "smidgen.journey")
    for path in (REPOSITORY / "src/smidgen/commands").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.startswith(heavy)], path


def test_the_version_is_told(smidgen: Smidgen):
    assert smidgen("--version").out.startswith("smidgen 0.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["train", "--sise", "10M"], "--size"),
        (["plan", "missing_folder"], "missing_folder: no such file or folder"),
        (["plan", "--time", "soon"], "is not a time"),
        (["train", "--size", "big"], "is not a size"),
        (["train", "--time", "1m", "--steps", "5"], "are two budgets"),
        (["train", "a", "b", "c"], "one name too many"),
        (["generate", "nowhere"], "nowhere"),
        (["generate", "nowhere", "--temperature", "-1"], "temperature"),
        (["inspect", "nowhere.toml"], "no such recipe"),
        (["report", "nowhere"], "nowhere"),
        (["pull", "smollm3"], "Did you mean smollm2-135m?"),
        (["doctor", "--device", "abacus"], "'abacus' is not a device"),
        (["doctor", "--device", "meta"], "'meta' is not a device"),
        (["eval", "runs/none", "--task", "tea"], "--task tea is no task"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_told_in_a_line_or_two_with_exit_code_2(smidgen: Smidgen, arguments: list[str], message: str):
    result = smidgen(*arguments)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err
    assert len(result.err.strip().splitlines()) <= 2
    assert not result.out


def test_a_traceback_comes_when_asked_for(smidgen_process: Smidgen):
    assert "Traceback" in smidgen_process("trian", SMIDGEN_DEBUG="1").err
    quiet = smidgen_process("trian")
    assert quiet.code == 2
    assert "Traceback" not in quiet.err


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m smidgen --help | head -1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=REPOSITORY / "src")
    assert result.stdout.startswith("Usage: smidgen")
    assert not result.stderr
