"""Make answers likelier by what they earned: policy gradients with a group of answers as their own baseline.

GRPO (Shao et al. 2024, arXiv 2402.03300) and the variants that were shown to matter, each a field: asymmetric clipping
and a mean over symbols (DAPO, arXiv 2503.14476), a constant instead of each answer's length (Dr. GRPO, arXiv
2503.20783), the ratio of whole answers (GSPO, arXiv 2507.18071). Which answers earned what is decided before, in
`advantages`; a batch is a row an answer, `extra` holding its `advantages` and what earlier models said of its symbols.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from smidgen.config import Config
from smidgen.data.batch import Batch
from smidgen.errors import TrainingError
from smidgen.models import Model
from smidgen.tokenizers.base import Tokenizer
from smidgen.training.objectives import LossSum
from smidgen.training.objectives.cross_entropy import CrossEntropy, cross_entropy_sums
from smidgen.training.objectives.log_probs import Supervised, supervised_log_probs
from smidgen.training.objectives.next_token import with_own_losses

LARGEST_LOG_RATIO = 20.0
"""Where ratios are cut off before they are exponentiated: e^20 is far beyond any clip, e^89 overflows fp32."""


class PolicyConfig(Config):
    """Raise the probability of answers by their advantage."""

    type: Literal["policy"] = "policy"
    clip_low: Annotated[float, Field(gt=0, le=1)] = 0.2
    """How far below 1 a symbol's ratio to the weights before an answer's first update still earns anything: of use
    where answers are learned from more than once. Source: arXiv 1707.06347."""
    clip_high: Annotated[float, Field(gt=0)] = 0.2
    """How far above 1; 0.28 lets rare symbols rise ("clip-higher"). Source: DAPO, arXiv 2503.14476."""
    level: Literal["token", "sequence"] = "token"
    """Whose ratio is clipped: each symbol's, or the geometric mean of its answer's, which wants clips near 3e-4 and
    4e-4. Source: GSPO, arXiv 2507.18071."""
    normalize: Literal["symbols", "answers", "constant"] = "symbols"
    """What the sum is divided by: all symbols of the step (DAPO); each answer's length, then answers (GRPO); answers
    times `answer_symbols`, so that length earns nothing (Dr. GRPO, arXiv 2503.20783)."""
    answer_symbols: Annotated[int, Field(ge=1)] = 256
    """Length of an answer that "constant" divides by, whatever its length: the longest asked for."""
    kl: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the divergence from the reference (k3 estimator); 0: none, and no reference is needed."""
    importance: Literal["none", "truncated"] = "none"
    """Where answers come of other weights or kernels than training's (quantized, merged): weigh each symbol by what
    training's say against those, truncated. Source: Yao et al. 2025, fengyao.notion.site/off-policy-rl."""
    importance_cap: Annotated[float, Field(ge=1)] = 2.0
    """Greatest such weight."""


class PolicyTerms(NamedTuple):
    """What each of N symbols adds to the loss, before its weight, and what there is to log of it."""

    loss: Float[Tensor, " N"]
    ratio: Float[Tensor, " N"]
    clipped: Bool[Tensor, " N"]
    trust: Float[Tensor, " N"]
    """The truncated importance weight; 1 without."""


@dataclass(frozen=True)
class Policy:
    """The objective of a PolicyConfig.

    Reads from `extra`, (B, T) but for the first: `advantages` (B,); `old_log_probs`, what training's weights said of
    each symbol before this data was first used (absent: that is now, so every ratio is 1 and nothing is clipped for
    the rounding of another kernel); `rollout_log_probs`, what answered said (absent: the same); `reference_log_probs`
    with `kl`. All log-probabilities are of the model's own distribution, at temperature 1.
    """

    config: PolicyConfig

    def __call__(self, model: Model, batch: Batch, sums: CrossEntropy = cross_entropy_sums) -> LossSum:
        """Return the summed loss, near 0 by construction: only its gradient and what is logged beside it mean much."""
        config, n_rows = self.config, batch.n_sequences
        said, own_losses = supervised_log_probs(model, batch)
        now = said.log_probs.detach()
        before = said.of(batch.extra["old_log_probs"]) if "old_log_probs" in batch.extra else now
        answered = said.of(batch.extra["rollout_log_probs"]) if "rollout_log_probs" in batch.extra else before
        terms = policy_terms(config, said, answered, before, batch)
        weights = said.weights
        if config.normalize == "constant":
            weights = weights * (said.sum_rows(torch.ones_like(now), n_rows) / config.answer_symbols)[said.rows]
        loss = (terms.loss * weights).sum()
        seen = {
            "ratio": terms.ratio,
            "clipped": terms.clipped.float(),
            "mismatch": divergence(answered, before),
            "entropy": said.entropies,
        }
        if config.importance == "truncated":
            seen["trust"] = terms.trust
        if config.kl:
            apart = divergence(said.log_probs, said.of(_needed(batch, "reference_log_probs")))
            loss = loss + config.kl * (apart * weights).sum()
            seen["kl"] = apart
        metrics = {name: (value.detach() * said.weights).sum() for name, value in seen.items()}
        nll = -(now * said.weights).sum()
        return with_own_losses(LossSum(loss, nll, metrics), own_losses)


def policy_terms(
    config: PolicyConfig,
    said: Supervised,
    answered: Float[Tensor, " N"],
    before: Float[Tensor, " N"],
    batch: Batch,
) -> PolicyTerms:
    """Return the clipped surrogate of every symbol.

    `answered` is what the engine said of it, `before` what training's weights said before they learned from it.
    """
    n_rows = batch.n_sequences
    gains = _needed(batch, "advantages")[said.rows]
    log_ratio = said.log_probs - before
    if config.level == "sequence":
        lengths = said.sum_rows(torch.ones_like(log_ratio), n_rows).clamp_min(1)
        log_ratio = (said.sum_rows(log_ratio, n_rows) / lengths)[said.rows]
    ratio = log_ratio.clamp(max=LARGEST_LOG_RATIO).exp()
    surrogate = torch.minimum(ratio * gains, ratio.clamp(1 - config.clip_low, 1 + config.clip_high) * gains)
    clipped = ((gains > 0) & (ratio > 1 + config.clip_high)) | ((gains < 0) & (ratio < 1 - config.clip_low))
    trust = torch.ones_like(ratio)
    if config.importance == "truncated":
        trust = (before - answered).clamp(max=LARGEST_LOG_RATIO).exp().clamp(max=config.importance_cap)
    return PolicyTerms(-surrogate * trust, ratio, clipped, trust)


def divergence(of: Float[Tensor, " N"], other: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return an estimate of KL(of || other) from symbols drawn from `of`: unbiased, and never negative.

    Source: Schulman 2020, joschu.net/blog/kl-approx.html (k3).
    """
    log_ratio = (other - of).clamp(max=LARGEST_LOG_RATIO)
    return log_ratio.exp() - 1 - log_ratio


@torch.no_grad()
def log_probs_of(model: Model, batch: Batch) -> Float[Tensor, "B T"]:
    """Return what a model says of each supervised symbol now; 0 elsewhere."""
    said, _ = supervised_log_probs(model, batch)
    told = torch.zeros(batch.ids.shape, device=said.log_probs.device)
    told.view(-1)[said.places] = said.log_probs.float()
    return told


@dataclass(frozen=True)
class WeighAnswers:
    """Gives answers the weights by which the loop divides: 1 a symbol, or 1 an answer, which its symbols share.

    With 1 an answer the loop divides by their number, over all micro-batches and ranks alike.
    """

    normalize: Literal["symbols", "answers", "constant"]

    def __call__(self, batch: Batch, draw: np.random.Generator) -> Batch:
        """Return the batch reweighed. Raises TrainingError if an advantage is missing or not finite."""
        advantages = _needed(batch, "advantages")
        if not advantages.isfinite().all():
            wrong = int((~advantages.isfinite()).sum())
            raise TrainingError(f"{wrong} of {len(advantages)} advantages are not finite. Check the rewards.")
        weights = (batch.weights > 0).float()
        if self.normalize != "symbols":
            places = batch.supervised_places()
            sequences = batch.sequences_of(places)
            ones = torch.ones(len(places), device=places.device)
            lengths = ones.new_zeros(batch.n_sequences).index_add(0, sequences, ones)
            weights.view(-1)[places] = 1 / lengths[sequences]
        return replace(batch, weights=weights)


def weigh_answers(config: PolicyConfig, tokenizer: Tokenizer) -> WeighAnswers:
    """Make the change of batches that `normalize` asks for."""
    return WeighAnswers(config.normalize)


def _needed(batch: Batch, name: str) -> Tensor:
    if name not in batch.extra:
        raise TrainingError(f"train.objective policy needs {name} with every answer, and this batch has none.")
    return batch.extra[name]
