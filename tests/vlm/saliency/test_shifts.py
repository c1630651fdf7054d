"""Finer maps from moved images."""

import numpy as np
import pytest

from vlm.saliency.shifts import over_shifts


def brightest(images_BHWC):
    """A tower of four cells a side: how bright each is."""
    images, height, width, _ = images_BHWC.shape
    cells = images_BHWC[..., 0].reshape(images, 4, height // 4, 4, width // 4).astype(np.float32)
    return cells.mean(axis=(2, 4))[:, None]


@pytest.mark.parametrize(("top", "left"), [(3, 9), (5, 5), (0, 0), (12, 14)])
def test_a_spot_is_found_to_the_part_of_a_cell(top, left):
    images_BHWC = np.zeros((2, 16, 16, 1), np.uint8)
    images_BHWC[1, top : top + 2, left : left + 2] = 255
    fine = over_shifts(brightest, images_BHWC, 4)
    assert fine.shape == (2, 1, 16, 16) and fine.dtype == np.float32 and not fine[0].any()
    y, x = np.unravel_index(fine[1, 0].argmax(), (16, 16))
    assert top <= y < top + 2 and left <= x < left + 2
    coarse = np.kron(brightest(images_BHWC)[1, 0], np.ones((4, 4)))
    assert (fine[1, 0] == fine[1, 0].max()).sum() < (coarse == coarse.max()).sum()


def test_what_is_the_same_everywhere_stays_the_same():
    fine = over_shifts(brightest, np.full((1, 16, 16, 1), 200, np.uint8), 3)
    np.testing.assert_allclose(fine, 200)


def test_each_position_is_looked_at_once():
    seen = []

    def noted(images_BHWC):
        seen.append(images_BHWC.copy())
        return brightest(images_BHWC)

    images_BHWC = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 1), dtype=np.uint8)
    over_shifts(noted, images_BHWC, 2)
    assert len(seen) == 4 and len({one.tobytes() for one in seen}) == 4
    np.testing.assert_array_equal(seen[0], images_BHWC)
