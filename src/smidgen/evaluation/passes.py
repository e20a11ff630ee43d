"""pass@k: how good the best of k sampled answers is, estimated without bias from n answers to each question.

Greedy decoding asks what a model says first; pass@k asks what it can say, which is what reinforcement learning has to
work with. Trying k answers once and counting is unbiased too, but noisier than using all n.
"""

import math
import zlib
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from smidgen.config import Config
from smidgen.evaluation.intervals import Estimate, estimate_share
from smidgen.inference import SamplingParams


class Sampled(Config):
    """How answers are sampled for pass@k."""

    n: Annotated[int, Field(ge=1)] = 1
    """Answers to each question."""
    temperature: Annotated[float, Field(gt=0)] = 0.8
    """What Codex sampled with for pass@100. Source: Chen et al. 2021, arXiv 2107.03374, section 3.3."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Of the same source."""
    seed: int = 0
    """Decides every draw."""

    def draw(self, options: SamplingParams, item: str, number: int) -> SamplingParams:
        """Return how one of the answers to a question is drawn: by a seed of its own, whatever else is asked."""
        seed = zlib.crc32(f"{self.seed}/{item}/{number}".encode())
        return options.model_copy(update={"temperature": self.temperature, "top_p": self.top_p, "seed": seed})

    @property
    def ks(self) -> list[int]:
        """The k that are told: powers of two up to `n`, and `n`."""
        return sorted({*(2**power for power in range(self.n.bit_length())), self.n})


def pass_at_k(scores: Sequence[float], k: int) -> float:
    """Return the mean over all choices of k answers of the best one's score.

    With c right answers among n, scored 1, and 0 for the others: 1 - C(n-c, k) / C(n, k), unbiased for k <= n where
    1 - (1 - c/n)^k is not. Source: Chen et al. 2021, arXiv 2107.03374, equation 1; here for any score.
    """
    n = len(scores)
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} of {n} answers is not defined")
    # The i-th smallest is the best of C(i, k-1) choices: itself and k-1 of the i below it.
    return math.fsum(score * math.comb(i, k - 1) for i, score in enumerate(sorted(scores))) / math.comb(n, k)


def estimate_passes(scores: Sequence[Sequence[float]], sampled: Sampled) -> dict[int, Estimate]:
    """Return pass@k for every k that is told, from the scores of the answers to each question.

    The interval is that of a share, which is never too narrow for values between 0 and 1.
    """
    return {k: estimate_share([min(1.0, pass_at_k(own, k)) for own in scores]) for k in sampled.ks}
