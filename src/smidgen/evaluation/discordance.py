"""Whether one system is right more often than another: an exact test on the questions where they differ."""

import math
from collections.abc import Sequence


def discordance_p(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the chance, if neither were better, of at least so uneven a split of the questions where they differ.

    Two-sided and exact; with grades between 0 and 1 it counts who did better, not by how much.
    Source: McNemar 1947, doi 10.1007/BF02295996; exact form, the sign test.
    """
    wins = sum(our > their for our, their in zip(ours, theirs, strict=True))
    losses = sum(our < their for our, their in zip(ours, theirs, strict=True))
    n = wins + losses
    # In logarithms: 2^-n is below the least float from n = 1075 on.
    tail = [_log_choose(n, k) - n * math.log(2) for k in range(min(wins, losses) + 1)]
    return min(1.0, 2 * math.fsum(map(math.exp, tail)))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
