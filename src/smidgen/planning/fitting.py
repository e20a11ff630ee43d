"""Fit quantities that cannot be negative: seconds per operation, terms of a scaling law."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np


def fit_nonnegative(causes: Sequence[Sequence[float]], effects: Sequence[float]) -> list[float]:
    """Return coefficients >= 0 that minimise the squared *relative* error of causes @ coefficients against effects.

    Tries every subset of causes, which for a handful is simpler than an iterative solver, and exact.
    """
    scale = 1 / np.asarray(effects, dtype=np.float64)
    design = np.asarray(causes, dtype=np.float64) * scale[:, None]
    n_causes = design.shape[1]
    best, best_error = np.zeros(n_causes), float(len(scale))
    for size in range(1, n_causes + 1):
        for chosen in combinations(range(n_causes), size):
            part = design[:, chosen]
            unit = np.linalg.norm(part, axis=0)
            unit[unit == 0] = 1.0
            solution = np.linalg.lstsq(part / unit, np.ones(len(scale)), rcond=None)[0] / unit
            error = float(np.square(part @ solution - 1).sum())
            if (solution >= 0).all() and error < best_error:
                best = np.zeros(n_causes)
                best[list(chosen)] = solution
                best_error = error
    return best.tolist()
