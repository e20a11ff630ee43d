"""Cross-entropy whose full logits tensor never exists.

Logits of N symbols over V choices are the largest tensor of training and reinforcement learning alike (users.md #5).
Here they live one chunk at a time: the forward computes each chunk's gradient on the spot and keeps only the
gradients of features and head. Source of the idea: Hsu et al. 2024 (Liger Kernel), arXiv 2410.10989.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

CHUNK_BYTES = 128 << 20
"""fp32 logits held at once: 8,192 symbols of a 4,096 vocabulary fit in one chunk, where chunking only costs."""


def cross_entropy_sum(
    features: Float[Tensor, "N D"],
    head: Float[Tensor, "V D"],
    targets: Int[Tensor, " N"],
    weights: Float[Tensor, " N"],
    softcap: float | None = None,
) -> Float[Tensor, ""]:
    """Return the weighted sum of next-symbol losses in nats; logits, softmax and sums in fp32."""
    head = head.to(features.dtype)
    rows = max(1, CHUNK_BYTES // (4 * head.shape[0]))
    if rows >= features.shape[0]:
        logits = _logits(features, head, softcap)
        return (F.cross_entropy(logits, targets, reduction="none") * weights).sum()
    if torch.is_grad_enabled():
        return _ChunkedCrossEntropy.apply(features, head, targets, weights, softcap, rows)
    losses = (
        F.cross_entropy(_logits(features[at : at + rows], head, softcap), targets[at : at + rows], reduction="none")
        for at in range(0, features.shape[0], rows)
    )
    return (torch.cat(list(losses)) * weights).sum()


def _logits(features: Tensor, head: Tensor, softcap: float | None) -> Tensor:
    raw = F.linear(features, head).float()
    return raw if softcap is None else softcap * torch.tanh(raw / softcap)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Forward computes loss and gradients chunk by chunk; backward only scales them."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        features, head, targets, weights, softcap, rows = inputs
        feature_grads = torch.empty_like(features)
        head_grad = torch.zeros_like(head, dtype=torch.float32)
        loss = torch.zeros((), device=features.device)
        for at in range(0, features.shape[0], rows):
            part = slice(at, at + rows)
            logits = _logits(features[part], head, softcap)
            log_normalizer = logits.logsumexp(-1)
            target = targets[part, None]
            loss += ((log_normalizer - logits.gather(-1, target)[:, 0]) * weights[part]).sum()
            grad = torch.exp(logits - log_normalizer[:, None])
            grad.scatter_add_(-1, target, -torch.ones_like(target, dtype=grad.dtype))
            grad *= weights[part, None]
            if softcap is not None:
                grad *= 1 - (logits / softcap).square()
            grad = grad.to(features.dtype)
            feature_grads[part] = grad @ head
            head_grad += grad.T @ features[part]
        ctx.save_for_backward(feature_grads, head_grad.to(head.dtype))
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        feature_grads, head_grad = ctx.saved_tensors
        return feature_grads * grads[0], head_grad * grads[0], None, None, None, None
