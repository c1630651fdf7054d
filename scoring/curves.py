"""ROC and precision-recall curves of one label, with pointwise intervals over patients.

Shape legend: N images, R weight rows (patients), B resamples, T distinct scores, G places of a grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from scoring.effective_patients import LabelPatients
from scoring.intervals import MIN_PATIENTS, spread
from scoring.shares import beta_limits

GRID = np.linspace(0.02, 0.98, 49)
"""Places of a band, on the axis that is held: the false positive rate of a ROC curve, the sensitivity of a
precision-recall curve. Its ends are left out, where a curve is what it is for any model."""

_CHUNK = 128
"""Resamples taken at a time, so that memory does not grow with their number."""


class Curves(NamedTuple):
    """What is reached where every image scored at least so high is decided for, scores falling: (T, B).

    >>> found = curves(np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.8, 0.7, 0.1]))
    >>> found.sensitivity[:, 0].tolist()
    [0.5, 0.5, 1.0, 1.0]
    """

    sensitivity: np.ndarray
    false_positive_rate: np.ndarray
    precision: np.ndarray


class Band(NamedTuple):
    """A pointwise interval, (G,) each.

    >>> band = Band(low=np.array([0.25, 0.5]), high=np.array([0.75, 1.0]))
    >>> (band.high - band.low).tolist()
    [0.5, 0.5]
    """

    low: np.ndarray
    high: np.ndarray


def curves(
    targets_N: np.ndarray,
    scores_N: np.ndarray,
    rows_N: np.ndarray | None = None,
    weights_RB: np.ndarray | None = None,
) -> Curves:
    """Both curves of one label, as the images are or under B weightings of the patients.

    Args:
        targets_N: 0, 1 or NaN where masked; a positive and a negative at least.
        scores_N: any scores; only their order counts.
        rows_N: int, the row of `weights_RB` that weighs each image.
        weights_RB: float, positive; None: every image counts once, and B is 1.

    >>> found = curves(np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.8, 0.7, 0.1]))
    >>> found.false_positive_rate[:, 0].tolist()
    [0.0, 0.5, 0.5, 1.0]
    >>> found.precision[:, 0].round(2).tolist()
    [1.0, 0.5, 0.67, 0.5]
    """
    if rows_N is None or weights_RB is None:
        rows_N, weights_RB = np.zeros(len(targets_N), dtype=np.int64), np.ones((1, 1))
    known_N = ~np.isnan(targets_N)
    order = np.argsort(-scores_N[known_N], kind="stable")
    falling, positive = scores_N[known_N][order], targets_N[known_N][order] == 1
    last = np.flatnonzero(np.append(falling[:-1] > falling[1:], True))  # of each group of equal scores
    weights_NB = weights_RB[rows_N[known_N][order]].astype(np.float64)
    true_NB = np.cumsum(weights_NB * positive[:, None], axis=0)
    false_NB = np.cumsum(weights_NB * ~positive[:, None], axis=0)
    sensitivity_TB, false_rate_TB = (true_NB / true_NB[-1])[last], (false_NB / false_NB[-1])[last]
    return Curves(sensitivity_TB, false_rate_TB, true_NB[last] / (true_NB + false_NB)[last])


def sensitivity_at(found: Curves, false_rates_G: np.ndarray) -> np.ndarray:
    """(G, B): the ROC curve at these false positive rates; between two scores it is a straight line.

    >>> found = curves(np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.8, 0.7, 0.1]))
    >>> sensitivity_at(found, np.array([0.25, 0.75])).tolist()
    [[0.5], [1.0]]
    """
    return np.stack(
        [
            np.interp(false_rates_G, np.append(0, false_rate_T), np.append(0, sensitivity_T))
            for false_rate_T, sensitivity_T in zip(
                found.false_positive_rate.T, found.sensitivity.T, strict=True
            )
        ],
        axis=1,
    )


def precision_at(found: Curves, sensitivities_G: np.ndarray) -> np.ndarray:
    """(G, B): the precision at the highest score that reaches each of these sensitivities.

    >>> found = curves(np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.8, 0.7, 0.1]))
    >>> precision_at(found, np.array([0.5, 1.0])).round(2).tolist()
    [[1.0], [0.67]]
    """
    return np.stack(
        [
            precision_T[np.searchsorted(sensitivity_T, sensitivities_G)]
            for precision_T, sensitivity_T in zip(found.precision.T, found.sensitivity.T, strict=True)
        ],
        axis=1,
    )


def share_interval(
    value: float, replicates_B: np.ndarray, patients: float, number: float
) -> tuple[float, float]:
    """95 % interval of a share from its patient-level replicates, also close to 0 and 1.

    The exact binomial interval of as many images as would have the replicates' standard error, fewer by what
    Student's t with `patients` - 1 degrees takes (Korn & Graubard, Survey Methodology 24, 1998), and `number`
    at most. A curve runs into its corners, where an interval on the logit scale covers all of [0, 1].

    Args:
        value: in [0, 1].
        replicates_B: see `scoring.intervals.spread`.
        patients: effective ones that it rests on; 2 at least are taken.
        number: effective patients among whom it is a share.

    >>> low, high = share_interval(1.0, np.ones(3), patients=10, number=10)
    >>> round(low, 2), high
    (0.69, 1.0)
    """
    patients = max(patients, 2.0)
    error = spread(replicates_B, patients)
    if 0 < value < 1 and error > 0:
        student = stdtrit(patients - 1, 0.975) / ndtri(0.975)
        number = min(number, value * (1 - value) / (student * error) ** 2)
    low, high = beta_limits(np.float64(value), np.float64(number), exact=True)
    return float(low), float(high)


def bands(
    targets_N: np.ndarray, scores_N: np.ndarray, patients_N: np.ndarray, weights_PB: np.ndarray
) -> tuple[Band, Band]:
    """Pointwise 95 % bands on GRID: of the sensitivity (ROC), of the precision (precision-recall).

    Their errors rest on the smaller of both sides. A sensitivity is a share of the positive patients, and has
    no interval before the first negative one, where the curve is a straight line to the corner; a precision
    is one of those decided for, and has none from the last positive one on. A whole curve leaves such a band
    more often than a place of it.

    Args:
        targets_N, scores_N: as `curves`.
        patients_N: int64 from 0.
        weights_PB: see `scoring.resampling.patient_weights`.

    Returns:
        NaN below MIN_PATIENTS patients on the label's smaller side.

    >>> targets_N = np.tile([1.0, 0.0], 20)
    >>> from scoring.resampling import patient_weights
    >>> weights_PB = patient_weights(40, 200, seed=0)
    >>> roc, precision = bands(targets_N, targets_N, np.arange(40), weights_PB)
    >>> float(roc.low[24].round(2)), float(roc.high[24])
    (0.83, 1.0)
    """
    label = LabelPatients(targets_NC=targets_N[:, None], rows_N=patients_N)
    if label.fewer_C[0] < MIN_PATIENTS:
        nothing_G = np.full(len(GRID), np.nan)
        return Band(nothing_G, nothing_G), Band(nothing_G, nothing_G)
    parts = [
        curves(targets_N, scores_N, patients_N, weights_PB[:, start : start + _CHUNK])
        for start in range(0, weights_PB.shape[1], _CHUNK)
    ]
    whole = curves(targets_N, scores_N)
    positives, patients = float(label.sides_2C[0, 0]), float(label.effective_C[0])

    def band(
        at: Callable[[Curves, np.ndarray], np.ndarray], patients_G: np.ndarray, number_G: np.ndarray
    ) -> Band:
        replicates_GB = np.concatenate([at(part, GRID) for part in parts], axis=1)
        places = zip(at(whole, GRID)[:, 0], replicates_GB, patients_G, number_G, strict=True)
        return Band(*np.array([share_interval(*place) for place in places]).T)

    roc = band(sensitivity_at, np.full(len(GRID), patients), np.full(len(GRID), positives))
    decided_G = GRID * positives / precision_at(whole, GRID)[:, 0]
    precision = band(precision_at, np.minimum(patients, GRID * positives), decided_G)
    positive_patients, negative_patients = (len(np.unique(patients_N[targets_N == side])) for side in (1, 0))
    first_G, last_G = GRID < 1 / negative_patients, GRID > 1 - 1 / positive_patients
    roc = Band(*(np.where(first_G, np.nan, ends_G) for ends_G in roc))
    return roc, Band(*(np.where(last_G, np.nan, ends_G) for ends_G in precision))
