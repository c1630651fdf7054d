"""How well a map agrees with what people drew, one image and label at a time.

The definitions are CheXlocalize's (Saporta et al., Nature Machine Intelligence 2022) where it has them: a map
is brought to the image's own pixels before its maximum is looked for, and what the model predicted does not
matter. A map that is the same everywhere points nowhere, and an empty mask is no region.

Shape legend: H height, W width, T thresholds, M maps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import label
from scipy.stats import rankdata

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Of a map scaled to 0..1: those that CheXlocalize tries."""
TIED = 1e-6
"""Share of a map's range by which its largest pixels may differ: rounding of the interpolation."""


def peak(map_HW: np.ndarray) -> tuple[int, int] | None:
    """Row and column of a map's largest pixel; None of one that is the same everywhere, which points nowhere.

    Interpolation leaves a plateau where the largest cell lies at the border, and a blob has one that was cut
    off: of several largest pixels the one nearest to their centroid is taken, and not the first, which lies
    towards the upper left corner.

    Args:
        map_HW: float; NaN where the model did not see the image.

    >>> peak(np.array([[0.0, 1.0], [0.0, 0.0]]))
    (0, 1)
    """
    seen = map_HW[np.isfinite(map_HW)]
    if not len(seen) or seen.max() == seen.min():
        return None
    low, high = float(seen.min()), float(seen.max())
    rows, columns = np.nonzero(map_HW >= high - TIED * (high - low))
    nearest = int(((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2).argmin())
    return int(rows[nearest]), int(columns[nearest])


def hits(map_HW: np.ndarray, mask_HW: np.ndarray) -> bool:
    """Whether the map's `peak` lies inside the mask: the hit of the hit rate, and of the pointing game (Zhang
    et al., IJCV 2018) at a tolerance of 0 pixels.

    Args:
        map_HW: float; NaN where the model did not see the image.
        mask_HW: bool.

    Raises:
        ValueError: an empty mask.

    >>> hits(np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([[False, True], [False, True]]))
    True
    """
    _check(map_HW, mask_HW)
    largest = peak(map_HW)
    return largest is not None and bool(mask_HW[largest])


def energy_inside(map_HW: np.ndarray, mask_HW: np.ndarray) -> float:
    """Share of a map's sum that lies inside the mask, of the map as it is (Wang et al., CVPR Workshops 2020);
    0 where there is nothing.

    >>> energy_inside(np.array([[1.0, 3.0], [0.0, 0.0]]), np.array([[False, True], [False, False]]))
    0.75
    """
    _check(map_HW, mask_HW)
    positive_HW = np.nan_to_num(map_HW).clip(min=0)
    total = float(positive_HW.sum(dtype=np.float64))
    return float(positive_HW[mask_HW].sum(dtype=np.float64)) / total if total > 0 else 0.0


def ious(map_HW: np.ndarray, mask_HW: np.ndarray, thresholds: Sequence[float] = THRESHOLDS) -> np.ndarray:
    """float64 (T,): intersection over union of the mask and of where the map, scaled to 0..1, reaches each
    threshold; 0 of a map that is the same everywhere, which marks nothing.

    >>> map_HW, mask_HW = np.array([[1.0, 3.0], [0.0, 0.0]]), np.array([[False, True], [False, False]])
    >>> ious(map_HW, mask_HW, thresholds=(0.2, 0.5)).tolist()
    [0.5, 1.0]
    """
    _check(map_HW, mask_HW)
    seen = map_HW[np.isfinite(map_HW)]
    if not len(seen) or seen.max() == seen.min():
        return np.zeros(len(thresholds))
    scaled_HW = (map_HW - seen.min()) / (seen.max() - seen.min())  # where it is NaN it reaches nothing
    inside, area = scaled_HW[mask_HW], int(mask_HW.sum())
    found = []
    for threshold in thresholds:
        both = int((inside >= threshold).sum())
        found.append(both / (int((scaled_HW >= threshold).sum()) + area - both))
    return np.array(found)


def otsu_iou(map_HW: np.ndarray, mask_HW: np.ndarray) -> float:
    """Intersection over union of the mask and of where the map reaches Otsu's threshold (IEEE Transactions on
    Systems, Man, and Cybernetics 9, 1979), which asks no other image; 0 of a map that is the same
    everywhere.

    >>> otsu_iou(np.array([[0.0, 9.0], [0.0, 10.0]]), np.array([[False, True], [False, False]]))
    0.5
    """
    _check(map_HW, mask_HW)
    seen = map_HW[np.isfinite(map_HW)]
    if not len(seen) or seen.max() == seen.min():
        return 0.0
    marked_HW = np.nan_to_num(map_HW, nan=-np.inf) >= otsu_threshold(seen)
    return float((marked_HW & mask_HW).sum() / (marked_HW | mask_HW).sum())


def otsu_threshold(values: np.ndarray) -> float:
    """The value, of 256 levels, from which on the upper side begins where the variance between the two sides
    is largest.

    >>> 0 < otsu_threshold(np.array([0.0, 1.0, 9.0, 10.0])) <= 9
    True
    """
    counts, edges = np.histogram(values, bins=256)
    levels = np.arange(256)
    below = counts.cumsum().astype(np.float64)
    above = below[-1] - below
    sum_below = (counts * levels).cumsum().astype(np.float64)
    both = (below > 0) & (above > 0)
    between = np.zeros(256)
    means = sum_below[both] / below[both], (sum_below[-1] - sum_below[both]) / above[both]
    between[both] = below[both] * above[both] * (means[1] - means[0]) ** 2
    return float(edges[int(between.argmax()) + 1])


def separate_regions(mask_HW: np.ndarray) -> int:
    """How many regions a mask has that touch at no corner.

    >>> separate_regions(np.array([[True, False, False], [False, True, False], [False, False, False]]))
    1
    """
    return int(label(mask_HW, structure=np.ones((3, 3)))[1])


def best_threshold(ious_MT: np.ndarray) -> int:
    """Which threshold has the highest mean; of equals the first.

    >>> best_threshold(np.array([[0.1, 0.5], [0.2, 0.4]]))
    1
    """
    return int(np.asarray(ious_MT).mean(axis=0).argmax())


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's, of two maps as they lie; 0 where either is the same everywhere.

    >>> round(rank_correlation(np.array([[1, 2], [3, 4]]), np.array([[1, 4], [9, 16]])), 9)
    1.0
    """
    one, other = (rankdata(np.ravel(map_)) for map_ in (first, second))
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _check(map_HW: np.ndarray, mask_HW: np.ndarray) -> None:
    if map_HW.shape != mask_HW.shape:
        raise ValueError(f"map and mask must be of one size, not {map_HW.shape} and {mask_HW.shape}")
    if not mask_HW.any():
        raise ValueError("an empty mask is no region")
