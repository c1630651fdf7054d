"""What is odd about a cohort's images is found, and what is not is not said."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cohort.odd_images import has_text_at_border, odd_images
from tests.cohort.made_images import cohort_of, encode


def radiograph(i, size=200):
    """uint8: a bright trunk on black, with noise."""
    rng = np.random.default_rng(i)
    y, x = np.mgrid[0:size, 0:size] / size
    trunk = 180 * np.exp(-(((x - 0.5) / 0.25) ** 2) - ((y - 0.55) / 0.4) ** 2)
    return np.clip(trunk + rng.normal(0, 6, trunk.shape), 0, 255).astype(np.uint8)


def cohort(tmp_path, images):
    folder = tmp_path / "images"
    folder.mkdir()
    for i, image in enumerate(images):
        (folder / f"{i:02}.png").write_bytes(encode(image))
    return cohort_of(folder, tmp_path / "cohort")


def with_text(image):
    drawn = Image.fromarray(image)
    draw = ImageDraw.Draw(drawn)
    for row in range(3):
        draw.text((2, 2 + 10 * row), "DOE JANE 1954-01-02 HOSPITAL 4711", fill=255)
    return np.asarray(drawn)


def said(tmp_path, images):
    return [(oddity.severity, oddity.said) for oddity in odd_images(cohort(tmp_path, images))[1]]


def test_nothing_is_odd_about_ordinary_images(tmp_path):
    assert said(tmp_path, [radiograph(i, 200 + i) for i in range(12)]) == []


def test_black_negative_and_written_images_are_named(tmp_path):
    images = [radiograph(i, 200 + i) for i in range(12)]
    images[3], images[5], images[7] = np.zeros((50, 50), np.uint8), 255 - images[5], with_text(images[7])
    assert said(tmp_path, images) == [
        ("warning", "1 show nothing, all of nearly one gray (03.png)"),
        ("warning", "1 look like negatives of the others (05.png)"),
        ("warning", "1 have text at their border, which may name people or give labels away (07.png)"),
    ]


def test_equal_sizes_and_colours_are_notes(tmp_path):
    images = [radiograph(i) for i in range(4)]
    images[1] = np.dstack([images[1], images[1], images[2]])
    assert said(tmp_path, images) == [
        ("note", "all are 200 x 200 pixels, as after resizing"),
        ("note", "3 are gray and 1 in colour"),
    ]


def test_an_image_that_is_gone_is_an_error(tmp_path):
    opened = cohort(tmp_path, [radiograph(i, 100 + i) for i in range(4)])
    (tmp_path / "images" / "02.png").unlink()
    ((severity, text),) = odd_images(opened)[1]
    assert severity == "error" and text.startswith("1 cannot be read: ")


def test_only_so_many_images_are_read(tmp_path):
    assert odd_images(cohort(tmp_path, [radiograph(i, 60 + i) for i in range(9)]), sample=4)[0] == 4


@pytest.mark.parametrize("noise", [0, 60])
def test_a_side_marker_and_noise_are_no_text(noise):
    image = radiograph(0, 400).astype(float) + np.random.default_rng(1).normal(0, noise, (400, 400))
    drawn = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    ImageDraw.Draw(drawn).text((5, 5), "L", fill=255)
    assert not has_text_at_border(np.asarray(drawn))
