"""Images with the regions annotated on them, label by label and organ by organ.

Shape legend: H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from cohort.annotations import PEOPLE, Annotations, Region, union
from cohort.manifest import Cohort


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """One image and one label with a region on it, or an organ's in place of the label's.

    Masks of large images are made when they are asked for: all of a cohort would fill the memory.
    """

    row: int
    """The image's place in the cohort."""
    label: str
    patient: int
    regions: tuple[Region, ...]
    """Of all raters, one at least."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the decoded image."""
        return self.regions[0].image_height, self.regions[0].image_width

    def mask(self) -> np.ndarray:
        """bool (H, W): all raters' regions together."""
        return union(self.regions)

    def of_readers(self) -> list[np.ndarray]:
        """The mask of each rater, where several drew on the image; otherwise none."""
        raters = sorted({region.rater for region in self.regions})
        if len(raters) < 2:
            return []
        return [union([region for region in self.regions if region.rater == name]) for name in raters]


def annotated_pairs(cohort: Cohort, rows_N: np.ndarray) -> list[Pair]:
    """Every image among these with every label that has a region on it; none where nothing is annotated."""
    found = Annotations.open(cohort)
    if found is None:
        return []
    images, patients_N = cohort.images(), cohort.patients_N()
    return [
        Pair(row=int(row), label=label, patient=int(patients_N[row]), regions=tuple(regions))
        for row in rows_N
        for label in cohort.labels
        if (regions := found.by_image.get((images[row], label)))
    ]


def organ_pairs(
    cohort: Cohort, rows_N: np.ndarray, targets_NC: np.ndarray, labels: Sequence[str]
) -> dict[str, list[Pair]]:
    """Organ -> every image among these with a mask of it, with every label that the image has.

    Args:
        targets_NC: of the rows, 0, 1 or NaN.
        labels: of its columns.
    """
    found = Annotations.open(cohort)
    if found is None:
        return {}
    images, patients_N = cohort.images(), cohort.patients_N()
    pairs = {
        organ: [
            Pair(row=int(row), label=label, patient=int(patients_N[row]), regions=tuple(of[images[row]]))
            for row, targets_C in zip(rows_N, targets_NC, strict=True)
            if images[row] in of
            for label, target in zip(labels, targets_C, strict=True)
            if target == 1
        ]
        for organ, of in sorted(found.organs.items())
    }
    return {organ: own for organ, own in pairs.items() if own}


def by_people(pairs: Sequence[Pair]) -> bool:
    """Whether people are stated to have drawn all of them."""
    return all(region.drawn_by == PEOPLE for pair in pairs for region in pair.regions)


def between_raters(pairs: Sequence[Pair]) -> tuple[int, float, float] | None:
    """What raters reach against each other, the ceiling of any map: on how many pairs several drew, and over
    these the mean intersection over union of two raters, and how often one's centre of mass lies in the
    other's region. None where nobody drew what another had drawn."""
    overlaps, met, drawn = [], [], 0
    for pair in pairs:
        each = pair.of_readers()
        drawn += bool(each)
        for first, second in permutations(each, 2):
            overlaps.append((first & second).sum() / (first | second).sum())
            y, x = (round(float(axis.mean())) for axis in np.nonzero(first))
            met.append(bool(second[y, x]))
    return (drawn, float(np.mean(overlaps)), float(np.mean(met))) if drawn else None
