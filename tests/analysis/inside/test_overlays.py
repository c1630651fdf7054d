"""Text burned into images, and the grey box that is its control."""

import numpy as np
import pytest
from PIL import Image

from analysis.inside.overlays import FAINT, LARGE, MARKS, NAMED, PLACES, Overlay, overlays

LABELS = [(f"l{n}", f"label {n}") for n in range(6)]


def changed(before, after):
    """The rows and columns in which two images differ, first and last."""
    difference = (before != after).reshape(*before.shape[:2], -1).any(axis=2)
    rows, columns = np.flatnonzero(difference.any(axis=1)), np.flatnonzero(difference.any(axis=0))
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_marks_places_sizes_contrasts_and_names_are_tried():
    found = overlays(LABELS)
    assert [one.text for one in found if one.label] == [f"label {n}" for n in range(NAMED)]
    assert {one.text for one in found} >= set(MARKS)
    assert {one.place for one in found} == set(PLACES)
    assert any(one.size == LARGE for one in found) and any(one.contrast == FAINT for one in found)
    assert len(found) == len(set(found)) == len(MARKS) + 4 + NAMED
    assert all(one.letters and not one.control.letters for one in found)


@pytest.mark.parametrize("shape", [(200, 120), (120, 200), (64, 64), (90, 90, 3), (2048, 2496)])
@pytest.mark.parametrize("place", PLACES)
def test_it_lies_within_the_middle_square_and_leaves_the_rest(shape, place):
    image = np.full(shape, 60, np.uint8)
    for overlay in (Overlay(text="PORTABLE", place=place), Overlay(text="PORTABLE", place=place).control):
        after = overlay.applied(image)
        assert after.dtype == np.uint8 and after.shape == image.shape and (image == 60).all()
        top, bottom, left, right = changed(image, after)
        height, width = shape[:2]
        side = min(shape[:2])
        assert top >= (height - side) // 2 and bottom < (height + side) // 2
        assert left >= (width - side) // 2 and right < (width + side) // 2
        if place == "top left":
            assert bottom < height / 2 and left < width / 2
        if place == "bottom right":
            assert top > height / 2 and right > width / 2


def test_the_box_has_the_place_size_and_mean_brightness_of_the_text_and_no_letters():
    image = np.full((256, 256), 40, np.uint8)
    text = Overlay(text="AP ERECT")
    with_text, with_box = text.applied(image), text.control.applied(image)
    top, bottom, left, right = changed(image, with_box)
    window = slice(top, bottom + 1), slice(left, right + 1)
    assert len(np.unique(with_box[window])) == 1 and with_box[window].std() == 0
    assert np.ptp(with_text[window]) > 150
    assert with_text[window].mean() == pytest.approx(with_box[window].mean(), abs=1)
    inside = np.zeros(image.shape, bool)
    inside[window] = True
    assert (with_text[~inside] == 40).all()


def test_a_faint_text_is_fainter_and_a_large_one_larger():
    image = np.zeros((256, 256), np.uint8)
    plain = Overlay(text="R").applied(image)
    assert plain.max() == 255
    assert Overlay(text="R", contrast=FAINT).applied(image).max() == round(255 * FAINT)
    assert (Overlay(text="R", size=LARGE).applied(image) > 0).sum() > 3 * (plain > 0).sum()


def test_a_long_name_is_made_to_fit_and_a_tiny_image_survives():
    image = np.zeros((64, 64), np.uint8)
    *_, right = changed(image, Overlay(text="Enlarged Cardiomediastinum with a long name").applied(image))
    assert right < 64
    for side in (1, 2, 5):
        assert Overlay(text="PORTABLE").applied(np.zeros((side, side), np.uint8)).shape == (side, side)


def test_colour_images_get_white_letters():
    image = np.zeros((128, 128, 3), np.uint8)
    image[..., 0] = 200
    after = Overlay(text="R").applied(image)
    assert (after == 255).all(axis=2).any()
    assert Image.fromarray(after).mode == "RGB"


def test_what_decides_about_the_pixels_is_described():
    one = Overlay(text="R", label="Edema")
    assert one.described() != one.control.described()
    assert one.described() == Overlay(text="R").described()  # whose name it is does not change a pixel
