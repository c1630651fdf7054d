"""The test labels, opened by the analysis alone.

Shape legend: N test images, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.floors import prevalences
from cohort.errors import InputError
from cohort.labels import domain_columns
from cohort.manifest import Cohort
from cohort.patients import positive_patients

AVERAGED_PATIENTS = 2
"""Positive patients that a label needs on test to count in the averages: one has no spread to estimate."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TestSplit:
    """The test labels, and which of them an average may use."""

    targets_NC: np.ndarray
    """float64: 0, 1 or NaN where masked."""
    patients_N: np.ndarray
    """int64 from 0, without gaps."""
    labels: tuple[str, ...]
    averaged_C: np.ndarray
    """bool: the objective's labels with at least AVERAGED_PATIENTS positive patients here."""
    prevalences_C: np.ndarray
    """float64, on training, for the Brier skill."""

    @cached_property
    def domains(self) -> dict[str, list[int]]:
        """Domain -> the columns of its labels."""
        return domain_columns(self.labels)

    @property
    def patients(self) -> int:
        """All test patients."""
        return int(self.patients_N.max()) + 1

    @cached_property
    def positive_patients_C(self) -> np.ndarray:
        """int64 (C,)."""
        return positive_patients(self.targets_NC, self.patients_N)


def open_test_labels(cohort: Cohort, test_N: np.ndarray, objective_labels_C: np.ndarray) -> TestSplit:
    """Open the test labels.

    Raises:
        InputError: none of the objective's labels has AVERAGED_PATIENTS positive patients and a negative.
    """
    targets_NC = cohort.targets_NC(test_N).astype(np.float64)
    patients_N = np.unique(cohort.patients_N(test_N), return_inverse=True)[1]
    enough_C = positive_patients(targets_NC, patients_N) >= AVERAGED_PATIENTS
    averaged_C = np.asarray(objective_labels_C, dtype=bool) & enough_C & (targets_NC == 0).any(axis=0)
    if not averaged_C.any():
        raise InputError(
            f"{cohort.folder}: none of the study's labels has {AVERAGED_PATIENTS} positive patients on test, "
            "so there is nothing to score; give the test split more patients"
        )
    return TestSplit(
        targets_NC=targets_NC,
        patients_N=patients_N,
        labels=cohort.labels,
        averaged_C=averaged_C,
        prevalences_C=prevalences(cohort.targets_NC(cohort.indices("train"))),
    )
