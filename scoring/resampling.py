"""Metrics as functions of patient weights: what an interval resamples and a paired test swaps.

Patients, not images, are the unit: a patient's images share one weight. Sums are weighted here and handed to
the same definitions in `scoring.metrics` as the sums of the images as they are. Only the two ranking metrics
have a kernel of their own: there K heads share one order of the images each, here one order serves B weights.

Shape legend: N images, R weight rows (patients, or patients twice over in a paired test), B resamples
or draws, C labels.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from scoring.metrics import Confusion, SquaredErrors

_CHUNK = 1024
"""Resamples taken at a time at least: rows long enough for vector additions."""
_NUMBERS = 2**22
"""Up to so many numbers of a label are weighed at a time, 16 MiB: long rows let threads run side by side."""
_THREADS = 4


def patient_weights(patients: int, resamples: int, seed: int) -> np.ndarray:
    """float32 (patients, resamples): Rubin's Bayesian bootstrap, independent standard exponential weights.

    Exponential instead of multinomial weights because no patient ever weighs nothing: each resample keeps
    positives of every label, so the label set of an average is fixed (Rubin, Annals of Statistics 9, 1981).
    The share of positives varies as it would among other patients: average precision, F1, PPV, accuracy and
    the Brier score vary with it.

    >>> weights_PB = patient_weights(patients=3, resamples=1000, seed=0)
    >>> weights_PB.shape, weights_PB.mean(axis=1).round(1).tolist()
    ((3, 1000), [1.0, 1.0, 1.0])
    """
    return np.random.default_rng(seed).standard_exponential((patients, resamples), dtype=np.float32)


class Ranking(NamedTuple):
    """How well scores rank the images, under each weighting: (B,), or (C, B) of several labels.

    >>> scores_N = np.array([0.9, 0.8, 0.7, 0.1])
    >>> found = weighted_ranking(np.array([1, 0, 1, 0]), scores_N, np.arange(4), np.ones((4, 1)))
    >>> found.average_precision.round(3).tolist()
    [0.833]
    """

    auroc: np.ndarray
    average_precision: np.ndarray


def weighted_rankings(
    targets_NC: np.ndarray, scores_NC: np.ndarray, rows_N: np.ndarray, weights_RB: np.ndarray
) -> Ranking:
    """`weighted_ranking` of each label, (C, B).

    >>> targets_NC, scores_NC = np.array([[1], [0], [1], [0]]), np.array([[0.9], [0.8], [0.7], [0.1]])
    >>> weighted_rankings(targets_NC, scores_NC, np.arange(4), np.ones((4, 1))).auroc.tolist()
    [[0.75]]
    """
    with ThreadPoolExecutor(_THREADS) as pool:  # NumPy's sums leave Python's lock alone
        each = pool.map(
            lambda targets_N, scores_N: weighted_ranking(targets_N, scores_N, rows_N, weights_RB),
            np.transpose(targets_NC),
            np.transpose(scores_NC),
        )
    return Ranking(*(np.stack(values) for values in zip(*each, strict=True)))


def weighted_ranking(
    targets_N: np.ndarray, scores_N: np.ndarray, rows_N: np.ndarray, weights_RB: np.ndarray
) -> Ranking:
    """AUROC and average precision of one label under B weightings of the patients.

    AUROC counts a tie as one half. Average precision is the sum over positives of the precision at their
    own threshold, scikit-learn's definition.

    Args:
        targets_N: 0, 1 or NaN where masked.
        scores_N: any scores; only their order counts.
        rows_N: int, the row of `weights_RB` that weighs each image.
        weights_RB: float, not negative.

    Returns:
        Both (B,), in the dtype of the weights; NaN without positives or negatives.

    >>> scores_N, weights_RB = np.array([0.9, 0.8, 0.7, 0.1]), np.array([[1.0], [1.0], [1.0], [3.0]])
    >>> weighted_ranking(np.array([1, 0, 1, 0]), scores_N, np.arange(4), weights_RB).auroc.tolist()
    [0.875]
    """
    known_N = ~np.isnan(targets_N)
    order = np.argsort(-scores_N[known_N], kind="stable")
    descending = -scores_N[known_N][order]
    rows = rows_N[known_N][order]
    positives = np.flatnonzero(targets_N[known_N][order] == 1)
    negatives = len(rows) - len(positives)
    resamples = weights_RB.shape[1]
    auroc_B = np.full(resamples, np.nan, dtype=weights_RB.dtype)
    ap_B = auroc_B.copy()
    if len(positives) == 0 or negatives == 0:
        return Ranking(auroc_B, ap_B)

    # A threshold at a positive's score lets its whole group of ties in, from `first` to `last`.
    last = np.searchsorted(descending, descending[positives], side="right") - 1
    first = np.searchsorted(descending, descending[positives], side="left")
    last_positive = np.searchsorted(positives, last, side="right") - 1
    first_positive = np.searchsorted(positives, first, side="left")
    tied_negatives = bool(np.any((last - first) > (last_positive - first_positive)))

    chunk = max(_CHUNK, _NUMBERS // len(rows))
    for start in range(0, resamples, chunk):
        stop = min(start + chunk, resamples)
        w = weights_RB[:, start:stop].take(rows, axis=0)
        w_positive = w[positives]
        flagged, hits = _running_sums(w), _running_sums(w_positive.copy())
        all_positive = hits[-1]
        all_negative = flagged[-1] - all_positive
        true, false = hits[last_positive], flagged[last] - hits[last_positive]
        precision = np.divide(true, true + false, out=np.zeros_like(true), where=true > 0)
        ap_B[start:stop] = (w_positive * precision).sum(axis=0) / all_positive
        if tied_negatives:
            nothing = np.zeros_like(flagged[:1])
            above = (
                np.concatenate([nothing, flagged])[first] - np.concatenate([nothing, hits])[first_positive]
            )
            false = (false + above) / 2
        auroc_B[start:stop] = 1 - (w_positive * false).sum(axis=0) / (all_positive * all_negative)
    return Ranking(auroc_B, ap_B)


def weighted_confusion(
    targets_NC: np.ndarray, decisions_NC: np.ndarray, rows_N: np.ndarray, weights_RB: np.ndarray
) -> Confusion:
    """Counts (C, B) in the dtype of the weights; `decisions_NC` is bool.

    >>> targets_NC, decisions_NC = np.array([[1], [0]]), np.array([[True], [True]])
    >>> weights_RB = np.array([[2.0], [0.5]])
    >>> [count.tolist() for count in weighted_confusion(targets_NC, decisions_NC, np.arange(2), weights_RB)]
    [[[2.0]], [[0.5]], [[0.0]], [[0.0]]]
    """
    sides = [targets_NC == value for value in (1, 0)]
    cells = [side_NC & chosen_NC for side_NC in sides for chosen_NC in (decisions_NC, ~decisions_NC)]
    tp_CB, fn_CB, fp_CB, tn_CB = np.split(_row_sums(np.hstack(cells), rows_N, weights_RB), 4)
    return Confusion(tp_CB, fp_CB, fn_CB, tn_CB)


def weighted_squared_errors(
    targets_NC: np.ndarray, probs_NC: np.ndarray, rows_N: np.ndarray, weights_RB: np.ndarray
) -> SquaredErrors:
    """Sums of the errors, and of the images, of either kind, (C, B) in the dtype of the weights.

    >>> targets_NC, probs_NC = np.array([[1], [0]]), np.array([[0.5], [0.5]])
    >>> errors = weighted_squared_errors(targets_NC, probs_NC, np.arange(2), np.array([[2.0], [1.0]]))
    >>> errors.of_positives.tolist(), errors.positives.tolist()
    ([[0.5]], [[2.0]])
    """
    sides = [(value, targets_NC == value) for value in (1, 0)]
    errors = [np.where(side_NC, (probs_NC - value) ** 2, 0) for value, side_NC in sides]
    sums_4CB = _row_sums(np.hstack([*errors, *(side_NC for _, side_NC in sides)]), rows_N, weights_RB)
    return SquaredErrors(*np.split(sums_4CB, 4))


def weighted_mean(values_NM: np.ndarray, rows_N: np.ndarray, weights_RB: np.ndarray) -> np.ndarray:
    """(M, B): weighted mean over images of each column; an image with NaN is left out of that column.

    >>> values_NM, rows_N = np.array([[1.0], [0.0], [np.nan]]), np.array([0, 1, 1])
    >>> weighted_mean(values_NM, rows_N, np.array([[3.0], [1.0]])).tolist()
    [[0.75]]
    """
    known_NM = ~np.isnan(values_NM)
    both_N2M = np.hstack([np.where(known_NM, values_NM, 0), known_NM])
    sums_MB, totals_MB = np.split(_row_sums(both_N2M, rows_N, weights_RB), 2)
    return np.where(totals_MB > 0, _ratio(sums_MB, totals_MB), np.nan)


def _running_sums(rows_NB: np.ndarray) -> np.ndarray:
    """Cumulative sums down the rows, in place; row by row, at five times the speed of np.cumsum."""
    for above, row in pairwise(rows_NB):
        row += above
    return rows_NB


def _row_sums(values_NC: np.ndarray, rows_N: np.ndarray, weights_RB: np.ndarray) -> np.ndarray:
    """(C, B): sum over images of value x weight, one matrix product after adding up a patient's images."""
    values_RC = np.zeros((weights_RB.shape[0], values_NC.shape[1]), dtype=weights_RB.dtype)
    np.add.at(values_RC, rows_N, values_NC.astype(weights_RB.dtype))
    return values_RC.T @ weights_RB


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
