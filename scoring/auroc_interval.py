"""The interval of an AUROC, also of one close to 1.

A bootstrap of a ranking in which hardly a pair is wrong sees hardly any error. Newcombe's method 5 takes the
error from the AUROC that is asked about instead of from the one that was found.
"""

from __future__ import annotations

from scipy.optimize import brentq
from scipy.special import ndtri

NEWCOMBE_PATIENTS = 10
"""Patients that Newcombe's variance weighs as much as, where the bootstrap's is smaller."""


def newcombe_variance(auroc: float, positives: float, negatives: float) -> float:
    """Variance of an AUROC under negative exponential scores with both sides' terms alike (Newcombe,
    Statistics in Medicine 25, 2006, 559-573, method 5; after Hanley and McNeil, Radiology 143, 1982).

    >>> newcombe_variance(0.5, positives=1, negatives=1)
    0.25
    """
    others = (positives + negatives) / 2 - 1
    both = others * (1 - auroc) / (2 - auroc) + others * auroc / (1 + auroc)
    return auroc * (1 - auroc) * (1 + both) / (positives * negatives)


def auroc_limits(
    value: float, error: float, positives: float, negatives: float, student: float, level: float = 0.95
) -> tuple[float, float]:
    """Two-sided limits: the values whose distance from the found one is `reach` standard errors of their own.

    Args:
        value: the AUROC, in [0, 1].
        error: its standard error, from `scoring.intervals.spread`; 0 where no resample has another value.
        positives, negatives: effective patients, 1 at least.
        student: quantile of Student's t that belongs to the error.
        level: nominal coverage.

    >>> low, high = auroc_limits(1.0, error=0.0, positives=20, negatives=20, student=2.09)
    >>> round(low, 2), high
    (0.9, 1.0)
    """
    reach = _reach(value, error, positives, negatives, student, float(ndtri((1 + level) / 2)))

    def outside(theta: float) -> float:
        return (theta - value) ** 2 - reach**2 * newcombe_variance(theta, positives, negatives)

    # At 0 and 1 the value itself is a root, which is not meant.
    low = brentq(outside, 0.0, value * (1 - 1e-9)) if value > 0 else 0.0
    high = brentq(outside, 1 - (1 - value) * (1 - 1e-9), 1.0) if value < 1 else 1.0
    return float(low), float(high)


def _reach(
    value: float, error: float, positives: float, negatives: float, student: float, normal: float
) -> float:
    """In Newcombe's errors: as many as the bootstrap has where that is more, so that patients with several
    images and scores of other shapes count; where it is less, a mean of both in which Newcombe's weighs as
    much as `NEWCOMBE_PATIENTS` and the bootstrap's as those in whom it may have seen a pair in wrong order.
    """
    variance = newcombe_variance(value, positives, negatives)
    if variance == 0:
        return normal
    bootstrap = (student * error) ** 2 / variance
    seen = 2 * min(value, 1 - value) * min(positives, negatives)
    blend = (seen * bootstrap + NEWCOMBE_PATIENTS * normal**2) / (seen + NEWCOMBE_PATIENTS)
    return float(max(bootstrap, blend)) ** 0.5
