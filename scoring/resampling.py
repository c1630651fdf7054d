"""Metrics as functions of patient weights: what an interval resamples and a paired test swaps.

Patients, not images, are the unit: a patient's images share one weight. Sums are weighted here and handed to
the same definitions in `scoring.metrics` as the sums of the images as they are. Only the two ranking metrics
have a kernel of their own: there K heads share one order of the images each, here one order serves B weights.

Shape legend: N images, R weight rows (patients, or patients twice over in a paired test), B resamples
or draws, C labels.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from scoring.metrics import Confusion, SquaredErrors

_CHUNK = 1024
"""Resamples taken at a time: rows long enough for vector additions, few enough to stay in cache."""


def patient_weights(patients: int, resamples: int, seed: int) -> np.ndarray:
    """float32 (patients, resamples): Rubin's Bayesian bootstrap, independent standard exponential weights.

    Exponential instead of multinomial weights because no patient ever weighs nothing: each resample keeps
    positives of every label, so the label set of an average is fixed (Rubin, Annals of Statistics 9, 1981).
    The metrics below rescale the weights to the sample's own number of positive and negative images of
    each label, which stratifies the resample by every label at once.
    """
    return np.random.default_rng(seed).standard_exponential((patients, resamples), dtype=np.float32)


class Ranking(NamedTuple):
    """How well scores rank the images, under each weighting: (B,), or (C, B) of several labels."""

    auroc: np.ndarray
    average_precision: np.ndarray


def weighted_rankings(
    targets_NC: np.ndarray, scores_NC: np.ndarray, rows_N: np.ndarray, weights_RB: np.ndarray
) -> Ranking:
    """`weighted_ranking` of each label, (C, B)."""
    labels = range(targets_NC.shape[1])
    each = [weighted_ranking(targets_NC[:, c], scores_NC[:, c], rows_N, weights_RB) for c in labels]
    return Ranking(*(np.stack(values) for values in zip(*each, strict=True)))


def weighted_ranking(
    targets_N: np.ndarray, scores_N: np.ndarray, rows_N: np.ndarray, weights_RB: np.ndarray
) -> Ranking:
    """AUROC and average precision of one label under B weightings of the patients.

    AUROC counts a tie as one half. Average precision is the sum over positives of the precision at their
    own threshold, scikit-learn's definition. The ratio of positives to negatives is kept at the sample's.

    Args:
        targets_N: 0, 1 or NaN where masked.
        scores_N: any scores; only their order counts.
        rows_N: int, the row of `weights_RB` that weighs each image.
        weights_RB: float, not negative.

    Returns:
        Both (B,), in the dtype of the weights; NaN without positives or negatives.
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

    for start in range(0, resamples, _CHUNK):
        stop = min(start + _CHUNK, resamples)
        w = weights_RB[:, start:stop].take(rows, axis=0)
        w_positive = w[positives]
        flagged, hits = _running_sums(w), _running_sums(w_positive.copy())
        all_positive = hits[-1]
        all_negative = flagged[-1] - all_positive
        true, false = hits[last_positive], flagged[last] - hits[last_positive]
        scale = (negatives / len(positives)) * all_positive / all_negative
        precision = np.divide(true, true + scale * false, out=np.zeros_like(true), where=true > 0)
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

    Weights are rescaled so that each label keeps the sample's number of positive and of negative images.
    """
    sides = [targets_NC == value for value in (1, 0)]
    cells = [side_NC & chosen_NC for side_NC in sides for chosen_NC in (decisions_NC, ~decisions_NC)]
    tp_CB, fn_CB, fp_CB, tn_CB = np.split(_row_sums(np.hstack(cells), rows_N, weights_RB), 4)
    scale_1_CB, scale_0_CB = _scale(sides[0], tp_CB + fn_CB), _scale(sides[1], fp_CB + tn_CB)
    return Confusion(tp_CB * scale_1_CB, fp_CB * scale_0_CB, fn_CB * scale_1_CB, tn_CB * scale_0_CB)


def weighted_class_confusion(
    targets_NC: np.ndarray, decisions_NC: np.ndarray, rows_N: np.ndarray, weights_RB: np.ndarray
) -> Confusion:
    """Counts (C, B) in the dtype of the weights, of exclusive labels: one is true and one decided an image.

    Weights are rescaled so that each label keeps the sample's number of images, once for all counts, so that
    those of different labels can be held against each other.
    """
    labels, resamples = targets_NC.shape[1], weights_RB.shape[1]
    tp_CB, decided_CB = (np.zeros((labels, resamples), dtype=weights_RB.dtype) for _ in range(2))
    positives_C1 = (targets_NC == 1).sum(axis=0)[:, None].astype(weights_RB.dtype)
    for c in range(labels):
        true_N = targets_NC[:, c] == 1
        rows_R, rows_n = np.unique(rows_N[true_N], return_inverse=True)
        chosen_CB = _row_sums(decisions_NC[true_N], rows_n, weights_RB[rows_R])
        chosen_CB *= _ratio(np.broadcast_to(positives_C1[c], resamples), chosen_CB.sum(axis=0))
        tp_CB[c] = chosen_CB[c]
        decided_CB += chosen_CB
    # What rounding leaves of nothing may lie below 0.
    fp_CB, fn_CB = np.maximum(decided_CB - tp_CB, 0), np.maximum(positives_C1 - tp_CB, 0)
    tn_CB = np.maximum(positives_C1.sum() - tp_CB - fp_CB - fn_CB, 0)
    return Confusion(tp_CB, fp_CB, fn_CB, tn_CB)


def weighted_squared_errors(
    targets_NC: np.ndarray, probs_NC: np.ndarray, rows_N: np.ndarray, weights_RB: np.ndarray
) -> SquaredErrors:
    """Sums (C, B) in the dtype of the weights, over the sample's number of images of either kind, (C, 1).

    Rescaled as the counts are, so the Brier score of a constant, the denominator of the Brier skill, is the
    same in all resamples.
    """
    sums, images = [], []
    for value in (1, 0):
        known_NC = targets_NC == value
        errors_CB = _row_sums(np.where(known_NC, (probs_NC - value) ** 2, 0), rows_N, weights_RB)
        sums.append(errors_CB * _scale(known_NC, _row_sums(known_NC, rows_N, weights_RB)))
        images.append(known_NC.sum(axis=0)[:, None])
    return SquaredErrors(*sums, *images)


def weighted_mean(values_NM: np.ndarray, rows_N: np.ndarray, weights_RB: np.ndarray) -> np.ndarray:
    """(M, B): weighted mean over images of each column; an image with NaN is left out of that column."""
    known_NM = ~np.isnan(values_NM)
    both_N2M = np.hstack([np.where(known_NM, values_NM, 0), known_NM])
    sums_MB, totals_MB = np.split(_row_sums(both_N2M, rows_N, weights_RB), 2)
    return np.where(totals_MB > 0, _ratio(sums_MB, totals_MB), np.nan)


def _scale(known_NC: np.ndarray, total_CB: np.ndarray) -> np.ndarray:
    """What makes the images of one kind weigh as many as there are; 0 where there is none."""
    images_C1 = known_NC.sum(axis=0)[:, None].astype(total_CB.dtype)
    return _ratio(np.broadcast_to(images_C1, total_CB.shape), total_CB)


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
