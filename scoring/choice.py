"""How much of the best score of many is luck, told from scores on folds.

Shape legend: K configurations, F folds.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student


def expected_fall(scores_KF: np.ndarray) -> float:
    """By how much the score of the best falls where it had no part in the choice.

    Each fold in its turn is left out: of the configurations the best on the other folds is chosen, and its
    score there compared with that on the fold left out, both less the mean of all configurations on the same
    fold, so that a difficult fold is nobody's fall. The mean over the folds. A single configuration falls by
    0, and so does one that is better than all others everywhere.

    Args:
        scores_KF: finite; two folds at least.

    Raises:
        ValueError: fewer than two folds.
    """
    _, folds = scores_KF.shape
    if folds < 2:
        raise ValueError(f"scores_KF must have two folds at least, not {folds}")
    above_KF = scores_KF - scores_KF.mean(axis=0)
    falls = []
    for fold in range(folds):
        others_K = np.delete(above_KF, fold, axis=1).mean(axis=1)
        chosen = int(np.argmax(others_K))
        falls.append(others_K[chosen] - above_KF[chosen, fold])
    return float(np.mean(falls))


def paired_interval(first_F: np.ndarray, second_F: np.ndarray) -> tuple[float, float, float]:
    """Mean difference over folds, and the bounds of its corrected 95 % interval (Nadeau and Bengio, Machine
    Learning 2003): folds share their training images, so the variance of the mean is that of the differences
    times 1 / F + 1 / (F - 1)."""
    difference_F = np.asarray(first_F) - np.asarray(second_F)
    folds = len(difference_F)
    error = np.sqrt(difference_F.var(ddof=1) * (1 / folds + 1 / (folds - 1)))
    half = float(student.ppf(0.975, folds - 1)) * error
    mean = float(difference_F.mean())
    return mean, mean - half, mean + half
