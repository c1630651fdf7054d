"""Agreement of maps with regions, counted by hand."""

import cv2
import numpy as np
import pytest

from scoring.localisation import (
    best_threshold,
    energy_inside,
    hits,
    ious,
    otsu_iou,
    otsu_threshold,
    peak,
    rank_correlation,
    separate_regions,
)

MAP = np.array([[0.0, 1, 2, 1], [0, 4, 8, 2], [0, 1, 2, 0]])
MASK = np.zeros((3, 4), dtype=bool)
MASK[1, 1:3] = True


def test_a_hit_is_the_largest_pixel_in_the_region():
    assert hits(MAP, MASK) and not hits(MAP, ~MASK)
    assert not hits(np.full((3, 4), 0.5), MASK)  # the same everywhere points nowhere
    assert not hits(np.full((3, 4), np.nan), MASK)
    cut = MAP.copy()
    cut[1, 2] = np.nan  # the model did not see it
    assert hits(cut, MASK) and not hits(cut, MASK & (np.arange(4) == 2))


def test_of_several_largest_pixels_the_one_nearest_to_their_centroid_counts():
    """The first pixel of a plateau lies towards a corner of it."""
    plateau = np.zeros((9, 9))
    plateau[2:7, 0:5] = 1
    assert peak(plateau) == (4, 2)
    mask_HW = np.zeros((9, 9), dtype=bool)
    mask_HW[4, 2] = True
    assert hits(plateau, mask_HW)
    apart = np.zeros((1, 9))
    apart[0, [0, 3, 8]] = 1  # the centroid, 11 / 3, is not one of them
    assert peak(apart) == (0, 3)
    rounded = plateau + np.where(plateau > 0, 1e-9 * np.arange(81).reshape(9, 9), 0)
    assert peak(rounded) == (4, 2)
    assert peak(np.ones((3, 3))) is None and peak(np.full((3, 3), np.nan)) is None
    assert peak(np.array([[np.nan, 1.0, 2.0]])) == (0, 2)


def test_the_energy_is_the_share_of_the_sum():
    assert energy_inside(MAP, MASK) == pytest.approx(12 / 21)
    assert energy_inside(10 * MAP, MASK) == pytest.approx(12 / 21)
    assert energy_inside(np.zeros((3, 4)), MASK) == 0
    assert energy_inside(np.where(MASK, MAP, np.nan), MASK) == 1


def test_intersection_over_union_at_each_threshold():
    # Of 0..8: 2 and more are 0.25, 4 and more 0.5, 8 is 1.
    found = ious(MAP, MASK, (0.2, 0.25, 0.5, 0.7))
    assert found.tolist() == pytest.approx([2 / 5, 2 / 5, 2 / 2, 1 / 2])
    unseen = np.where(np.arange(4) == 1, np.nan, MAP)
    assert ious(unseen, MASK, (0.5, 1.0)).tolist() == [1 / 2, 1 / 2]  # 8 alone, and half the mask is unseen
    assert ious(MAP + 100, MASK, (0.5,)) == pytest.approx([1.0])  # scaled from its least to its largest
    assert ious(np.zeros((3, 4)), MASK).tolist() == [0] * 7


def test_the_threshold_with_the_best_mean_is_taken_the_first_of_equals():
    assert best_threshold(np.array([[0.1, 0.3, 0.3], [0.2, 0.4, 0.4]])) == 1


def test_otsus_threshold_is_that_of_opencv():
    """Of 8-bit values, whose 256 levels are the same."""
    rng = np.random.default_rng(0)
    for low, high, share in ((60, 180, 0.3), (100, 130, 0.5), (20, 240, 0.02)):
        chosen = rng.random(4000) < share
        values = np.where(chosen, rng.normal(high, 12, 4000), rng.normal(low, 12, 4000))
        values = values.clip(0, 255).round().astype(np.uint8)
        values[:2] = 0, 255
        expected, _ = cv2.threshold(values, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        found = otsu_threshold(values.astype(float))
        # Above OpenCV's level on one side, from ours on on the other.
        np.testing.assert_array_equal(values >= found, values > expected)


def test_intersection_over_union_at_otsus_threshold():
    # With {4, 8} above: 10 x 2 x (6 - 0.9)^2 = 520; with {8} alone: 11 x 1 x (8 - 13 / 11)^2 = 511.
    assert otsu_iou(MAP, MASK) == 1
    assert otsu_iou(MAP, MASK & (np.arange(4) == 2)) == 1 / 2
    assert otsu_iou(np.where(MASK, 5.0, 1.0), MASK) == 1
    assert otsu_iou(np.where(MASK, 5.0, np.nan) + 0 * MAP, MASK) == 0  # all that is seen is the same
    assert otsu_iou(np.full((3, 4), 0.5), MASK) == 0


def test_regions_that_touch_at_a_corner_are_one():
    mask_HW = np.zeros((5, 5), dtype=bool)
    mask_HW[0, 0] = mask_HW[1, 1] = True
    assert separate_regions(mask_HW) == 1
    mask_HW[3, 3] = True
    assert separate_regions(mask_HW) == 2


def test_an_empty_mask_is_no_region_and_sizes_must_fit():
    for measure in (hits, energy_inside, ious, otsu_iou):
        with pytest.raises(ValueError, match="no region"):
            measure(MAP, np.zeros((3, 4), dtype=bool))
        with pytest.raises(ValueError, match="one size"):
            measure(MAP, MASK[:2])


def test_rank_correlation():
    assert rank_correlation(MAP, 3 * MAP + 1) == pytest.approx(1)
    assert rank_correlation(MAP, -MAP) == pytest.approx(-1)
    assert rank_correlation(MAP, np.zeros((3, 4))) == 0
