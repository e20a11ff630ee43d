"""The house rules of docs/architecture.md that a machine can check."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = sorted((REPOSITORY / "src").rglob("*.py"))
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
MOST_PARAMETERS = 8
ALLOWED: dict[str, str] = {}
"""Functions that may be longer or take more: `file.py:name` to the reason. This list only shrinks."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def short(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def parsed() -> Iterator[tuple[Path, ast.Module]]:
    for path in SOURCES:
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def functions() -> Iterator[tuple[str, Function]]:
    for path, tree in parsed():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{short(path)}:{node.name}", node


def nothing_but(found: list[str]) -> None:
    assert not found, "\n" + "\n".join(found)


def test_rooms_import_only_from_rooms_below():
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_no_file_is_over_400_lines():
    sizes = {short(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    nothing_but([f"{name}: {lines} lines" for name, lines in sizes.items() if lines > LONGEST_FILE])


def test_no_verb_is_over_100_lines():
    verbs = {
        path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES if path.parent.name == "commands"
    }
    nothing_but([f"{short(path)}: {lines} lines" for path, lines in verbs.items() if lines > 100])


def test_functions_fit_a_screen():
    lengths = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node in functions()}
    nothing_but(
        [
            f"{name}: {lines} lines"
            for name, lines in lengths.items()
            if lines > LONGEST_FUNCTION and name not in ALLOWED
        ]
    )


def test_functions_take_at_most_eight_parameters():
    counts = {}
    for name, node in functions():
        arguments = node.args
        counts[name] = len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])
    nothing_but(
        [f"{name}: {n} parameters" for name, n in counts.items() if n > MOST_PARAMETERS and name not in ALLOWED]
    )


def test_keyword_dictionaries_are_not_passed_through():
    nothing_but([f"{name}: takes **{node.args.kwarg.arg}" for name, node in functions() if node.args.kwarg])


def test_everything_public_is_documented():
    """Modules, public classes, public functions and methods."""
    found = []
    for path, tree in parsed():
        if not ast.get_docstring(tree):
            found.append(f"{short(path)}: the module")
        found += [f"{short(path)}: {name}" for name in undocumented(tree.body)]
    nothing_but(found)


def undocumented(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    for node in body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node) and not overrides(node):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node.body, f"{prefix}{node.name}.")


def overrides(node: Function | ast.ClassDef) -> bool:
    return isinstance(node, Function) and any(
        isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list
    )


def test_every_config_field_is_documented():
    """A docstring stands under the field; a `type` tag explains itself."""
    found = []
    for path, tree in parsed():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(
                isinstance(base, ast.Name) and base.id == "Config" for base in node.bases
            ):
                found += [f"{short(path)}: {node.name}.{field}" for field in bare_fields(node)]
    nothing_but(found)


def bare_fields(node: ast.ClassDef) -> Iterator[str]:
    for field, after in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        told = (
            isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
        )
        if not told and not tells_variants_apart(field):
            yield field.target.id


def tells_variants_apart(field: ast.AnnAssign) -> bool:
    """`type: Literal["bpe"] = "bpe"` needs no words; a choice of several does."""
    is_type = isinstance(field.target, ast.Name) and field.target.id == "type"
    one = isinstance(field.annotation, ast.Subscript) and isinstance(field.annotation.slice, ast.Constant)
    return is_type and one


def test_no_file_is_named_for_having_no_subject():
    vague = {"utils", "util", "common", "helpers", "misc", "base_classes"}
    nothing_but([short(path) for path in SOURCES if path.stem in vague])


def test_no_class_is_named_manager_or_helper():
    vague = re.compile(r"(Manager|Helper|Utils?|Impl)$")
    nothing_but(
        [
            f"{short(p)}: {n.name}"
            for p, t in parsed()
            for n in ast.walk(t)
            if isinstance(n, ast.ClassDef) and vague.search(n.name)
        ]
    )


@pytest.mark.parametrize(
    ("habit", "instead"),
    [
        (r"\bhasattr\(", "state the contract in a Protocol"),
        (r"\bmodel_type\s*==|\bconfig\.type\s*==|\bmodel\.type\s*==", "use a visible dict keyed by type, or a method"),
        (r"\bimport pickle\b|\bpickle\.|\btorch\.(load|save)\(", "write safetensors or JSON; never unpickle"),
        (r"\b(TODO|FIXME|XXX)\b", "do it, or open an issue"),
        (r"^\s*except\s*:", "name the exception"),
        (r"\bfrom [\w.]+ import \*", "name what is imported"),
        (r"^\s*global\s", "pass it in"),
    ],
)
def test_habits_this_house_does_without(habit: str, instead: str):
    found = []
    for path in SOURCES:
        for number, line in enumerate(code_lines(path), start=1):
            if re.search(habit, line):
                found.append(f"{short(path)}:{number}: {line.strip()} -- {instead}")
    nothing_but(found)


def code_lines(path: Path) -> list[str]:
    """Return the lines of a file with docstrings and other bare strings blanked, comments kept."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for index in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[index] = (
                    ""
                    if node.lineno != node.end_lineno
                    else lines[index].replace(ast.get_source_segment(text, node) or "", '""')
                )
    return lines
