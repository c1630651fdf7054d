"""What a test split supports: intervals over patients, paired tests of two models, Holm's correction.

Patients, not images, are the unit: a patient's images share one weight. Every metric is computed as a
function of patient weights, so the value itself (all weights one), its bootstrap replicates (random
weights) and a paired test (weights that swap two models) are one piece of code.

Shape legend: N images, R weight rows (patients, or patients twice over in a paired test), B resamples
or draws, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import stats

MIN_POSITIVE_PATIENTS = 10
"""Below this many positive patients a label gets counts and no interval."""

DECISION_METRICS = ("f1", "precision", "recall", "mcc")
RANKING_METRICS = ("auroc", "average_precision")

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


def weighted_ranking(
    targets_N: np.ndarray, scores_N: np.ndarray, rows_N: np.ndarray, weights_RB: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """AUROC and average precision of one label under B weightings of the patients.

    AUROC counts a tie as one half. Average precision is the sum over positives of the precision at their
    own threshold, scikit-learn's definition. The ratio of positives to negatives is kept at the sample's.

    Args:
        targets_N: 0, 1 or NaN where masked.
        scores_N: any scores; only their order counts.
        rows_N: int, the row of `weights_RB` that weighs each image.
        weights_RB: float, not negative.

    Returns:
        auroc_B and average_precision_B, in the dtype of the weights; NaN without positives or negatives.
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
        return auroc_B, ap_B

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
    return auroc_B, ap_B


def weighted_confusion(
    targets_NC: np.ndarray, decisions_NC: np.ndarray, rows_N: np.ndarray, weights_RB: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """True positives, false positives, false negatives and true negatives, each (C, B).

    Weights are rescaled so that each label keeps the sample's number of positive and of negative images.
    """
    positive_NC = targets_NC == 1
    negative_NC = targets_NC == 0
    decided_NC = np.asarray(decisions_NC, dtype=bool)
    cells = []
    for known_NC in (positive_NC, negative_NC):
        yes_CB = _row_sums(known_NC & decided_NC, rows_N, weights_RB)
        no_CB = _row_sums(known_NC & ~decided_NC, rows_N, weights_RB)
        total_CB = yes_CB + no_CB
        count_C1 = known_NC.sum(axis=0)[:, None].astype(weights_RB.dtype)
        scale_CB = np.divide(count_C1, total_CB, out=np.zeros_like(total_CB), where=total_CB > 0)
        cells += [yes_CB * scale_CB, no_CB * scale_CB]
    tp_CB, fn_CB, fp_CB, tn_CB = cells
    return tp_CB, fp_CB, fn_CB, tn_CB


def decision_metrics(
    tp_CB: np.ndarray, fp_CB: np.ndarray, fn_CB: np.ndarray, tn_CB: np.ndarray
) -> dict[str, np.ndarray]:
    """F1, precision, recall and Matthews correlation from counts of any one shape.

    NaN without positives (MCC: also without negatives), since the data leave it undefined; 0 where the
    predictor does, by deciding for nothing (MCC: for nothing or for everything).
    """
    undefined = tp_CB + fn_CB == 0
    one_sided = undefined | (fp_CB + tn_CB == 0)
    # sqrt factor by factor: the product of four counts overflows float32 long before it matters.
    spread = np.sqrt(tp_CB + fp_CB) * np.sqrt(tp_CB + fn_CB) * np.sqrt(tn_CB + fp_CB) * np.sqrt(tn_CB + fn_CB)
    return {
        "f1": np.where(undefined, np.nan, _ratio(2 * tp_CB, 2 * tp_CB + fp_CB + fn_CB)),
        "precision": np.where(undefined, np.nan, _ratio(tp_CB, tp_CB + fp_CB)),
        "recall": np.where(undefined, np.nan, _ratio(tp_CB, tp_CB + fn_CB)),
        "mcc": np.where(one_sided, np.nan, _ratio(tp_CB * tn_CB - fp_CB * fn_CB, spread)),
    }


def weighted_brier(
    targets_NC: np.ndarray, probs_NC: np.ndarray, rows_N: np.ndarray, weights_RB: np.ndarray
) -> np.ndarray:
    """(C, B): mean squared error of the probabilities; NaN for a label without known images.

    As everywhere here, the weights of positives and of negatives keep the sample's prevalence, which makes
    the Brier score of a constant, and with it the denominator of the Brier skill, the same in all resamples.
    """
    squared_NC = (probs_NC - np.nan_to_num(targets_NC)) ** 2
    total_CB = np.zeros((targets_NC.shape[1], weights_RB.shape[1]), dtype=weights_RB.dtype)
    for value in (0, 1):
        known_NC = targets_NC == value
        error_CB = _row_sums(np.where(known_NC, squared_NC, 0), rows_N, weights_RB)
        weight_CB = _row_sums(known_NC, rows_N, weights_RB)
        total_CB += known_NC.sum(axis=0)[:, None].astype(weights_RB.dtype) * _ratio(error_CB, weight_CB)
    known_C1 = (~np.isnan(targets_NC)).sum(axis=0)[:, None]
    return np.where(known_C1 > 0, total_CB / np.maximum(known_C1, 1), np.nan).astype(weights_RB.dtype)


def weighted_mean(values_NM: np.ndarray, rows_N: np.ndarray, weights_RB: np.ndarray) -> np.ndarray:
    """(M, B): weighted mean over images of each column; an image with NaN is left out of that column."""
    known_NM = ~np.isnan(values_NM)
    sums_MB = _row_sums(np.where(known_NM, values_NM, 0), rows_N, weights_RB)
    totals_MB = _row_sums(known_NM, rows_N, weights_RB)
    return np.where(totals_MB > 0, _ratio(sums_MB, totals_MB), np.nan)


def spread(replicates_B: np.ndarray, patients: int) -> float:
    """Standard error from Bayesian-bootstrap replicates of an estimate that rests on `patients` patients.

    The replicates' variance of a mean over n is s^2 / (n + 1) with the biased s^2, where the unbiased
    estimate is s^2 / (n - 1); the factor between them is put back. NaN below 2 patients.
    """
    if patients < 2:
        return float("nan")
    return float(np.std(replicates_B, dtype=np.float64) * np.sqrt((patients + 1) / (patients - 1)))


def interval(
    value: float,
    error: float,
    freedom: float,
    patients: int,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    level: float = 0.95,
) -> tuple[float, float]:
    """Two-sided interval: logit scale, bootstrap standard error, Student's t.

    logit(value) -+ t(freedom) * error / (value (1 - value)), mapped back. A percentile interval is the same
    on every scale and covers 78 to 91 % at 10 positive patients where nominal is 95; this covers 92 to 99 %
    there and 93 to 97 % at 20 (benchmarks/interval_coverage.py). A value on a bound, where the logit has no
    spread, gets the Jeffreys interval of `patients` out of `patients` successes (or none).

    Args:
        value: the estimate.
        error: its standard error, from `spread`.
        freedom: degrees of freedom of the error, positive patients - 1 for one label.
        patients: patients the estimate rests on, for a value on a bound.
        bounds: range of the metric, or None for an unbounded one, taken on its own scale.
        level: nominal coverage.

    Returns:
        low and high; NaN where the value or its error is.
    """
    if not (np.isfinite(value) and np.isfinite(error)):
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    reach = stats.t.ppf(1 - tail, freedom) * error
    if bounds is None:
        return value - reach, value + reach
    bottom, width = bounds[0], bounds[1] - bounds[0]
    p = (value - bottom) / width
    if p <= 0 or p >= 1:
        edge = stats.beta.ppf(1 - tail, 0.5, patients + 0.5)
        low, high = (0.0, edge) if p <= 0 else (1 - edge, 1.0)
    else:
        middle, half = np.log(p / (1 - p)), reach / width / (p * (1 - p))
        low, high = 1 / (1 + np.exp(half - middle)), 1 / (1 + np.exp(-half - middle))
    return float(bottom + width * low), float(bottom + width * high)


def label_interval(
    value: float,
    replicates_B: np.ndarray,
    patients: int,
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> tuple[float, float]:
    """`interval` of one label's metric; NaN below MIN_POSITIVE_PATIENTS positive patients."""
    if patients < MIN_POSITIVE_PATIENTS:
        return float("nan"), float("nan")
    return interval(value, spread(replicates_B, patients), patients - 1, patients, bounds)


def average_interval(
    values_C: np.ndarray,
    replicates_CB: np.ndarray,
    patients_C: np.ndarray,
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> tuple[float, float]:
    """`interval` of the mean over labels, whose resamples are joint, so that their dependence counts.

    Each label's deviations are first scaled by its own small-sample factor (see `spread`), and the degrees
    of freedom are Satterthwaite's, (sum v)^2 / sum(v^2 / (n - 1)) over the labels' variances v: an average
    that leans on one label with four positives is as uncertain as that.

    What it covers (92 to 96 % of the time, benchmarks/interval_coverage.py) is the expected average on a
    split of this size. For average precision that is more than on an endless one: a label with few positives
    scores too high on average (0.13 instead of 0.07 with 5), and the mean over labels does not cancel it.

    NaN below MIN_POSITIVE_PATIENTS positive patients over all labels together, and where a label has fewer
    than 2.
    """
    if patients_C.sum() < MIN_POSITIVE_PATIENTS or patients_C.min() < 2:
        return float("nan"), float("nan")
    factor_C = np.sqrt((patients_C + 1) / (patients_C - 1))
    deviations_CB = (replicates_CB - replicates_CB.mean(axis=1, keepdims=True)) * factor_C[:, None]
    variance_C = deviations_CB.var(axis=1, dtype=np.float64)
    error = float(deviations_CB.mean(axis=0).std(dtype=np.float64))
    total = float((variance_C**2 / (patients_C - 1)).sum())
    freedom = float(variance_C.sum() ** 2 / total) if total > 0 else float(patients_C.sum() - 1)
    return interval(float(values_C.mean()), error, freedom, int(patients_C.sum()), bounds)


def midranks(scores_NC: np.ndarray, targets_NC: np.ndarray) -> np.ndarray:
    """float64 (N, C) in (0, 1): each label's scores as mid-ranks among its known images, so that the
    scores of two models can stand in for each other."""
    ranks_NC = np.full(scores_NC.shape, 0.5)
    for column in range(scores_NC.shape[1]):
        known_N = ~np.isnan(targets_NC[:, column])
        ranks_NC[known_N, column] = (stats.rankdata(scores_NC[known_N, column]) - 0.5) / max(known_N.sum(), 1)
    return ranks_NC


def paired_permutation(
    targets_NC: np.ndarray,
    first_NC: np.ndarray,
    second_NC: np.ndarray,
    patients_N: np.ndarray,
    *,
    draws: int = 10_000,
    seed: int = 0,
    kind: str = "scores",
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Observed difference of two models (first minus second) and its distribution under the null.

    Null: which of the two models produced a patient's predictions makes no difference. Each draw swaps the
    two models' predictions of a random half of the patients, all images and labels of a patient together.
    Scores are compared by their mid-ranks within a label, since two models need not share a scale
    (Venkatraman and Begg, Biometrika 83, 1996).

    Args:
        targets_NC: 0, 1 or NaN where masked.
        first_NC, second_NC: scores, or decisions where `kind` is "decisions".
        patients_N: integer codes from 0.
        draws: random swaps.
        seed: of the swaps.
        kind: "scores" gives auroc and average_precision, "decisions" gives the decision metrics.

    Returns:
        metric -> (observed_C, null_CB), the null in float32.
    """
    if kind not in ("scores", "decisions"):
        raise ValueError(f"kind must be 'scores' or 'decisions', not {kind!r}")
    patients = int(patients_N.max()) + 1
    swap_RB = np.random.default_rng(seed).integers(0, 2, (patients, draws), dtype=np.int8).astype(np.float32)
    # A swapped model is a weighting of both models' predictions laid end to end: its own images weigh 1 where
    # the patient is not swapped, the other model's weigh 1 where it is.
    rows_2N = np.concatenate([patients_N, patients_N + patients])
    targets_2NC = np.concatenate([targets_NC, targets_NC])
    if kind == "scores":
        first_NC, second_NC = midranks(first_NC, targets_NC), midranks(second_NC, targets_NC)
    both_2NC = np.concatenate([first_NC, second_NC])

    def metrics(weights_RB: np.ndarray) -> dict[str, np.ndarray]:
        if kind == "decisions":
            return decision_metrics(*weighted_confusion(targets_2NC, both_2NC, rows_2N, weights_RB))
        pairs = [
            weighted_ranking(targets_2NC[:, c], both_2NC[:, c], rows_2N, weights_RB)
            for c in range(targets_NC.shape[1])
        ]
        return {
            name: np.stack(column)
            for name, column in zip(RANKING_METRICS, zip(*pairs, strict=True), strict=True)
        }

    keep_RB = 1 - swap_RB
    mine, theirs = metrics(np.concatenate([keep_RB, swap_RB])), metrics(np.concatenate([swap_RB, keep_RB]))
    unswapped = np.repeat([1.0, 0.0], patients)[:, None]
    observed, other = metrics(unswapped), metrics(1 - unswapped)
    return {name: ((observed[name] - other[name])[:, 0], mine[name] - theirs[name]) for name in mine}


def permutation_p(observed: float, null_B: np.ndarray) -> float:
    """Two-sided p = (1 + draws at least as extreme) / (1 + draws), never 0; NaN where undefined.

    The 1e-6 lets rounding count as a tie, which can only make p larger.
    """
    if not np.isfinite(observed):
        return float("nan")
    return float((1 + np.sum(np.abs(null_B) >= abs(observed) - 1e-6)) / (1 + len(null_B)))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """float64: Holm's step-down adjusted p-values of one family, in the order given; NaN stays NaN and
    does not count as a member (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    members = np.flatnonzero(~np.isnan(p))
    order = members[np.argsort(p[members], kind="stable")]
    stepped = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return adjusted


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
