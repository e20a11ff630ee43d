"""Log-probabilities of given symbols, with gradients, whose full logits tensor never exists.

Reinforcement and preference learning weigh every symbol by a number of its own, known only after all log-probabilities
are: a sum, as `cross_entropy` makes, will not do. The logits of (B, T, V) are what runs small GPUs out of memory there
(users.md #5); here they live one chunk at a time, and only for symbols that are supervised.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from smidgen.data.batch import Batch
from smidgen.models import Model

CHUNK_BYTES = 16 << 20
"""fp32 logits held at once, of a 49,152 vocabulary 85 symbols; their softmax and slopes are as much again."""


class LogProbs(NamedTuple):
    """What a model says of each of N symbols, in nats."""

    log_probs: Float[Tensor, " N"]
    """Of the target."""
    entropies: Float[Tensor, " N"]
    """Of the whole distribution; without gradient."""


class Supervised(NamedTuple):
    """The supervised symbols of a batch in the order of their rows, and what the model says of each."""

    rows: Int[Tensor, " N"]
    """Their sequences: rows, or branches of the only row."""
    places: Int[Tensor, " N"]
    """Where they stand in a flattened (B, T)."""
    weights: Float[Tensor, " N"]
    log_probs: Float[Tensor, " N"]
    entropies: Float[Tensor, " N"]

    def of(self, values: Float[Tensor, "B T"]) -> Float[Tensor, " N"]:
        """Return what these symbols have of something that every symbol of the batch has."""
        return values.flatten()[self.places]

    def sum_rows(self, values: Float[Tensor, " N"], n_rows: int) -> Float[Tensor, " B"]:
        """Return the sum of values over the supervised symbols of each row."""
        return values.new_zeros(n_rows).index_add(0, self.rows, values)


def supervised_log_probs(model: Model, batch: Batch) -> tuple[Supervised, Mapping[str, Tensor]]:
    """Return log-probabilities of a batch's supervised symbols, and the model's own losses; the others cost nothing."""
    features, own_losses = model.features_and_losses(batch.ids, batch.targets, batch.weights, batch.branches)
    places = batch.supervised_places()
    told = target_log_probs(
        features.flatten(0, 1)[places],
        model.head_weight(),
        batch.targets.flatten()[places],
        model.config.logit_softcap,
    )
    return Supervised(batch.sequences_of(places), places, batch.weights.flatten()[places], *told), own_losses


def target_log_probs(
    features: Float[Tensor, "N D"],
    head: Float[Tensor, "V D"],
    targets: Int[Tensor, " N"],
    softcap: float | None = None,
) -> LogProbs:
    """Return the log-probability of each target and the entropy beside it; logits, softmax and sums in fp32.

    Where the head is frozen its gradient is never computed, and that of the features is ready with the forward.
    """
    if not torch.is_grad_enabled():
        features, head = features.detach(), head.detach()
    return LogProbs(*_ChunkedLogProbs.apply(features, head.to(features.dtype), targets, softcap))


def _chunks(n: int, n_vocab: int) -> list[slice]:
    most = max(1, CHUNK_BYTES // (4 * n_vocab))
    rows = (
        -(-n // -(-n // most)) if n else 1
    )  # equal shares: a last chunk of few rows would read the head for them alone
    return [slice(at, min(n, at + rows)) for at in range(0, n, rows)]


class _Chunk:
    """Room for the logits of a chunk and their softmax, used again by every chunk.

    Fresh tensors of 15 MB each, four a chunk, left a heap of 190 MB behind of which 40 were in use (SmolLM2-135M).
    """

    def __init__(self, parts: Sequence[slice], head: Float[Tensor, "V D"], softcap: float | None) -> None:
        self.head, self.softcap = head, softcap
        shape = (max((part.stop - part.start for part in parts), default=0), len(head))
        self.raw = torch.empty(shape, dtype=head.dtype, device=head.device)
        self._logits, self._probabilities = (torch.empty(shape, device=head.device) for _ in range(2))

    def fill(self, features: Float[Tensor, "n D"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits, their softmax and the logarithm of its denominator, (n, V), (n, V) and (n,)."""
        n = len(features)
        logits, probabilities = self._logits[:n], self._probabilities[:n]
        logits.copy_(torch.mm(features, self.head.T, out=self.raw[:n]))
        if self.softcap is not None:
            logits.div_(self.softcap).tanh_().mul_(self.softcap)
        top = logits.amax(-1, keepdim=True)
        total = torch.sub(logits, top, out=probabilities).exp_().sum(-1, keepdim=True)
        probabilities.mul_(total.reciprocal())
        return logits, probabilities, (top + total.log())[:, 0]

    def slopes(self, targets: Int[Tensor, " n"], above: Float[Tensor, " n"] | None = None) -> Float[Tensor, "n V"]:
        """Return d log p(target) / d raw logits of what was filled in last, times what comes from above."""
        n = len(targets)
        slopes = self._probabilities[:n].neg_()
        slopes.scatter_add_(-1, targets[:, None], torch.ones_like(targets[:, None], dtype=slopes.dtype))
        if self.softcap is not None:
            slopes.mul_(self._logits[:n].div_(self.softcap).square_().neg_().add_(1))
        if above is not None:
            slopes.mul_(above[:, None])
        return self.raw[:n].copy_(slopes)


class _ChunkedLogProbs(torch.autograd.Function):
    """The gradient of features is one vector a symbol, scaled by whatever comes from above: with a frozen head it is
    made in the forward and backward only scales it. A head that learns needs the logits once more."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        features, head, targets, softcap = inputs
        at_once = ctx.needs_input_grad[0] and not ctx.needs_input_grad[1]
        log_probs, entropies = (torch.empty(len(features), device=features.device) for _ in range(2))
        ways = torch.empty_like(features) if at_once else features
        parts = _chunks(len(features), len(head))
        chunk = _Chunk(parts, head, softcap)
        for part in parts:
            logits, probabilities, everything = chunk.fill(features[part])
            log_probs[part] = logits.gather(-1, targets[part, None])[:, 0] - everything
            entropies[part] = everything - torch.linalg.vecdot(probabilities, logits)
            if at_once:
                ways[part] = chunk.slopes(targets[part]) @ head
        ctx.at_once, ctx.softcap = at_once, softcap
        ctx.save_for_backward(ways, head, targets)
        ctx.mark_non_differentiable(entropies)
        return log_probs, entropies

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        ways, head, targets = ctx.saved_tensors
        above = grads[0]
        if ctx.at_once:
            return (ways * above[:, None]).to(ways.dtype), None, None, None
        features, feature_grads = ways, torch.empty_like(ways)
        head_grad = torch.zeros_like(head, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        parts = _chunks(len(features), len(head))
        chunk = _Chunk(parts, head, ctx.softcap)
        for part in parts:
            chunk.fill(features[part])
            slopes = chunk.slopes(targets[part], above[part])
            feature_grads[part] = slopes @ head
            if head_grad is not None:
                head_grad += slopes.T @ features[part]
        return feature_grads, None if head_grad is None else head_grad.to(head.dtype), None, None
