"""Log-probabilities of given symbols, with gradients, whose full logits tensor never exists.

Reinforcement and preference learning weigh every symbol by a number of its own, known only after all log-probabilities
are: a sum, as `cross_entropy` makes, will not do. The logits of (B, T, V) are what runs small GPUs out of memory there
(users.md #5); here they live one chunk at a time, and only for symbols that are supervised.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

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
    features, own_losses = model.features_and_losses(batch.ids, batch.targets, batch.weights)
    places = batch.supervised_places()
    told = target_log_probs(
        features.flatten(0, 1)[places],
        model.head_weight(),
        batch.targets.flatten()[places],
        model.config.logit_softcap,
    )
    return Supervised(places // batch.ids.shape[1], places, batch.weights.flatten()[places], *told), own_losses


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


def _logits(features: Tensor, head: Tensor, softcap: float | None) -> Tensor:
    raw = F.linear(features, head).float()
    return raw if softcap is None else softcap * torch.tanh(raw / softcap)


def _slopes(probabilities: Tensor, logits: Tensor, targets: Tensor, softcap: float | None) -> Tensor:
    """Return d log p(target) / d raw logits, in place of the probabilities."""
    slopes = probabilities.neg_()
    slopes.scatter_add_(-1, targets[:, None], torch.ones_like(targets[:, None], dtype=slopes.dtype))
    return slopes if softcap is None else slopes.mul_(1 - (logits / softcap).square())


class _ChunkedLogProbs(torch.autograd.Function):
    """The gradient of features is one vector a symbol, scaled by whatever comes from above: with a frozen head it is
    made in the forward and backward only scales it. A head that learns needs the logits once more."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        features, head, targets, softcap = inputs
        at_once = ctx.needs_input_grad[0] and not ctx.needs_input_grad[1]
        log_probs, entropies = (torch.empty(len(features), device=features.device) for _ in range(2))
        ways = torch.empty_like(features) if at_once else features
        for part in _chunks(len(features), len(head)):
            logits = _logits(features[part], head, softcap)
            everything = logits.logsumexp(-1)
            log_probs[part] = logits.gather(-1, targets[part, None])[:, 0] - everything
            probabilities = (logits - everything[:, None]).exp_()
            entropies[part] = everything - torch.linalg.vecdot(probabilities, logits)
            if at_once:
                ways[part] = _slopes(probabilities, logits, targets[part], softcap).to(features.dtype) @ head
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
        for part in _chunks(len(features), len(head)):
            logits = _logits(features[part], head, ctx.softcap)
            slopes = _slopes(logits.softmax(-1), logits, targets[part], ctx.softcap)
            slopes = slopes.mul_(above[part, None]).to(features.dtype)
            feature_grads[part] = slopes @ head
            if head_grad is not None:
                head_grad += slopes.T @ features[part]
        return feature_grads, None if head_grad is None else head_grad.to(head.dtype), None, None
