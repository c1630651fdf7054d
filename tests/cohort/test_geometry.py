"""The geometry against open_clip's own transform."""

import numpy as np
import pytest
from PIL import Image

from cohort.decoding import decode
from cohort.errors import InputError
from cohort.geometry import Geometry, apply_geometry
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


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 0},
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
