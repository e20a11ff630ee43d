"""How sure a number is: every score in this house carries an interval, because small evaluation sets lie.

Pure Python and NumPy; knows nothing of models or tasks.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval."""

    value: float
    low: float
    high: float
    n: int
    """Observations behind it."""
    confidence: float = 0.95

    def as_dict(self) -> dict[str, float | int]:
        """Return plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}], n={self.n}"


def estimate_share(grades: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Return a share of successes with its Wilson interval; half points (ties) count as halves.

    Unlike the normal interval it stays inside [0, 1] and keeps its width at 0 and 1, where tiny models often are.
    Source: Wilson 1927, doi 10.1080/01621459.1927.10502953.
    """
    n = len(grades)
    share, z = math.fsum(grades) / n, _z(confidence)
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    reach = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Rounding may leave the interval 1e-17 short of a share of 0 or 1, which belongs to it.
    return Estimate(share, max(0.0, min(centre - reach, share)), min(1.0, max(centre + reach, share)), n, confidence)


def estimate_difference(
    ours: Sequence[float], theirs: Sequence[float], seed: int, confidence: float = 0.95, resamples: int = 2000
) -> Estimate:
    """Return the mean difference of two systems over the same items, with a paired bootstrap interval.

    Pairing removes the items' own difficulty, which is most of the variance. An interval that holds 0 is no
    improvement. Source: Efron and Tibshirani 1993, percentile method.
    """
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    draw = np.random.default_rng(seed)
    means = [draw.choice(differences, size=len(differences)).mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(differences.mean()), float(low), float(high), len(differences), confidence)


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
