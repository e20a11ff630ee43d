"""From logits to the next symbol of every row, all rows at once, each by its own parameters and its own draws."""

from collections.abc import Collection, Sequence
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from smidgen.config import Config


class SamplingParams(Config):
    """How one sequence goes on. The steps apply in the order of the fields, as in `transformers`."""

    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    """Divides (or multiplies, below zero) the logits of symbols this answer has already used; 1: off.

    Symbols of the prompt are not counted: a tiny model has to copy names from it. Source: CTRL, arXiv 1909.05858.
    """
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """Divides the logits; 0: always the likeliest symbol."""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """Keep the k likeliest symbols; None: all."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Keep the likeliest symbols that together hold this probability. Source: arXiv 1904.09751."""
    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Drop symbols less likely than this fraction of the likeliest one. Source: arXiv 2407.01082."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end the answer; they are not part of its text."""
    stop_ids: frozenset[int] | None = None
    """Symbols that end the answer; None: the tokenizer's own."""
    max_symbols: Annotated[int, Field(ge=1)] = 128
    """Most symbols to generate."""
    seed: int = 0
    """Seed of this sequence's draws; equal seeds and prompts give equal answers, whatever else the engine runs."""
    exit_confidence: Annotated[float, Field(gt=0, le=1)] | None = None
    """Leave the model at its first exit that gives some symbol more than this; None: always run it whole."""
    log_probs: Annotated[int, Field(ge=0)] = 0
    """How many of the likeliest symbols to report at each place, beside the chosen one, which always is."""


ROWS_IN_CACHE = 8
"""Rows whose logits are normalised at once: of 49,152 symbols 1.6 MB. All of 1,000 rows take 44 ms for 27, and twice
that where memory for as much again is had from the system first."""


class Choice(NamedTuple):
    """The next symbol of each row; log-probabilities are of the model's own distribution, before any of the steps."""

    symbols: Int[Tensor, " B"]
    log_probs: Float[Tensor, " B"]
    log_normalizers: Float[Tensor, "B 1"]


def choose(
    logits: Float[Tensor, "B V"],
    params: Sequence[SamplingParams],
    used: Sequence[Collection[int]],
    draws: Sequence[float],
) -> Choice:
    """Choose the next symbol of each row from fp32 logits.

    `used` are the symbols each row's answer has used already, `draws` one number from [0, 1) for each row. A row's
    choice depends on nothing but its own entries.
    """
    log_normalizers = torch.cat([few.logsumexp(-1, keepdim=True) for few in logits.split(ROWS_IN_CACHE)])
    shaped = _penalize(logits, params, used)
    warm = [row for row, p in enumerate(params) if p.temperature > 0]
    if len(warm) == len(params):
        symbols = _draw(shaped, params, draws)
    else:
        symbols = shaped.max(-1).indices  # the first of equals, as argmax gives in twice the time
        if warm:
            symbols[warm] = _draw(shaped[warm], [params[row] for row in warm], [draws[row] for row in warm])
    log_probs = (logits.gather(1, symbols[:, None]) - log_normalizers)[:, 0]
    return Choice(symbols, log_probs, log_normalizers)


def _penalize(
    logits: Float[Tensor, "B V"], params: Sequence[SamplingParams], used: Sequence[Collection[int]]
) -> Float[Tensor, "B V"]:
    penalized = [row for row, p in enumerate(params) if p.repetition_penalty != 1 and used[row]]
    if not penalized:
        return logits
    rows = torch.tensor([row for row in penalized for _ in used[row]], device=logits.device)
    symbols = torch.tensor([symbol for row in penalized for symbol in used[row]], device=logits.device)
    factors = [params[row].repetition_penalty for row in penalized for _ in used[row]]
    penalty = torch.tensor(factors, device=logits.device)
    old = logits[rows, symbols]
    return logits.index_put((rows, symbols), torch.where(old > 0, old / penalty, old * penalty))


def _draw(logits: Float[Tensor, "B V"], params: Sequence[SamplingParams], draws: Sequence[float]) -> Int[Tensor, " B"]:
    """Draw from what the steps leave: one number per row and symbol, from the row's own generator."""

    def column(values: list[float]) -> Float[Tensor, "B 1"]:
        return torch.tensor(values, dtype=torch.float32, device=logits.device)[:, None]

    if any(p.top_k for p in params):
        logits = _keep_top_k(logits, [min(p.top_k or 0, logits.shape[1]) for p in params])
    # In place: fresh megabytes at every step are page faults, 0.3 ms for each of these lines at 8 rows of 49,152.
    weights = logits - logits.amax(-1, keepdim=True)
    if any(p.temperature != 1 for p in params):
        weights.div_(column([p.temperature for p in params]))
    weights.exp_()  # of the likeliest symbol: 1
    if any(p.top_p < 1 for p in params):
        weights = _keep_top_p(weights, column([p.top_p for p in params]))
    if any(p.min_p > 0 for p in params):
        weights = weights.where(weights >= column([p.min_p for p in params]), 0)
    return _invert(weights, draws)


BLOCK = 256
"""Symbols of a block of the vocabulary."""
AT_ONCE = 4096
"""Symbols that are added up one by one; of more, whole blocks are."""


def _invert(weights: Float[Tensor, "B V"], draws: Sequence[float]) -> Int[Tensor, " B"]:
    """Return the symbol where each row's share of all its weight falls; of many, the block it falls in comes first.

    Eight rows of 49,152 take 0.1 ms; adding all of them up in fp64 took 2.
    """
    # MPS has no wider type.
    wide = torch.float32 if weights.device.type == "mps" else torch.float64
    shares = torch.tensor(list(draws), dtype=wide, device=weights.device)[:, None]
    if weights.shape[1] <= AT_ONCE:
        return _place(weights, shares)[0][:, 0]
    short = -weights.shape[1] % BLOCK
    blocks = (F.pad(weights, (0, short)) if short else weights).unflatten(1, (-1, BLOCK))
    chosen, within = _place(blocks.sum(-1), shares)
    found, _ = _place(blocks.take_along_dim(chosen[..., None], 1)[:, 0], within)
    return (chosen * BLOCK + found)[:, 0]


def _place(weights: Float[Tensor, "B N"], shares: Float[Tensor, "B 1"]) -> tuple[Tensor, Tensor]:
    """Return (B, 1) where a share of all weight falls, and what share of the weight there is before it.

    In the dtype of the shares: fp32 sums of 49,152 probabilities are off by 1e-5, as much as a rare symbol holds.
    """
    ends = weights.to(shares.dtype).cumsum(-1)
    # Below 1 by the least there is, so that no rounding goes past the last symbol that weighs anything.
    goals = shares.clamp_max(1 - torch.finfo(shares.dtype).eps) * ends[:, -1:]
    found = torch.searchsorted(ends, goals, right=True).clamp_max_(ends.shape[1] - 1)
    begin = F.pad(ends, (1, 0)).gather(1, found)
    return found, (goals - begin) / (ends.gather(1, found) - begin)


def _keep_top_k(logits: Float[Tensor, "B V"], ks: list[int]) -> Float[Tensor, "B V"]:
    best = logits.topk(max(ks)).values
    index = torch.tensor([max(k, 1) - 1 for k in ks], device=logits.device)[:, None]
    everything = torch.tensor([k == 0 for k in ks], device=logits.device)[:, None]
    least = best.gather(1, index).masked_fill(everything, -torch.inf)
    return logits.masked_fill(logits < least, -torch.inf)


LIKELIEST = 1024
"""Symbols that are looked at first where the likeliest are wanted: they nearly always hold enough."""


def _keep_top_p(weights: Float[Tensor, "B V"], top_p: Float[Tensor, "B 1"]) -> Float[Tensor, "B V"]:
    """Keep the smallest set of likeliest symbols that reaches top_p; symbols as likely as its last are kept too."""
    goals = top_p * weights.sum(-1, keepdim=True)
    ordered = weights.topk(min(LIKELIEST, weights.shape[1])).values
    if bool(((ordered.sum(-1, keepdim=True) < goals) & (top_p < 1)).any()):
        ordered = weights.sort(-1, descending=True).values
    least = ordered.masked_fill(ordered.cumsum(-1) - ordered >= goals, torch.inf).amin(-1, keepdim=True)
    # A row that asks for everything keeps everything, whatever its companions ask for and however sums round.
    return weights.where((weights >= least) | (top_p >= 1), 0)
