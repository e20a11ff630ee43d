"""Attention in a row that branches: every trunk to itself, every branch to its trunk and to itself.

Scores against a trunk are one product for all of its branches; against a branch's own symbols, one for each. The
symbols stand in one row for everything else in a block, without padding, and are spread out for attention alone.
"""

from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smidgen.data.branches import Branches


def attend_branches(
    queries: Float[Tensor, "1 H T K"],
    keys: Float[Tensor, "1 S T K"],
    values: Float[Tensor, "1 S T K"],
    branches: Branches,
) -> Float[Tensor, "1 T HK"]:
    """Attend each symbol to those on its way from the root, the heads of a symbol one behind the other again."""
    into = torch.cat([branches.trunks.flatten(), branches.branches.flatten()])
    spread = [_spread(x, keys.shape[1], into, branches) for x in (queries, keys, values)]
    (queries_there, queries_here), (keys_there, keys_here), (values_there, values_here) = spread
    there = keys_there.squeeze(2), values_there.squeeze(2)
    of_trunks = _attend_trunks(queries_there, *there)
    # A trunk that is shorter than the longest has ended before its padding, which no branch may see.
    ended = branches.trunks == branches.positions.shape[0]
    of_branches = _attend_own(queries_here, *there, keys_here.squeeze(3), values_here.squeeze(3), ended)
    of_trunks = of_trunks.permute(0, 3, 1, 2, 4).flatten(2).flatten(0, 1)
    of_branches = of_branches.permute(0, 1, 4, 2, 3, 5).flatten(3).flatten(0, 2)
    placed = torch.cat([of_trunks, of_branches])
    return _reorder(placed, branches.back, into)[None]


def _spread(x: Tensor, n_groups: int, into: Tensor, branches: Branches) -> tuple[Tensor, Tensor]:
    """Return what trunks have, (G, S, h, P, K), and what branches have, (G, N, S, h, L, K), h heads of each group."""
    placed = _reorder(x[0].transpose(0, 1).flatten(1), into, branches.back)
    first, rest = placed.split([branches.trunks.numel(), branches.branches.numel()])
    shape = n_groups, x.shape[1] // n_groups, x.shape[3]
    return (
        first.view(*branches.trunks.shape, *shape).permute(0, 2, 3, 1, 4),
        rest.view(*branches.branches.shape, *shape).permute(0, 1, 3, 4, 2, 5),
    )


def _attend_trunks(
    queries: Float[Tensor, "G S h P K"], keys: Float[Tensor, "G S P K"], values: Float[Tensor, "G S P K"]
) -> Float[Tensor, "G S h P K"]:
    shape = queries.shape[2:4]
    scores = (queries.flatten(2, 3) @ keys.mT).unflatten(2, shape).float() * queries.shape[-1] ** -0.5
    weights = (scores + _later(keys.shape[2], keys)).softmax(-1).to(values.dtype)
    return (weights.flatten(2, 3) @ values).unflatten(2, shape)


def _attend_own(
    queries: Float[Tensor, "G N S h L K"],
    trunk_keys: Float[Tensor, "G S P K"],
    trunk_values: Float[Tensor, "G S P K"],
    keys: Float[Tensor, "G N S L K"],
    values: Float[Tensor, "G N S L K"],
    ended: Bool[Tensor, "G P"],
) -> Float[Tensor, "G N S h L K"]:
    """Attend branches to their trunks and themselves, the two products under one softmax."""
    n, _, group, length = queries.shape[1:5]
    together = queries.transpose(1, 2).flatten(2, 4)  # (G, S, N h L, K)
    to_trunk = (together @ trunk_keys.mT).unflatten(2, (n, group, length)).transpose(1, 2).float()
    to_trunk = to_trunk.masked_fill(ended[:, None, None, None, None], -torch.inf)
    to_own = (queries.flatten(3, 4) @ keys.mT).unflatten(3, (group, length)).float() + _later(length, keys)
    scores = torch.cat([to_trunk, to_own], dim=-1) * queries.shape[-1] ** -0.5
    at_trunk, at_own = scores.softmax(-1).to(values.dtype).split([trunk_keys.shape[2], length], dim=-1)
    from_trunk = (at_trunk.transpose(1, 2).flatten(2, 4) @ trunk_values).unflatten(2, (n, group, length))
    return from_trunk.transpose(1, 2) + (at_own.flatten(3, 4) @ values).unflatten(3, (group, length))


def _later(length: int, like: Tensor) -> Float[Tensor, "length length"]:
    """Return what hides from each symbol those after it, to be added to scores."""
    return torch.full((length, length), -torch.inf, device=like.device).triu(1)


class _Reorder(torch.autograd.Function):
    """Rows in another order, with zeros where the order points behind the last of them; its gradient is the same with
    the order back, where indexing would add up rows one by one."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        rows, into, back = inputs
        ctx.save_for_backward(into, back)
        return _select(rows, into)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        _, back = ctx.saved_tensors
        return _select(grads[0], back), None, None


def _reorder(rows: Float[Tensor, "n C"], into: Int[Tensor, " m"], back: Int[Tensor, " n"]) -> Float[Tensor, "m C"]:
    return cast(Tensor, _Reorder.apply(rows, into, back))


def _select(rows: Float[Tensor, "n C"], order: Int[Tensor, " m"]) -> Float[Tensor, "m C"]:
    return torch.cat([rows, rows.new_zeros(1, rows.shape[1])]).index_select(0, order)
