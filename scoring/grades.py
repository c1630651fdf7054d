"""Decisions for one of several grades, whose columns stand from the lowest to the highest.

Shape legend: N images, C grades.
"""

from __future__ import annotations

import numpy as np

from scoring.metrics import Confusion, confusion


def grade_error(targets_NC: np.ndarray, decisions_NC: np.ndarray) -> np.ndarray:
    """float64 (N,): by how many grades the decided one is off; NaN where an image is masked.

    >>> grade_error(np.array([[1, 0, 0], [0, 1, 0]]), np.array([[0, 0, 1], [0, 1, 0]])).tolist()
    [2.0, 0.0]
    """
    known_N = ~np.isnan(targets_NC).any(axis=1)
    truth_N = np.argmax(np.nan_to_num(targets_NC), axis=1)
    return np.where(known_N, np.abs(np.argmax(decisions_NC, axis=1) - truth_N), np.nan)


def squared_grade_error_by_chance(counts: Confusion) -> float:
    """Mean squared error of grades that are decided as often as these, but whatever the truth.

    >>> squared_grade_error_by_chance(Confusion(*np.array([[1, 1], [0, 0], [0, 0], [1, 1]])))
    0.5
    """
    truth_C, decided_C = counts.tp + counts.fn, counts.tp + counts.fp
    grade_C = np.arange(len(truth_C))
    squared_CC = (grade_C[:, None] - grade_C) ** 2
    return float(truth_C @ squared_CC @ decided_C) / float(truth_C.sum()) ** 2


def quadratic_kappa(targets_NC: np.ndarray, decisions_NC: np.ndarray) -> float:
    """Cohen's kappa with squared weights (Psychological Bulletin 70, 1968), in [-1, 1]: 1 - mean squared
    error of the grades / that by chance.

    0 where every decision is the same; NaN where one grade alone is both true and decided.

    >>> round(quadratic_kappa(np.eye(3)[[0, 1, 2, 2]], np.eye(3)[[0, 1, 2, 1]]), 3)
    0.8
    """
    by_chance = squared_grade_error_by_chance(confusion(targets_NC, decisions_NC.astype(bool)))
    observed = float(np.nanmean(grade_error(targets_NC, decisions_NC) ** 2))
    return 1 - observed / by_chance if by_chance else np.nan
