"""Intervals of one label's metric and of an average over labels, from patient-level bootstrap replicates.

Shape legend: B resamples, C labels.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit, stdtrit

from cohort.patients import FEWEST_PATIENTS
from scoring.shares import beta_limits

MIN_PATIENTS = FEWEST_PATIENTS
"""With fewer patients than this on its smaller side (`cohort.patients.fewer_patients`) a label gets counts
and no interval."""


def spread(replicates_B: np.ndarray, patients: float) -> float:
    """Standard error from Bayesian-bootstrap replicates of an estimate that rests on `patients` patients.

    The replicates' variance of a mean over n is s^2 / (n + 1) with the biased s^2, where the unbiased
    estimate is s^2 / (n - 1); the factor between them is put back. NaN below 2 patients.

    >>> round(spread(np.array([0.0, 1.0]), patients=3), 3)
    0.707
    """
    if patients < 2:
        return float("nan")
    return float(np.std(replicates_B, dtype=np.float64) * np.sqrt((patients + 1) / (patients - 1)))


def interval(
    value: float,
    error: float,
    freedom: float,
    patients: float,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    level: float = 0.95,
) -> tuple[float, float]:
    """Two-sided interval: logit scale, bootstrap standard error, Student's t.

    logit(value) -+ t(freedom) * error / (value (1 - value)), mapped back. A percentile interval is the same
    on every scale and too short with few patients; how often either holds the truth is simulated in
    benchmarks/interval_coverage.py. A value on a bound, where the logit has no spread, gets the Jeffreys
    interval of `patients` out of `patients` successes (or none). With an upper bound alone the scale is the
    logarithm of the distance from it, and a value on it has no interval.

    Args:
        value: the estimate.
        error: its standard error, from `spread`.
        freedom: degrees of freedom of the error, for one label the patients on its smaller side - 1.
        patients: patients the estimate rests on, for a value on a bound; effective ones, so no whole number.
        bounds: range of the metric, its lower end minus infinity where it has none; None for an unbounded
            one, taken on its own scale.
        level: nominal coverage.

    Returns:
        low and high; NaN where the value or its error is.

    >>> low, high = interval(0.5, error=0.1, freedom=9, patients=10)
    >>> round(low, 2), round(high, 2)
    (0.29, 0.71)
    """
    if not (np.isfinite(value) and np.isfinite(error)):
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    reach = stdtrit(freedom, 1 - tail) * error
    if bounds is None:
        return value - reach, value + reach
    if np.isneginf(bounds[0]):
        distance = bounds[1] - value
        if distance <= 0:
            return float("nan"), float("nan")
        factor = np.exp(reach / distance)
        return float(bounds[1] - distance * factor), float(bounds[1] - distance / factor)
    bottom, width = bounds[0], bounds[1] - bounds[0]
    p = (value - bottom) / width
    if p <= 0 or p >= 1:
        low, high = beta_limits(np.clip(p, 0.0, 1.0), np.float64(patients), exact=False, level=level)
    else:
        middle, half = logit(p), reach / width / (p * (1 - p))
        low, high = expit(middle - half), expit(middle + half)
    return float(bottom + width * low), float(bottom + width * high)


def exact_interval(value: float, number: float, level: float = 0.95) -> tuple[float, float]:
    """Two-sided interval of a share: Clopper and Pearson's (Biometrika 26, 1934).

    Args:
        value: in [0, 1].
        number: of independent entries, which need be no whole number: of a share over several images of a
            patient, `scoring.effective_patients.effective_number` of the images of each.
        level: nominal coverage, held at any number.

    Returns:
        low and high; NaN where the value is, or without an entry.

    >>> low, high = exact_interval(1.0, number=10)
    >>> round(low, 2), high
    (0.69, 1.0)
    """
    if not np.isfinite(value) or number <= 0:
        return float("nan"), float("nan")
    low, high = beta_limits(np.float64(value), np.float64(number), exact=True, level=level)
    return float(low), float(high)


def label_interval(
    value: float,
    replicates_B: np.ndarray,
    patients: int,
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> tuple[float, float]:
    """`interval` of one label's metric; NaN below MIN_PATIENTS patients on the label's smaller side.

    >>> low, high = label_interval(0.5, np.array([0.4, 0.6]), patients=10)
    >>> round(low, 2), round(high, 2)
    (0.27, 0.73)
    >>> label_interval(0.5, np.array([0.4, 0.6]), patients=MIN_PATIENTS - 1)
    (nan, nan)
    """
    if patients < MIN_PATIENTS:
        return float("nan"), float("nan")
    return interval(value, spread(replicates_B, patients), patients - 1, patients, bounds)


def average_interval(
    values_C: np.ndarray,
    replicates_CB: np.ndarray,
    patients_C: np.ndarray,
    patients: int,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    *,
    level: float = 0.95,
) -> tuple[float, float]:
    """`interval` of the mean over labels, whose resamples are joint, so that their dependence counts.

    What it covers (benchmarks/interval_coverage.py) is the expected average on a split of this size. For
    average precision that is more than on an endless one: a label with few positives
    scores too high on average (0.13 instead of 0.07 with 5), and the mean over labels does not cancel it.

    Args:
        values_C: the labels' values.
        replicates_CB: the same in joint resamples.
        patients_C: on each label's smaller side; effective ones need be no whole numbers.
        patients: on the smaller side of any label, each counted once (`cohort.patients.fewer_side_patients`):
            two labels that complement each other rest on no more of them than either does.
        bounds, level: see `interval`.

    Returns:
        low and high; NaN below MIN_PATIENTS of `patients`, and where a label has fewer than 2.

    >>> replicates_CB = np.array([[0.3, 0.5], [0.5, 0.7]])
    >>> low, high = average_interval(np.array([0.4, 0.6]), replicates_CB, np.array([20, 20]), patients=20)
    >>> round(low, 2), round(high, 2)
    (0.29, 0.71)
    """
    if patients < MIN_PATIENTS or patients_C.min() < 2:
        return float("nan"), float("nan")
    error, freedom = joint_error(replicates_CB, patients_C, patients)
    return interval(float(values_C.mean()), error, freedom, min(patients, patients_C.sum()), bounds, level)


def joint_error(
    replicates_CB: np.ndarray, patients_C: np.ndarray, patients: int, floor_C: np.ndarray | float = 0.0
) -> tuple[float, float]:
    """Standard error of the mean over labels, without the floor, and its degrees of freedom, with it.

    Each label's deviations are first scaled by its own small-sample factor (see `spread`), and the degrees
    of freedom are Satterthwaite's (`satterthwaite`): an average that leans on one label with four positives
    is as uncertain as that. As these take the labels for independent, they are at most `patients` - 1.

    Args:
        replicates_CB, patients_C, patients: as of `average_interval`, 2 patients a label at least.
        floor_C: under each label's standard error.

    >>> error, freedom = joint_error(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([11, 11]), patients=30)
    >>> round(error, 9), round(freedom, 9)
    (0.0, 20.0)
    """
    factor_C = np.sqrt((patients_C + 1) / (patients_C - 1))
    deviations_CB = (replicates_CB - replicates_CB.mean(axis=1, keepdims=True)) * factor_C[:, None]
    error = float(deviations_CB.mean(axis=0).std(dtype=np.float64))
    variance_C = deviations_CB.var(axis=1, dtype=np.float64) + np.square(floor_C)
    return error, satterthwaite(variance_C, patients_C, patients)


def satterthwaite(variance_C: np.ndarray, patients_C: np.ndarray, patients: int) -> float:
    """Degrees of freedom of the error of a sum, (sum v)^2 / sum(v^2 / (n - 1)) over its members' variances v
    (Biometrics Bulletin 2, 1946), and at most those of all `patients` behind them, which they are where no
    member varies.

    >>> satterthwaite(np.array([1.0, 1.0]), np.array([11, 11]), patients=30)
    20.0
    >>> satterthwaite(np.array([1.0, 0.0]), np.array([11, 11]), patients=30)
    10.0
    """
    squares = float((variance_C**2 / (patients_C - 1)).sum())
    freedom = float(np.sum(variance_C) ** 2 / squares) if squares > 0 else np.inf
    return min(freedom, max(patients - 1.0, 1.0))


def mean_limits(
    values_C: np.ndarray, low_C: np.ndarray, high_C: np.ndarray, correlation_CC: np.ndarray
) -> tuple[float, float]:
    """Limits of the mean from those of its members, whose distances are added by squares (Zou, Huang and
    Zhang, Computational Statistics and Data Analysis 53, 2009; with correlations, Zou, Psychological Methods
    12, 2007).

    Members whose resamples do not vary, such as a precision of 1, keep the reach of their own interval. Of
    shares the limits are Clopper and Pearson's, as those of a label are: with Jeffreys', which cannot reach
    far with few entries, the mean sensitivity of 14 labels of 3 to 360 positive patients and the precision of
    multiclass ones were covered 91 to 94 % of the time, with these 96 to 98 % (600 repeats).

    Args:
        values_C, low_C, high_C: the members and their limits, of one level.
        correlation_CC: between the members' errors.

    >>> values_C, low_C, high_C = np.array([[0.4, 0.6], [0.3, 0.5], [0.6, 0.8]])
    >>> low, high = mean_limits(values_C, low_C, high_C, np.eye(2))
    >>> round(low, 3), round(high, 3)
    (0.429, 0.641)
    """

    def reach(distances_C: np.ndarray) -> float:
        return float(np.sqrt(max(0.0, distances_C @ correlation_CC @ distances_C))) / len(distances_C)

    mean = float(np.mean(values_C))
    return mean - reach(values_C - low_C), mean + reach(high_C - values_C)


def correlations(replicates_CB: np.ndarray) -> np.ndarray:
    """float64 (C, C), of the resampled values, or of what each patient adds to an error; 1 on the diagonal, 0
    beside it where one does not vary.

    >>> correlations(np.array([[1, 2, 3], [3, 2, 1]])).round(9).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    deviations_CB = np.asarray(replicates_CB, dtype=np.float64)
    deviations_CB = deviations_CB - deviations_CB.mean(axis=1, keepdims=True)
    length_C1 = np.sqrt((deviations_CB**2).sum(axis=1, keepdims=True))
    unit_CB = np.divide(deviations_CB, length_C1, out=np.zeros_like(deviations_CB), where=length_C1 > 1e-9)
    found_CC = unit_CB @ unit_CB.T
    np.fill_diagonal(found_CC, 1)
    return found_CC
