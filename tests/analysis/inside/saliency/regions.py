"""Regions for cases worked by hand."""

import numpy as np

from analysis.inside.saliency.annotated import Pair
from cohort.annotations import mask_region


def pair_of(row: int, label: str, *masks: np.ndarray, patient: int | None = None) -> Pair:
    """An image with a label's masks, of as many raters; by default of a patient of its own."""
    regions = tuple(
        mask_region(f"{row}.png", label, f"rater {n}", mask_HW) for n, mask_HW in enumerate(masks)
    )
    return Pair(row=row, label=label, patient=row if patient is None else patient, regions=regions)


def square(top: int, left: int, side: int = 8) -> np.ndarray:
    """A mask of `side` x `side` pixels with 2 x 2 of them set."""
    mask_HW = np.zeros((side, side), dtype=bool)
    mask_HW[top : top + 2, left : left + 2] = True
    return mask_HW


def spot(mask_HW: np.ndarray) -> np.ndarray:
    """A map that is largest throughout a mask."""
    return mask_HW.astype(np.float32)
