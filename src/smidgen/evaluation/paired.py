"""Whether one training recipe beats another, from the same seeds run with both: Student's t, paired or pooled.

A recipe's result is one draw of its seeds; pairs share what a seed decides (the order of the data, above all). Pure
Python and NumPy; knows nothing of studies or models.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Difference:
    """A mean difference with its interval and test."""

    value: float
    low: float
    high: float
    p: float
    """Chance of a difference this large, either way, if there were none."""
    n: int
    """Pairs behind it."""
    freedom: int
    """Degrees of freedom of the noise it is measured against."""
    confidence: float = 0.95

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves out 0."""
        return not self.low <= 0 <= self.high

    def as_dict(self) -> dict[str, float | int]:
        """Return plain values for JSON."""
        return asdict(self)


def compare_pairs(ours: Sequence[float], theirs: Sequence[float], confidence: float = 0.95) -> Difference | None:
    """Return the mean of ours - theirs with a paired t interval; None for a single pair, which has no spread.

    Two pairs have one degree of freedom: the interval reaches 12.7 standard errors, and shows little.
    Source: Student 1908, doi 10.1093/biomet/6.1.1.
    """
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    if len(differences) < 2:
        return None
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    return _difference(float(differences.mean()), error, len(differences), len(differences) - 1, confidence)


def pooled_noise(table: Sequence[Sequence[float]]) -> tuple[float, int] | None:
    """Return the standard deviation a seed causes in one result, and its degrees of freedom, from all variants at once.

    `table` has a row of results for each variant, a column for each seed; what a variant or a seed adds throughout is
    taken out. It holds if luck is as large for every variant. None if there are not two of both.
    Source: Fisher 1925, Statistical Methods for Research Workers (randomised blocks).
    """
    results = np.asarray(table, dtype=np.float64)
    if results.ndim != 2 or min(results.shape) < 2:
        return None
    rest = results - results.mean(axis=1, keepdims=True) - results.mean(axis=0, keepdims=True) + results.mean()
    freedom = (results.shape[0] - 1) * (results.shape[1] - 1)
    return math.sqrt(float((rest**2).sum()) / freedom), freedom


def compare_pooled(
    ours: Sequence[float], theirs: Sequence[float], noise: tuple[float, int], confidence: float = 0.95
) -> Difference:
    """Return the mean of ours - theirs measured against noise pooled over all variants; with two variants, the same."""
    deviation, freedom = noise
    n = len(ours)
    value = math.fsum(ours) / n - math.fsum(theirs) / n
    return _difference(value, deviation * math.sqrt(2 / n), n, freedom, confidence)


def two_sided_p(t: float, freedom: int) -> float:
    """Return the chance that Student's t is at least this far from 0.

    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4 (exact for whole degrees of freedom).
    """
    angle = math.atan(abs(t) / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = freedom % 2 == 1
    term, total = (cosine, cosine) if is_odd else (1.0, 1.0)
    for k in range(2 + is_odd, freedom - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    if is_odd:
        inside = 2 / math.pi * (angle + (sine * total if freedom > 1 else 0.0))
    else:
        inside = sine * total
    return min(1.0, max(0.0, 1 - inside))


def reach_of(freedom: int, confidence: float = 0.95) -> float:
    """Return how many standard errors an interval reaches to each side."""
    low, high = 0.0, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided_p(middle, freedom) > 1 - confidence else (low, middle)
    return high


def _difference(value: float, error: float, n: int, freedom: int, confidence: float) -> Difference:
    reach = reach_of(freedom, confidence) * error
    p = two_sided_p(value / error, freedom) if error else float(value == 0)
    return Difference(value, value - reach, value + reach, p, n, freedom, confidence)
