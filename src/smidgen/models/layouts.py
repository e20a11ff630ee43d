"""Sharing layouts by name: what people call a way of sharing, as the list of block ids that it is.

A config holds ids and nothing else; a name is only read. So `layers = "middle:11,3,5,2"` in a recipe, an override or
a study is the same config as the list it stands for, and is written back as that list.

    plain:8           0 1 2 3 4 5 6 7             nothing shared
    pairwise:8        0 0 1 1 2 2 3 3             neighbours share, one's weights still in cache for the other.
                                                  Source: Liu et al. 2024 (MobileLLM), arXiv 2402.14905
    cyclic:9,3        0 1 2 0 1 2 0 1 2           blocks in turn, three times over. Source: Takase and Kiyono 2021,
                                                  arXiv 2104.06022; the better full loop in techniques.md, Architecture
    middle:11,3,5,2   0 1 2 3 4 5 3 4 5 6 .. 10   of 11 blocks, those from 3 to 5 run twice.
                                                  Source: parameter-golf's records (techniques.md, Architecture)
    universal:8       0 0 0 0 0 0 0 0             one block. Source: Dehghani et al. 2018, arXiv 1807.03819

Sharing feed-forwards alone is `layers = "plain:8"` with `mlps = "universal:8"`. Source: Thawakar et al. 2024
(MobiLlama), arXiv 2402.16840; STLM plans it with `attention_outputs` shared alike.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def plain(depth: int) -> tuple[int, ...]:
    """Return the ids of a stack that shares nothing."""
    return tuple(range(depth))


def pairwise(depth: int) -> tuple[int, ...]:
    """Return the ids of a stack whose neighbours share; the last of an odd depth stands alone."""
    return tuple(position // 2 for position in range(depth))


def cyclic(depth: int, blocks: int) -> tuple[int, ...]:
    """Return the ids of a stack that runs through its blocks again and again. Raises ValueError if some never run."""
    if not 1 <= blocks <= depth:
        raise ValueError(f"a depth of {depth} cannot run through {blocks} blocks.")
    return tuple(position % blocks for position in range(depth))


def middle(blocks: int, first: int, last: int, times: int) -> tuple[int, ...]:
    """Return the ids of a stack whose blocks `first` to `last`, both included, run `times` in a row."""
    if not first <= last < blocks:
        raise ValueError(f"blocks {first} to {last} are no part of {blocks} blocks, numbered from 0.")
    looped = tuple(range(first, last + 1))
    return (*range(first), *looped * times, *range(last + 1, blocks))


def universal(depth: int) -> tuple[int, ...]:
    """Return the ids of a stack of one block."""
    return (0,) * depth


LAYOUTS: dict[str, tuple[Callable[..., tuple[int, ...]], str]] = {
    "plain": (plain, "plain:DEPTH"),
    "pairwise": (pairwise, "pairwise:DEPTH"),
    "cyclic": (cyclic, "cyclic:DEPTH,BLOCKS"),
    "middle": (middle, "middle:BLOCKS,FIRST,LAST,TIMES"),
    "universal": (universal, "universal:DEPTH"),
}
"""Every layout by name, with how it is written."""


def lay_out(text: str) -> tuple[int, ...]:
    """Return the ids a layout's name stands for. Raises ValueError naming what can be written."""
    name, _, numbers = text.partition(":")
    if name not in LAYOUTS or not re.fullmatch(r"\d{1,4}(,\d{1,4})*", numbers):
        known = ", ".join(form for _, form in LAYOUTS.values())
        raise ValueError(f"{text!r} is no list of ids and no layout. Layouts: {known}.")
    make, form = LAYOUTS[name]
    values = [int(number) for number in numbers.split(",")]
    if len(values) != form.count(",") + 1:
        raise ValueError(f"{text!r} has {len(values)} numbers; it is written {form}.")
    return make(*values)


def _read_ids(value: Any) -> Any:
    if isinstance(value, str):
        return lay_out(value)
    return tuple(value) if isinstance(value, list) else value


Ids = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), BeforeValidator(_read_ids)]
"""A list of ids, each from 0; or the name of a layout, read as the list it stands for."""
