"""Whether the folds show a difference between two configurations.

Shape legend: F folds.
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit


def paired_interval(first_F: np.ndarray, second_F: np.ndarray) -> tuple[float, float, float]:
    """Mean difference over folds, and the bounds of its corrected 95 % interval (Nadeau and Bengio, Machine
    Learning 2003): folds share their training images, so the variance of the mean is that of the differences
    times 1 / F + 1 / (F - 1). Both finite, of two folds at least.

    >>> mean, low, high = paired_interval(np.array([0.5, 0.7]), np.array([0.4, 0.5]))
    >>> round(mean, 2), round(low, 2), round(high, 2)
    (0.15, -0.95, 1.25)
    """
    difference_F = np.asarray(first_F) - np.asarray(second_F)
    folds = len(difference_F)
    error = np.sqrt(difference_F.var(ddof=1) * (1 / folds + 1 / (folds - 1)))
    half = float(stdtrit(folds - 1, 0.975) * error)
    mean = float(difference_F.mean())
    return mean, mean - half, mean + half
