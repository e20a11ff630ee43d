"""README and docs promise commands, options, targets, files and links; each of them holds."""

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from smidgen.cli import VERBS

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
COMMANDS = re.compile(r"(smidgen|make|python -m benchmarks)\b")


def commands(page: Path) -> Iterator[str]:
    """Yield the commands of a page's code blocks; several may stand on a line, three spaces apart."""
    fenced = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            for part in re.split(r"\s{3,}", re.sub(r"\s+#.*", "", line.strip())):
                command = part.removeprefix("$ ").removeprefix(".venv/bin/")
                if COMMANDS.match(command):
                    yield command


def promised(start: str) -> list[str]:
    return sorted({command for page in PAGES for command in commands(page) if command.startswith(start)})


@pytest.mark.parametrize("command", promised("smidgen "))
def test_a_documented_command_is_one_that_smidgen_understands(command: str):
    verb, *arguments = shlex.split(command)[1:]
    if verb.startswith("--"):
        return
    assert verb in VERBS, f"{verb} is no verb"
    parsed = importlib.import_module(f"smidgen.commands.{verb}").command
    parsed.make_context(verb, arguments)  # raises on an unknown option or a missing argument


@pytest.mark.parametrize("command", promised("make "))
def test_a_documented_target_exists(command: str):
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in shlex.split(command)[1:]:
        assert "=" in target or re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("command", promised("python -m benchmarks"))
def test_a_documented_benchmark_exists(command: str):
    module = shlex.split(command)[2]
    assert (REPOSITORY / (module.replace(".", "/") + ".py")).is_file()


def test_benchmarks_that_make_runs_exist():
    for line in (REPOSITORY / "Makefile").read_text().splitlines():
        for name in re.findall(r"benchmarks\.([a-z_]+)", line):
            assert (REPOSITORY / f"benchmarks/{name}.py").is_file(), name
        for name in (re.search(r"for bench in ([a-z_ ]+);", line) or ["", ""])[1].split():
            assert (REPOSITORY / f"benchmarks/{name}.py").is_file(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_recipes_that_are_named_exist(page: Path):
    for name in re.findall(r"recipes/[\w.-]+\.toml", page.read_text(encoding="utf-8")):
        assert (REPOSITORY / name).is_file() or "d_model (250)" in page.read_text(), name


def test_the_command_line_is_documented_whole():
    text = (REPOSITORY / "README.md").read_text()
    assert not [verb for verb in VERBS if f"smidgen {verb}" not in text]


def test_help_of_make_lists_every_target():
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets
    for target in targets[1].split():
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target


def test_every_verb_takes_help(capsys: pytest.CaptureFixture[str]):
    for verb in VERBS:
        command: click.Command = importlib.import_module(f"smidgen.commands.{verb}").command
        assert command.main(["--help"], prog_name=verb, standalone_mode=False) == 0
    assert capsys.readouterr().out.count("Usage:") == len(VERBS)
