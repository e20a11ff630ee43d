"""Arithmetic expressions that a model wrote, worked out exactly and without ever running them."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from smidgen.tasks.arithmetic import OPERATIONS

LONGEST = 200
"""Characters; a longer expression is none. Keeps nesting and numbers within what Python's parser takes."""

_SIGNS: Mapping[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_ALLOWED = re.compile(r"[-0-9+*/() ]+")
_WITHIN = re.compile(r"[0-9(][-0-9+*/() ]*[0-9)]")
_SPELLINGS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})
_SEARCHED = 2000


@dataclass(frozen=True)
class Worked:
    """An expression worked out."""

    value: Fraction
    numbers: tuple[int, ...]
    """The numbers written in it, sorted."""
    operations: int
    """Operations in it."""


def work_out_expression(text: str) -> Worked | None:
    """Work out an expression of whole numbers, + - * / and parentheses; None if the text is no such thing."""
    text = text.strip()
    if not text or len(text) > LONGEST or not _ALLOWED.fullmatch(text):
        return None
    try:
        tree = ast.parse(text, mode="eval").body
        numbers: list[int] = []
        value = _value(tree, numbers)
    except (SyntaxError, ValueError, RecursionError, MemoryError, ZeroDivisionError):
        return None
    return Worked(value, tuple(sorted(numbers)), sum(isinstance(node, ast.BinOp) for node in ast.walk(tree)))


def find_expression(text: str) -> Worked | None:
    """Find the last expression with an operation in a text: `so (3 + 5) × 3 = 24.` holds (3 + 5) * 3."""
    found = None
    for match in _WITHIN.finditer(text[-_SEARCHED:].translate(_SPELLINGS)):
        worked = work_out_expression(match[0])
        if worked is not None and worked.operations:
            found = worked
    return found


def _value(node: ast.expr, numbers: list[int]) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        numbers.append(node.value)
        return Fraction(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in _SIGNS:
        left, right = _value(node.left, numbers), _value(node.right, numbers)
        return OPERATIONS[_SIGNS[type(node.op)]](left, right)
    raise ValueError("neither a whole number nor one of the four operations")
