"""The geometry against open_clip's own transform."""

import numpy as np
import pytest
from PIL import Image

from cohort.decoding import decode
from cohort.errors import InputError
from cohort.geometry import RESIZED_WHOLE, Geometry, apply_geometry, map_to_image
from cohort.limits import LARGEST_GEOMETRY
from tests.cohort.made_images import random_image

SIZES = [(37, 53), (53, 37), (224, 224), (100, 224), (224, 300), (31, 257), (500, 499), (17, 16)]


def open_clip_pixels(image, geometry):
    """What open_clip's evaluation transform hands to ToTensor, as uint8 (H, W, 3)."""
    from open_clip import image_transform

    transform = image_transform(
        geometry.size,
        is_train=False,
        resize_mode=geometry.resize_mode,
        interpolation=geometry.interpolation,
        fill_color=geometry.fill,
    )
    pixels = Image.fromarray(image)
    for step in transform.transforms[:-2]:  # without ToTensor and Normalize
        pixels = step(pixels)
    return np.asarray(pixels)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("size", [32, 97, 224])
def test_the_geometry_equals_open_clip_bit_for_bit(size, resize_mode, interpolation):
    geometry = Geometry(size, resize_mode, interpolation, fill=7)
    for height, width in SIZES:
        for image in (random_image(height, width), random_image(height, width, 3)):
            result = apply_geometry(image, geometry)
            assert result.shape[:2] == (size, size) and result.ndim == image.ndim
            as_rgb = result if result.ndim == 3 else np.repeat(result[:, :, None], 3, axis=2)
            np.testing.assert_array_equal(as_rgb, open_clip_pixels(image, geometry))


def test_the_geometry_equals_open_clip_on_a_real_radiograph(real_data):
    file = next((real_data / "iu_xray" / "images_normalized").glob("1000_*3001*.png"))
    image = decode(file.read_bytes(), file.name)
    assert image.shape == (2496, 2048)
    for resize_mode in ("shortest", "squash", "longest"):
        geometry = Geometry(224, resize_mode, channels=3)
        np.testing.assert_array_equal(apply_geometry(image, geometry), open_clip_pixels(image, geometry))


def test_channels_make_gray_of_colour_and_colour_of_gray():
    gray, rgb = random_image(9, 9), random_image(9, 9, 3)
    np.testing.assert_array_equal(
        apply_geometry(rgb, Geometry(9, channels=1)), np.asarray(Image.fromarray(rgb).convert("L"))
    )
    np.testing.assert_array_equal(apply_geometry(gray, Geometry(9, channels=3)), np.stack([gray] * 3, axis=2))
    assert apply_geometry(gray, Geometry(9, channels=1)).shape == (9, 9)


@pytest.mark.parametrize(("height", "width"), [(700, 50), (50, 700), (640, 64), (641, 64), (90, 1), (3, 299)])
def test_of_a_long_image_what_the_square_shows_is_resized_alone(height, width):
    """As open_clip, but for roundings; on noise these would be amplified where bicubic overshoots."""
    rows_H1, columns_W = np.arange(height)[:, None], np.arange(width)
    smooth = np.round(127 + 60 * np.sin(rows_H1 / 9) + 60 * np.cos(columns_W / 7)).astype(np.uint8)
    for size in (32, 97):
        for interpolation in ("bicubic", "bilinear"):
            geometry = Geometry(size, "shortest", interpolation)
            ours, theirs = apply_geometry(smooth, geometry), open_clip_pixels(smooth, geometry)[:, :, 0]
            assert np.abs(ours.astype(int) - theirs).max() <= 1
            if max(height, width) <= RESIZED_WHOLE * min(height, width):
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 0},
        {"size": LARGEST_GEOMETRY + 1},
        {"size": 65_536},
        {"size": 8, "resize_mode": "crop"},
        {"size": 8, "interpolation": "nearest"},
        {"size": 8, "fill": 256},
        {"size": 8, "fill": -1},
        {"size": 8, "channels": 2},
    ],
)
def test_a_geometry_is_validated_when_built(fields):
    with pytest.raises(InputError):
        Geometry(**fields)


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize(("height", "width"), [(90, 60), (60, 90), (64, 64), (200, 130)])
def test_a_map_finds_its_way_back_over_the_image(mode, height, width):
    """Of an image with one bright square, what the encoder saw of it as a map of as many cells as pixels."""
    geometry = Geometry(64, mode)
    image = np.zeros((height, width), dtype=np.uint8)
    y, x = height // 2 - 12, width // 2 + 4
    image[y : y + 10, x : x + 10] = 255
    back_HW = map_to_image(apply_geometry(image, geometry).astype(np.float32), height, width, geometry)
    assert back_HW.shape == image.shape and back_HW.dtype == np.float32
    inside = back_HW > 127
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    # Where the map would be taken for the crop, or the crop for the image, it lies several pixels beside.
    assert abs(rows.mean() - (y + 4.5)) < 1.5 and abs(columns.mean() - (x + 4.5)) < 1.5
    assert np.isnan(back_HW).any() == (mode == "shortest" and height != width)


def test_what_a_crop_cut_off_has_no_map_and_a_coarse_map_is_bilinear_between_its_cells():
    back_HW = map_to_image(np.array([[0.0, 1], [0, 1]]), 8, 4, Geometry(4, "shortest"))
    assert np.isnan(back_HW[:2]).all() and np.isnan(back_HW[6:]).all()
    np.testing.assert_allclose(back_HW[2:6], [[0, 0.25, 0.75, 1]] * 4)
    whole_HW = map_to_image(np.array([[3.0]]), 5, 7, Geometry(4, "squash"))
    assert (whole_HW == 3).all()
