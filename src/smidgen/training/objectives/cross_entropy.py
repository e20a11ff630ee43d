"""Cross-entropy whose full logits tensor never exists.

Logits of N symbols over V choices are the largest tensor of training and reinforcement learning alike (users.md #5).
Here they live one chunk at a time: the forward computes each chunk's gradient on the spot and keeps only the
gradients of features and head. Source of the idea: Hsu et al. 2024 (Liger Kernel), arXiv 2410.10989.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

CHUNK_BYTES = 128 << 20
"""fp32 logits held at once: 8,192 symbols of a 4,096 vocabulary fit in one chunk, where chunking only costs."""


class Softening(NamedTuple):
    """What keeps a model from being too sure; nothing by default."""

    label_smoothing: float = 0.0
    """Share of each target that is spread evenly over the vocabulary. Source: Szegedy et al. 2015, arXiv 1512.00567."""
    z_loss: float = 0.0
    """Weight of the squared log-normaliser, which keeps logits near zero. Source: PaLM, arXiv 2204.02311, section 5."""


UNSOFTENED = Softening()


class Sums(NamedTuple):
    """Losses of the same symbols, summed with the same weights, in nats."""

    loss: Float[Tensor, ""]
    """What is minimised, softening included."""
    nll: Float[Tensor, ""]
    """What the targets themselves cost; no gradient unless it is the loss."""


def cross_entropy_sums(
    features: Float[Tensor, "N D"],
    head: Float[Tensor, "V D"],
    targets: Int[Tensor, " N"],
    weights: Float[Tensor, " N"],
    softcap: float | None = None,
    softening: Softening = UNSOFTENED,
) -> Sums:
    """Return the weighted sums of the softened loss and of the bare one; logits, softmax and sums in fp32."""
    head = head.to(features.dtype)
    rows = max(1, CHUNK_BYTES // (4 * head.shape[0]))
    if rows >= features.shape[0]:
        return _sums_of(_logits(features, head, softcap), targets, weights, softening)
    if torch.is_grad_enabled():
        learns = head.requires_grad
        loss, nll = _ChunkedCrossEntropy.apply(features, head, targets, weights, softcap, softening, rows, learns)
        return Sums(loss, loss if softening == UNSOFTENED else nll)
    chunks = (slice(at, at + rows) for at in range(0, features.shape[0], rows))
    parts = [_sums_of(_logits(features[at], head, softcap), targets[at], weights[at], softening) for at in chunks]
    return Sums(*(torch.stack(sums).sum() for sums in zip(*parts, strict=True)))


CrossEntropy = Callable[..., Sums]
"""`cross_entropy_sums`, or what was compiled of it."""


def _sums_of(logits: Tensor, targets: Tensor, weights: Tensor, softening: Softening) -> Sums:
    smoothing, z_loss = softening
    nll = (F.cross_entropy(logits, targets, reduction="none") * weights).sum()
    if softening == UNSOFTENED:
        return Sums(nll, nll)
    losses = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    if z_loss:
        losses = losses + z_loss * logits.logsumexp(-1).square()
    return Sums((losses * weights).sum(), nll.detach())


def _logits(features: Tensor, head: Tensor, softcap: float | None) -> Tensor:
    raw = F.linear(features, head).float()
    return raw if softcap is None else softcap * torch.tanh(raw / softcap)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Forward computes loss and gradients chunk by chunk; backward only scales them."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        features, head, targets, weights, softcap, (smoothing, z_loss), rows, head_learns = inputs
        feature_grads = torch.empty_like(features)
        head_grad = torch.zeros_like(head, dtype=torch.float32) if head_learns else None
        loss, nll = torch.zeros((), device=features.device), torch.zeros((), device=features.device)
        for at in range(0, features.shape[0], rows):
            part = slice(at, at + rows)
            logits = _logits(features[part], head, softcap)
            log_normalizer = logits.logsumexp(-1)
            target = targets[part, None]
            bare = log_normalizer - logits.gather(-1, target)[:, 0]
            nll += (bare * weights[part]).sum()
            losses = bare * (1 - smoothing) + z_loss * log_normalizer.square()
            if smoothing:
                losses += smoothing * (log_normalizer - logits.mean(-1))
            loss += (losses * weights[part]).sum()
            grad = torch.exp(logits - log_normalizer[:, None])
            if z_loss:
                grad *= (1 + 2 * z_loss * log_normalizer)[:, None]
            grad.scatter_add_(-1, target, torch.full_like(target, smoothing - 1, dtype=grad.dtype))
            grad -= smoothing / head.shape[0]
            grad *= weights[part, None]
            if softcap is not None:
                grad *= 1 - (logits / softcap).square()
            grad = grad.to(features.dtype)
            feature_grads[part] = grad @ head
            if head_grad is not None:
                head_grad += grad.T @ features[part]
        ctx.save_for_backward(feature_grads, None if head_grad is None else head_grad.to(head.dtype))
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        feature_grads, head_grad = ctx.saved_tensors
        scaled = None if head_grad is None else head_grad * grads[0]
        return feature_grads * grads[0], scaled, None, None, None, None, None, None
