"""Images with what people drew on them, label by label.

Shape legend: H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from cohort.annotations import Annotations
from cohort.manifest import Cohort


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """One image and one label that somebody drew on it."""

    row: int
    """The image's place in the cohort."""
    label: str
    patient: int
    mask_HW: np.ndarray
    """bool, over the decoded image: all readers' regions together."""
    readers: tuple[np.ndarray, ...] = ()
    """The mask of each reader, where several drew the label on the image."""


def annotated_pairs(cohort: Cohort, rows_N: np.ndarray) -> list[Pair]:
    """Every image among these with every label that somebody drew on it; none where nobody drew anything."""
    found = Annotations.open(cohort)
    if found is None:
        return []
    images, patients_N = cohort.images(), cohort.patients_N()
    pairs = []
    for row in rows_N:
        for label in cohort.labels:
            mask_HW = found.mask(images[row], label)
            if mask_HW is None:
                continue
            each = [found.mask(images[row], label, reader) for reader in found.readers]
            readers = tuple(mask for mask in each if mask is not None)
            pairs.append(
                Pair(
                    row=int(row),
                    label=label,
                    patient=int(patients_N[row]),
                    mask_HW=mask_HW,
                    readers=readers if len(readers) > 1 else (),
                )
            )
    return pairs


def between_readers(pairs: Sequence[Pair]) -> tuple[int, float, float] | None:
    """What people reach against each other, the ceiling of any map: on how many pairs several drew, and over
    these the mean intersection over union of two readers, and how often one's centre of mass lies in the
    other's region. None where nobody drew what another had drawn."""
    overlaps, met = [], []
    drawn = [pair for pair in pairs if pair.readers]
    for pair in drawn:
        for first, second in permutations(pair.readers, 2):
            overlaps.append((first & second).sum() / (first | second).sum())
            y, x = (round(float(axis.mean())) for axis in np.nonzero(first))
            met.append(bool(second[y, x]))
    return (len(drawn), float(np.mean(overlaps)), float(np.mean(met))) if drawn else None
