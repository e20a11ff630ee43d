"""Leaving a stack before its end: what every exit says in training, and decoding that stops at the first sure one.

Every exit is the same: one norm, then the model's own output head (`heads.exit`). Exits come before a thought at the
same depth.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smidgen.models.llama import Llama
from smidgen.models.stack import Block
from smidgen.models.state import StackState


def features_by_depth(model: Llama, ids: Int[Tensor, "B T"]) -> list[Float[Tensor, "B T D"]]:
    """Return the features of every exit and, last, of the end of the stack."""
    heads, found = model.heads, []
    think = heads.visitor()

    def visit(depth: int, x: Tensor) -> Tensor:
        if heads.exit is not None and depth in heads.exits:
            found.append(heads.exit(x))
        return x if think is None else think(depth, x)

    last = model.model(model.embed(ids), visit=visit)
    return [*found, last]


class EarlyLogits(NamedTuple):
    """What a step with exits gives."""

    logits: Float[Tensor, "B V"]
    """Of the next symbol of each row, from wherever it left."""
    depths: list[int]
    """Depths that each row ran through."""


def decode_early(
    model: Llama,
    ids: Int[Tensor, "B 1"],
    state: StackState,
    rows: Sequence[int],
    confidences: Sequence[float],
) -> EarlyLogits:
    """Run one new symbol of each row until an exit gives some symbol more than the row's confidence.

    The keys and values of the depths it does not reach are computed from where it left, so that later symbols find
    memory at every depth. A row's way depends on nothing but the row. Source: Schuster et al. 2022 (CALM),
    arXiv 2207.07061: confidence as the top probability, and state propagation.
    """
    stack, heads, embedded = model.model, model.heads, model.embed(ids, state, rows)
    recall, think = state.extend(rows, 1), heads.visitor()
    x = embedded = stack.enter(embedded)
    inside, left = list(range(len(rows))), list[int]()
    logits: list[Tensor] = [x] * len(rows)
    depths = [len(stack.layers)] * len(rows)
    for depth, block in enumerate(cast(Iterable[Block], stack.layers)):
        read = stack.mix(depth, x, embedded)
        if not left:
            x = block(read, recall.turn, depth, recall)
        elif not inside:
            block.remember(read, recall.turn, depth, recall)
        else:
            own = recall.of(left)
            block.remember(read[left], own.turn, depth, own)
            own = recall.of(inside)
            went = block(read[inside], own.turn, depth, own)
            x = x.index_copy(0, torch.tensor(inside, device=x.device), went)
        if heads.exit is not None and inside and depth + 1 in heads.exits:
            said = model.logits(heads.exit(x[inside, -1]))
            sure = said.softmax(-1).amax(-1).tolist()
            going = [place for place, top in zip(inside, sure, strict=True) if top > confidences[place]]
            for place in going:
                logits[place], depths[place] = said[inside.index(place)], depth + 1
            left += going
            inside = [place for place in inside if place not in going]
        if think is not None:
            x = think(depth + 1, x)
    for place, last in zip(inside, model.logits(stack.norm(x[inside, -1])) if inside else [], strict=True):
        logits[place] = last
    return EarlyLogits(torch.stack(logits), depths)
