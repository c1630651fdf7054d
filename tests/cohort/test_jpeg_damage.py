"""JPEGs of which libjpeg read a part only are refused; Pillow gives them a gray half."""

import io

import numpy as np
import pytest
from PIL import Image

from cohort.decoding import decode
from cohort.errors import InputError
from cohort.jpeg_damage import jpeg_damage
from tests.cohort.made_images import encode, random_image

HARMS = {
    "the second half is gone but for the end": lambda data: data[: len(data) // 2] + b"\xff\xd9",
    "the second half is zeros": lambda data: data[: len(data) // 2] + bytes(len(data) // 2) + b"\xff\xd9",
    "200 bytes are others": lambda data: data[:2000] + bytes(range(200)) + data[2200:],
}
KINDS = {
    "gray": {},
    "colour": {"mode": "RGB"},
    "CMYK": {"mode": "CMYK"},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 2},
}


def smooth_image():
    """uint8 (160, 120): what compresses as a radiograph does, not as noise."""
    small = Image.fromarray(random_image(20, 15, seed=3))
    return np.asarray(small.resize((120, 160), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_jpeg_is_refused_in_one_line(kind, harm):
    data = encode(smooth_image(), "JPEG", quality=95, **KINDS[kind])
    assert jpeg_damage(data) == "" and decode(data, "a.jpg").shape[:2] == (160, 120)
    harmed = HARMS[harm](data)
    with Image.open(io.BytesIO(harmed)) as image:
        image.load()  # Pillow says nothing
    with pytest.raises(InputError, match=r"^a\.jpg: unreadable image \(Corrupt JPEG data.*get it again\)$"):
        decode(harmed, "a.jpg")


def test_what_follows_the_end_of_a_jpeg_is_no_damage():
    assert jpeg_damage(encode(smooth_image(), "JPEG") + b"anything" * 100) == ""


def test_other_files_are_not_looked_at():
    assert jpeg_damage(encode(random_image(8, 8))) == jpeg_damage(b"") == jpeg_damage(b"\x89PNG") == ""
