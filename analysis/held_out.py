"""The test labels, opened by the analysis alone.

Shape legend: N test images, C labels, E labels and then domains.
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
from trainables.metrics import domain_scores, domain_targets

AVERAGED_PATIENTS = 2
"""Positive patients that a label needs on test to count in the averages: one has no spread to estimate."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
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
        return domain_columns(self.labels)

    @property
    def patients(self) -> int:
        """All test patients."""
        return int(self.patients_N.max()) + 1

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The labels, then `domain:<name>` of each domain."""
        return (*self.labels, *(f"domain:{name}" for name in self.domains))

    @cached_property
    def targets_NE(self) -> np.ndarray:
        """Labels and domains; NaN where masked."""
        if not self.domains:
            return self.targets_NC
        return np.concatenate([self.targets_NC, domain_targets(self.targets_NC, self.domains)], axis=1)

    @cached_property
    def positive_patients_E(self) -> np.ndarray:
        """int64 (E,)."""
        return positive_patients(self.targets_NE, self.patients_N)

    def with_domains(self, values_NC: np.ndarray) -> np.ndarray:
        """Scores or decisions (N, E): a domain takes the highest of its labels."""
        if not self.domains:
            return values_NC
        return np.concatenate([values_NC, domain_scores(values_NC, self.domains)], axis=1)

    def patients_behind(self, metric: str, label: str) -> int:
        """Positive patients that a row of the score table rests on: those of its label or domain, of the
        averaged labels for a macro average, of all labels for other averages."""
        if label:
            return int(self.positive_patients_E[self.names.index(label)])
        targets_NC = self.targets_NC[:, self.averaged_C] if metric.startswith("macro_") else self.targets_NC
        return len(np.unique(self.patients_N[(targets_NC == 1).any(axis=1)]))


def open_test_labels(cohort: Cohort, test_N: np.ndarray, objective_labels_C: np.ndarray) -> HeldOut:
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
    return HeldOut(
        targets_NC=targets_NC,
        patients_N=patients_N,
        labels=cohort.labels,
        averaged_C=averaged_C,
        prevalences_C=prevalences(cohort.targets_NC(cohort.indices("train"))),
    )
