"""Whether one model is better than another: the same items put to both, item by item.

Pairing takes out how hard an item is, which is most of the noise. Two questions must be answered alike before a
difference is called one: would other items say the same (paired bootstrap), and do the items where the two differ lean
to one side (exact sign test)? Anything less is "no difference shown", which is not "no difference".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from smidgen.evaluation.discordance import discordance_p
from smidgen.evaluation.intervals import Estimate

Verdict = Literal["better", "worse", "no difference shown"]

SIGNIFICANCE = 0.05
_RESAMPLES = 10_000
"""An end of the 95% interval then moves by 1.5% of its width from one seed to another."""
_FEW_VALUES = 64
"""Up to so many different differences a resample is a draw of their counts: the same law, 55,000 items in 10 ms."""


@dataclass(frozen=True)
class Item:
    """What one model got for one item."""

    score: float
    hash: str = ""
    """Names the strings that were asked; empty if it was not kept."""
    weight: float = 1.0
    """What it counts in the mean, such as the bytes of a text for bits per byte."""


@dataclass(frozen=True)
class Paired:
    """The items two models were both asked, in one order."""

    ids: tuple[str, ...]
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    only_ours: int
    """Items that the second was not asked."""
    only_theirs: int
    changed: int
    """Items of one name that are other strings for each: they are left out."""

    @property
    def is_same(self) -> bool:
        """Whether both were asked the same items and nothing else."""
        return not (self.only_ours or self.only_theirs or self.changed)


@dataclass(frozen=True)
class Comparison:
    """How much better the first is than the second on the same items."""

    ours: float
    theirs: float
    difference: Estimate
    """Ours - theirs, with a paired bootstrap interval."""
    wins: int
    """Items at which ours did better."""
    losses: int
    p: float
    """Exact two-sided sign test over wins and losses."""
    verdict: Verdict
    """Of the first."""
    why: str


def pair_items(ours: Mapping[str, Item], theirs: Mapping[str, Item]) -> Paired:
    """Return the scores of the items both were asked, the order ours; what is not the same on both sides is counted."""
    both = [(id, item, theirs[id]) for id, item in ours.items() if id in theirs]
    same = [(id, a, b) for id, a, b in both if a.hash == b.hash or not (a.hash and b.hash)]
    mean_weight = math.fsum(a.weight for _, a, _ in same) / max(1, len(same))
    return Paired(
        ids=tuple(id for id, _, _ in same),
        # Scaled, so that the plain mean over items is the weighted one.
        ours=tuple(a.score * a.weight / mean_weight for _, a, _ in same),
        theirs=tuple(b.score * a.weight / mean_weight for _, a, b in same),
        only_ours=len(ours) - len(both),
        only_theirs=len(theirs) - len(both),
        changed=len(both) - len(same),
    )


def compare_scores(
    ours: Sequence[float], theirs: Sequence[float], seed: int, lower_is_better: bool = False, confidence: float = 0.95
) -> Comparison:
    """Compare two models on the same items, one at least."""
    differences = _differences(ours, theirs)
    difference = _estimate(
        differences.mean(), _resample(differences, np.random.default_rng(seed)), len(ours), confidence
    )
    sign = -1 if lower_is_better else 1
    wins, losses = int((sign * differences > 0).sum()), int((sign * differences < 0).sum())
    p = discordance_p(ours, theirs)
    verdict, why = _judge(sign * difference.value, difference, wins, losses, p)
    return Comparison(_mean(ours), _mean(theirs), difference, wins, losses, p, verdict, why)


def compare_means(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]], seed: int, confidence: float = 0.95
) -> Estimate:
    """Return the difference of the means over several tasks, each counting alike: items are resampled within theirs."""
    draw = np.random.default_rng(seed)
    differences = [_differences(ours, theirs) for ours, theirs in pairs]
    resampled = np.mean([_resample(one, draw) for one in differences], axis=0)
    value = float(np.mean([one.mean() for one in differences]))
    return _estimate(value, resampled, sum(map(len, differences)), confidence)


def withstands(ps: Sequence[float], significance: float = SIGNIFICANCE) -> list[bool]:
    """Return which of several tests still show something when all are taken together.

    Source: Holm 1979, Scandinavian Journal of Statistics 6 (sequentially rejective).
    """
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    kept = [False] * len(ps)
    for rank, index in enumerate(order):
        if ps[index] * (len(ps) - rank) >= significance:
            break
        kept[index] = True
    return kept


def _judge(gain: float, difference: Estimate, wins: int, losses: int, p: float) -> tuple[Verdict, str]:
    if not wins and not losses:
        return "no difference shown", "the same on every item"
    if difference.low <= 0 <= difference.high:
        return "no difference shown", "0 is inside the interval: other items could say the opposite"
    if p >= SIGNIFICANCE:
        return "no difference shown", f"few items carry it: of those where they differ, {wins} against {losses}"
    if (gain > 0) != (wins > losses):
        return "no difference shown", f"the mean says one thing, most items the other ({wins} against {losses})"
    return ("better" if gain > 0 else "worse"), "beyond what other items would change"


def _resample(differences: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return means of as many items, drawn again with replacement. Source: Efron and Tibshirani 1993, chapter 13."""
    n = len(differences)
    values, counts = np.unique(differences, return_counts=True)
    if len(values) <= _FEW_VALUES:
        return draw.multinomial(n, counts / n, size=_RESAMPLES) @ values / n
    return np.array([differences[draw.integers(n, size=n)].mean() for _ in range(_RESAMPLES)])


def _estimate(value: float, resampled: np.ndarray, n: int, confidence: float) -> Estimate:
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(value), float(low), float(high), n, confidence)


def _differences(ours: Sequence[float], theirs: Sequence[float]) -> np.ndarray:
    return np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
