"""What a model of N parameters that has read D bytes of text can be expected to score, in bits per byte.

    bits per byte = E + ((A / N^alpha)^p + (B / D^beta)^p)^(1/p)

E is what no model of the family removes, the other terms what too few parameters and too little text cost. With
p = 1 this is Hoffmann et al. 2022, arXiv 2203.15556; the power mean is Kaplan et al. 2020, arXiv 2001.08361 (eq. 1.5):
a model that has read little text gains little from more parameters, which the plain sum denies. D is in bytes, so the
law needs no tokenizer; constants and what they were fitted on stand in `OBSERVATIONS` and `LAW`, and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from math import exp

import numpy as np

BYTES_PER_TOKEN = 4.3
"""Bytes of a token of a 32k vocabulary on English: what token counts of the literature are converted with."""

REPEATS_TO_DECAY = 15.387756
"""R*_D: repeats after which one more is worth 1/e of fresh text. Source: Muennighoff et al. 2023, arXiv 2305.16264."""

ERROR_SHARE = 0.10
"""Half-width of the band printed beside an expectation: three times the law's worst miss on `OBSERVATIONS` (3%), since
a person's text is none of theirs; `difficulty` covers what zlib can see of that."""

CHINCHILLA_TOKENS_PER_PARAMETER = 20.0
"""Tokens per parameter that spend a training budget best. Source: Hoffmann et al. 2022, arXiv 2203.15556."""

NANOCHAT_TOKENS_PER_PARAMETER = 10.5
"""The same, per matrix and head parameter, with Muon. Source: nanochat, techniques.md, Tokens per parameter."""


@dataclass(frozen=True)
class Law:
    """Constants of the law above; `limit` and the two scales in bits per byte."""

    limit: float
    """E."""
    parameter_scale: float
    """A."""
    parameter_exponent: float
    """alpha."""
    data_scale: float
    """B."""
    data_exponent: float
    """beta."""
    sharpness: float = 1.0
    """p: 1 adds the two terms; the larger, the more the worse term decides alone."""

    def bits_per_byte(self, parameters: float, bytes_seen: float) -> float:
        """Expect a score; `bytes_seen` must already be corrected for repetition."""
        size_term = self.parameter_scale * parameters**-self.parameter_exponent
        data_term = self.data_scale * max(bytes_seen, 1.0) ** -self.data_exponent
        p = self.sharpness
        return self.limit + (size_term**p + data_term**p) ** (1 / p)


@dataclass(frozen=True)
class Observation:
    """One finished run: what the law is fitted on."""

    name: str
    """Which run."""
    parameters: float
    """All parameters, embeddings included."""
    bytes_seen: float
    """Text read, in bytes."""
    bits_per_byte: float
    """Validation score."""


def _in_bytes(nats: float) -> float:
    return nats / (0.6931471805599453 * BYTES_PER_TOKEN)


BESIROGLU = Law(
    limit=_in_bytes(1.8172),
    parameter_scale=_in_bytes(482.01),
    parameter_exponent=0.3478,
    data_scale=_in_bytes(2085.43) * BYTES_PER_TOKEN**0.3658,
    data_exponent=0.3658,
)
"""Chinchilla's runs refitted. Source: Besiroglu et al. 2024, arXiv 2404.10102. Fitted on 44M parameters and more, AdamW
and millions of tokens a step: for 10M parameters and 6M tokens it says 3.5 bits per byte where 1.67 was measured."""

OBSERVATIONS = (
    Observation("smidgen 0.49M, 2 MB", 0.493e6, 2.0e6, 2.262),
    Observation("smidgen 0.49M, 6 MB", 0.493e6, 6.0e6, 2.072),
    Observation("smidgen 1.7M, 2 MB", 1.661e6, 2.0e6, 2.178),
    Observation("smidgen 6.1M, 2 MB", 6.1e6, 2.0e6, 2.108),
    Observation("prototype 10M, 6.35M tokens (measured.md)", 9.96e6, 21.4e6, 1.672),
    Observation("parameter-golf baseline 17M (facts.md)", 17e6, 18.0e9, 1.217),
    Observation("GoLLeM-v5 17M, WikiText-2 (facts.md)", 17.4e6, 43.0e9, 1.182),
    Observation("GoLLeM-v5 31M, WikiText-2 (facts.md)", 31.4e6, 43.0e9, 1.124),
    Observation("nanochat d8 (facts.md; tokens inferred)", 58.7e6, 2.0e9, 1.078),
    Observation("nanochat d12 (facts.md; tokens inferred)", 135e6, 5.3e9, 0.969),
    Observation("nanochat d16 (facts.md; tokens inferred)", 268e6, 11.3e9, 0.900),
    Observation("nanochat d20 (facts.md; tokens inferred)", 477e6, 21.2e9, 0.853),
)
"""Runs of Muon-trained models on English of several kinds, from 0.5M to 477M parameters."""

LAW = Law(0.118, 9.39, 0.131, 16.36, 0.1475, sharpness=4.0)
"""The law plans use: `calibrate(OBSERVATIONS)`, rounded; docs/planning.md tells how far it can be trusted."""


def expected_bits_per_byte(
    parameters: float, bytes_seen: float, unique_bytes: float, difficulty: float = 1.0, law: Law = LAW
) -> float:
    """Expect a validation score for a text `difficulty` times as hard as the law's English, repeats corrected."""
    return difficulty * law.bits_per_byte(parameters, effective_bytes(bytes_seen, unique_bytes))


def effective_bytes(bytes_seen: float, unique_bytes: float) -> float:
    """Return the fresh text that `bytes_seen` of a text of `unique_bytes` is worth.

    D' = U + U R* (1 - exp(-R / R*)), R = repeats after the first reading. Source: Muennighoff et al. 2023, eq. 5.
    """
    if bytes_seen <= unique_bytes:
        return bytes_seen
    repeats = bytes_seen / unique_bytes - 1
    return unique_bytes * (1 + REPEATS_TO_DECAY * (1 - exp(-repeats / REPEATS_TO_DECAY)))


def calibrate(observations: Sequence[Observation], prior: Law = LAW, trust: float = 0.02) -> Law:
    """Refit the law's constants to runs, sharpness kept; what the runs leave open stays near the prior.

    Least squares on the logarithm of the score, in the logarithms of the constants (Gauss-Newton with damping);
    `trust` weighs the prior: a constant e times its prior costs as much as one run missed by the share `trust`.
    """
    start = np.log(np.array(astuple(prior)[:5]))

    def misses(logs: np.ndarray) -> np.ndarray:
        law = Law(*np.exp(logs).tolist(), sharpness=prior.sharpness)
        scores = [np.log(law.bits_per_byte(o.parameters, o.bytes_seen) / o.bits_per_byte) for o in observations]
        return np.concatenate([scores, trust * (logs - start)])

    point, damping = start, 1e-2
    current = misses(point)
    for _ in range(200):
        slopes = np.stack([(misses(point + nudge) - current) / 1e-6 for nudge in 1e-6 * np.eye(5)], axis=1)
        step = np.linalg.solve(slopes.T @ slopes + damping * np.eye(5), -slopes.T @ current)
        tried = misses(point + step)
        if tried @ tried < current @ current:
            point, current, damping = point + step, tried, damping / 3
        else:
            damping *= 4
    return Law(*np.exp(point).tolist(), sharpness=prior.sharpness)
