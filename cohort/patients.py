"""Patients as the unit: which of them a label has, and folds that keep them together.

Shape legend: N images, P patients, C labels.
"""

from __future__ import annotations

import numpy as np

from cohort.errors import InputError

FEWEST_PATIENTS = 10
"""On the smaller side of a label (`fewer_patients`): with fewer nothing is said of its scores but counts."""


def positive_by_patient(targets_NC: np.ndarray, patients_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which labels each patient has on any image.

    Args:
        targets_NC: 0, 1 or NaN where masked, which counts as not positive.
        patients_N: any codes or names, equal for images of one patient.

    Returns:
        positive_PC, bool, and the row in it of each image, int64 (N,).
    """
    patients_P, patient_of_N = np.unique(np.asarray(patients_N), return_inverse=True)
    positive_PC = np.zeros((len(patients_P), np.shape(targets_NC)[1]), dtype=bool)
    np.logical_or.at(positive_PC, patient_of_N, np.asarray(targets_NC) == 1)
    return positive_PC, patient_of_N


def positive_patients(targets_NC: np.ndarray, patients_N: np.ndarray) -> np.ndarray:
    """int64 (C,): how many patients have at least one positive image of each label; arguments as above."""
    return positive_by_patient(targets_NC, patients_N)[0].sum(axis=0)


def sides_by_patient(targets_NC: np.ndarray, patients_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """bool (P, C) each: whether a patient has a positive image of a label, and whether a negative one, which
    may both be so; arguments as above."""
    negative_NC = np.asarray(targets_NC) == 0
    return positive_by_patient(targets_NC, patients_N)[0], positive_by_patient(negative_NC, patients_N)[0]


def fewer_patients(targets_NC: np.ndarray, patients_N: np.ndarray) -> np.ndarray:
    """int64 (C,): the patients on the smaller side of each label, those with a positive image or those with a
    negative one, whichever are fewer; arguments as above.

    What a ranking, an error of it or a difference between two of them rests on: with 100 positive patients
    and 3 negative ones an AUROC is as uncertain as with 3 and 100.
    """
    return np.minimum(*(side_PC.sum(axis=0) for side_PC in sides_by_patient(targets_NC, patients_N)))


def fewer_side_patients(targets_NC: np.ndarray, patients_N: np.ndarray) -> int:
    """How many patients stand on the smaller side of any of the labels; arguments as above.

    What an average over the labels rests on: of two labels that complement each other it is what each rests
    on alone.
    """
    positive_PC, negative_PC = sides_by_patient(targets_NC, patients_N)
    fewer_PC = np.where(positive_PC.sum(axis=0) <= negative_PC.sum(axis=0), positive_PC, negative_PC)
    return int(fewer_PC.any(axis=1).sum())


def patient_folds(
    targets_NC: np.ndarray, patients_N: np.ndarray, folds: int = 5, seed: int = 0
) -> np.ndarray:
    """Folds that keep a patient together and share out each label's positive patients, rarest label first.

    Iterative stratification (Sechidis et al., ECML PKDD 2011) over patients, a patient being positive for a
    label when any image is. The order of the images does not matter; seed breaks ties.

    Args:
        targets_NC: 0 or 1; NaN is masked.
        patients_N: integer codes, equal for images of one patient.
        folds: >= 2.
        seed: >= 0.

    Returns:
        folds_N, int64 in 0..folds-1.

    Raises:
        InputError: fewer patients than folds.
    """
    # scikit-learn comes with it and takes a second to import, which no trial needs.
    from iterstrat.ml_stratifiers import IterativeStratification

    positive_PC, patient_of_N = positive_by_patient(targets_NC, patients_N)
    if not 2 <= folds <= len(positive_PC):
        raise InputError(
            f"{len(positive_PC)} patients cannot be split into {folds} folds: two folds are the least and "
            "each needs a patient; choose fewer folds or a larger validation split"
        )
    shares_F = np.full(folds, 1 / folds)
    folds_P = IterativeStratification(positive_PC, shares_F, np.random.RandomState(seed))
    return folds_P[patient_of_N].astype(np.int64)
