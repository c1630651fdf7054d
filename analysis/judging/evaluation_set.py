"""The images on which rows are judged, with their labels; and the only door to test labels, each reading of
which is recorded in the cohort's ledger before a label is read.

Shape legend: N test images, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from analysis.number_format import counted
from cohort.errors import InputError
from cohort.labels import domain_columns
from cohort.ledger import Access, Ledger, note_access
from cohort.manifest import SPLITS, Cohort
from cohort.patients import fewer_patients, positive_patients
from scoring.metrics import prevalences

AVERAGED_PATIENTS = 2
"""Patients that a label needs on its smaller side on test to count in the averages: one has no spread to
estimate."""


@dataclass(frozen=True, kw_only=True)
class SplitCounts:
    """What one split holds; counts of images and of patients, one entry per label."""

    split: str
    images: int
    patients: int
    scored_images: int
    """With a label that is not masked; the others are in no score."""
    scored_patients: int
    positives_C: Sequence[int]
    patients_C: Sequence[int]
    """Patients with a positive image."""
    negative_patients_C: Sequence[int]
    """Patients with a negative image."""
    masked_C: Sequence[int]

    @property
    def negatives_C(self) -> list[int]:
        """Negative images."""
        return [
            self.images - positives - masked
            for positives, masked in zip(self.positives_C, self.masked_C, strict=True)
        ]

    def fewer_side(self, c: int) -> str:
        """`9 negative patients`: which side of a label has fewer patients, and how many."""
        positive, negative = self.patients_C[c], self.negative_patients_C[c]
        fewer, side = (negative, "negative") if negative < positive else (positive, "positive")
        return counted(fewer, f"{side} patient")


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationSet:
    """Labels of the images on which rows are judged, and which of them an average may use."""

    rows_N: np.ndarray
    """int64, the images' places in the cohort."""
    targets_NC: np.ndarray
    """float64: 0, 1 or NaN where masked."""
    patients_N: np.ndarray
    """int64 from 0, without gaps."""
    labels: tuple[str, ...]
    averaged_C: np.ndarray
    """bool: the objective's labels with at least AVERAGED_PATIENTS patients on their smaller side here."""
    prevalences_C: np.ndarray
    """float64, on training, for the Brier skill."""
    counts: Sequence[SplitCounts]
    """Of every split of the cohort that may be known."""
    ordinal: bool = False
    """Whether `labels` are grades from the lowest to the highest."""
    split: str = "test"
    """Which split this is; `development` for training and validation together."""
    accessed: Sequence[Access] = ()
    """Of the test split: every earlier reading of its labels."""

    @cached_property
    def domains(self) -> dict[str, list[int]]:
        """Domain -> the columns of its labels."""
        return domain_columns(self.labels)

    @property
    def patients(self) -> int:
        """All patients."""
        return int(self.patients_N.max()) + 1

    @property
    def own(self) -> SplitCounts:
        """The counts of these images."""
        return next(counts for counts in self.counts if counts.split == self.split)

    @cached_property
    def positive_patients_C(self) -> np.ndarray:
        """int64 (C,)."""
        return positive_patients(self.targets_NC, self.patients_N)

    @cached_property
    def fewer_patients_C(self) -> np.ndarray:
        """int64 (C,): patients on the smaller side of each label."""
        return fewer_patients(self.targets_NC, self.patients_N)


def open_test_split(
    cohort: Cohort, objective_labels_C: np.ndarray, ledger: Ledger, why: str, predictions_hash: str = ""
) -> EvaluationSet:
    """Open the test labels.

    Args:
        objective_labels_C: bool, the labels that the study's objective averages.
        ledger: the cohort's, to which a line is added first.
        why: what they are opened for.
        predictions_hash: of the table that is judged.

    Raises:
        InputError: no test split, or none of the objective's labels has AVERAGED_PATIENTS patients on both of
            its sides there.
    """
    rows_N = cohort.indices("test")
    accessed = ledger.before()
    ledger.note(why, predictions_hash)
    return _evaluation_set(cohort, rows_N, objective_labels_C, "test", _counts(cohort, SPLITS), accessed)


def development_set(cohort: Cohort, rows_N: np.ndarray, objective_labels_C: np.ndarray) -> EvaluationSet:
    """Development images, for rows whose scores there are out of fold; no test label is read.

    Args:
        rows_N: int64, the images' places in the cohort.
        objective_labels_C: bool, the labels that the study's objective averages.

    Raises:
        InputError: none of these labels has AVERAGED_PATIENTS patients on both of its sides.
    """
    counts = [*_counts(cohort, ("train", "val")), _counted(cohort, rows_N, "development")]
    return _evaluation_set(cohort, rows_N, objective_labels_C, "development", counts, ())


def _evaluation_set(
    cohort: Cohort,
    rows_N: np.ndarray,
    objective_labels_C: np.ndarray,
    split: str,
    counts: Sequence[SplitCounts],
    accessed: Sequence[Access],
) -> EvaluationSet:
    targets_NC = cohort.targets_NC(rows_N).astype(np.float64)
    patients_N = np.unique(cohort.patients_N(rows_N), return_inverse=True)[1]
    enough_C = fewer_patients(targets_NC, patients_N) >= AVERAGED_PATIENTS
    averaged_C = np.asarray(objective_labels_C, dtype=bool) & enough_C
    if not averaged_C.any():
        raise InputError(
            f"{cohort.folder}: none of the study's labels has {AVERAGED_PATIENTS} positive patients and "
            f"as many negative ones on {split}, so there is nothing to score; give it more patients"
        )
    return EvaluationSet(
        rows_N=rows_N,
        targets_NC=targets_NC,
        patients_N=patients_N,
        labels=cohort.labels,
        ordinal=cohort.ordinal,
        averaged_C=averaged_C,
        prevalences_C=prevalences(cohort.targets_NC(cohort.indices("train"))),
        counts=counts,
        split=split,
        accessed=accessed,
    )


def open_split_counts(
    cohort: Cohort, ledger: Ledger, why: str, record: Path | None = None
) -> list[SplitCounts]:
    """The counts of every split that the cohort has, test labels among them.

    Args:
        ledger, why: as of `open_test_split`.
        record: of a study's own accesses, to which a line is added as well.
    """
    if "test" in cohort.splits:
        if record is not None:
            note_access(record, why)
        ledger.note(why)
    return _counts(cohort, SPLITS)


def _counts(cohort: Cohort, splits: Sequence[str]) -> list[SplitCounts]:
    split_N = np.asarray(cohort.column("split"), dtype=object)
    places = {split: np.flatnonzero(split_N == split) for split in splits}
    return [_counted(cohort, rows_N, split) for split, rows_N in places.items() if len(rows_N)]


def _counted(cohort: Cohort, rows_N: np.ndarray, split: str) -> SplitCounts:
    targets_NC, patients_N = cohort.targets_NC(rows_N), cohort.patients_N(rows_N)
    known_N = (~np.isnan(targets_NC)).any(axis=1)
    return SplitCounts(
        split=split,
        images=len(rows_N),
        patients=len(np.unique(patients_N)),
        scored_images=int(known_N.sum()),
        scored_patients=len(np.unique(patients_N[known_N])),
        positives_C=(targets_NC == 1).sum(axis=0).tolist(),
        patients_C=positive_patients(targets_NC, patients_N).tolist(),
        negative_patients_C=positive_patients(targets_NC == 0, patients_N).tolist(),
        masked_C=np.isnan(targets_NC).sum(axis=0).tolist(),
    )
