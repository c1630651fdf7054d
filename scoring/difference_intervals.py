"""Intervals of the difference of two models on the same patients, and the margin of their equivalence.

Two models that answer alike on every patient have a difference of 0 in every resample, and a resampling error
of 0, however few the patients are. Their difference on other patients is not 0 for certain, so neither an
interval nor a claim of equivalence may rest on that error alone.

Shape legend: N images, P patients, C labels, B resamples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import digamma, ndtri, stdtrit

from cohort.patients import sides_by_patient
from scoring.intervals import joint_error

_TAIL = 0.025
"""Of an interval on either side, and the share of false equivalence that is allowed."""


class Difference(NamedTuple):
    """What two models' scores differ by, as a mean over labels.

    >>> found = Difference(value=0.01, low=-0.02, high=0.04, within=0.05)
    >>> found.low <= 0 <= found.high, found.within <= 0.02
    (True, False)
    """

    value: float
    low: float
    """Of the 95 % interval."""
    high: float
    within: float
    """The smallest margin within which the two are equivalent; 1 where nothing is ruled out."""


def difference(
    differences_C: np.ndarray,
    replicates_CB: np.ndarray,
    patients_C: np.ndarray,
    patients: int,
    one_patient: float,
) -> Difference:
    """The mean over labels of two models' differences, with its interval and its margin of equivalence.

    The interval is value -+ t * sqrt(error^2 + sum(1 / (n + 2)^2) / C^2) within [-1, 1]: the floor under each
    label's error is what Agresti and Min (Biometrics 61, 2005) have of a difference of paired proportions in
    which no pair is discordant. Error and degrees of freedom are those of `scoring.intervals.joint_error`.

    `within` = |value| + t^2 u / 2 + t * sqrt(error^2 + t^2 u^2 / 4), u being `one_patient`. A difference
    that comes of patients each of whom moves the score by u at most has a variance of at most u times its
    size; that of the margin in question, not the one observed, decides whether the margin can be ruled out,
    as in Wilson's interval of a proportion. With an error of 0 it is t^2 u, where the exact limit of no
    event (the rule of three) is 3.69 u. The floor above is too small for that: of two models whose AUROC or
    F1 differs by 0.0215, in a few patients who lose everything, it calls 1 to 11 % equivalent within 0.02 at
    100 positive patients, and of two whose average precision does, 67 % (benchmarks/equivalence.py, 400
    repeats); the interval holds that difference 89 to 99 %, and of average precision 33 %, of the time.

    Args:
        differences_C: the first model's metric less the second's, of each label.
        replicates_CB: the same in joint resamples.
        patients_C: on the smaller side of each label, at least 2 (`cohort.patients.fewer_patients`).
        patients: on the smaller side of any label (`cohort.patients.fewer_side_patients`).
        one_patient: the most by which one patient can move the mean, from `most_by_one_patient`.

    >>> alike = difference(np.zeros(1), np.zeros((1, 100)), np.array([50]), patients=50, one_patient=0.02)
    >>> round(alike.low, 3), round(alike.high, 3), round(alike.within, 3)
    (-0.039, 0.039, 0.081)
    """
    value = float(np.mean(differences_C))
    if patients_C.min() < 2 or not np.isfinite(value):
        return Difference(value, float("nan"), float("nan"), float("nan"))
    floor_C = 1 / (patients_C + 2.0)
    error, freedom = joint_error(replicates_CB, patients_C, patients, floor_C)
    t = float(stdtrit(freedom, 1 - _TAIL))
    reach = t * float(np.sqrt(error**2 + (floor_C**2).sum() / len(differences_C) ** 2))
    half = t * one_patient / 2
    within = abs(value) + t * (half + np.sqrt(error**2 + half**2))
    return Difference(value, max(-1.0, value - reach), min(1.0, value + reach), min(1.0, float(within)))


def most_by_one_patient(metric: str, targets_NC: np.ndarray, patients_N: np.ndarray) -> float:
    """The most by which one patient's predictions can move the mean over labels of a metric, in (0, 1].

    All of that patient's labels change for the worst at once; each patient counts as one image a side. Of n
    positive and m negative patients of a label that is, of AUROC, 1 / n where the patient is positive and
    1 / m where negative. Of F1 it is 2 / n (the only true positive lost, with no false one) and 1 / (2 n). Of
    average precision it is (1 + 1/2 + ... + 1/n) / n: one negative above all positives halves the precision
    of the first, takes a third of that of the second, and so on.

    Args:
        metric: auroc, average_precision or f1.
        targets_NC: 0, 1 or NaN where masked; each label with a positive and a negative.
        patients_N: any codes.

    >>> most_by_one_patient("auroc", np.array([[1], [1], [0], [0], [0]]), np.arange(5))
    0.5
    """
    positive_PC, negative_PC = sides_by_patient(targets_NC, patients_N)
    positives_C, negatives_C = positive_PC.sum(axis=0), negative_PC.sum(axis=0)
    harmonic_C = digamma(positives_C + 1.0) + np.euler_gamma
    lost_C, gained_C = {
        "auroc": (1 / positives_C, 1 / negatives_C),
        "average_precision": (harmonic_C / positives_C, harmonic_C / positives_C),
        "f1": (2 / positives_C, 1 / (2 * positives_C)),
    }[metric]
    by_patient_PC = np.where(positive_PC, lost_C, 0) + np.where(negative_PC, gained_C, 0)
    return min(1.0, float(by_patient_PC.mean(axis=1).max()))


def patients_for_equivalence(margin: float, one_patient: float, patients: int) -> int:
    """How many patients like these it takes at least to show equivalence within a margin, even of two models
    that do not differ on any: as many times more as one of them moves the score by too much.

    >>> patients_for_equivalence(margin=0.02, one_patient=0.04, patients=100)
    769
    """
    z = ndtri(1 - _TAIL)
    return int(np.ceil(patients * z**2 * one_patient / margin))
