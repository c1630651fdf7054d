"""Frame headers of JPEGs, and what must not be decoded at an eighth of its size."""

import imagecodecs
import pytest

from cohort.decoding import decode
from cohort.jpeg_damage import jpeg_damage
from cohort.jpeg_frames import jpeg_frame
from tests.cohort.made_images import encode, random_image


def test_a_frame_header_says_what_the_image_is():
    assert jpeg_frame(encode(random_image(5, 7, 3), "JPEG"))[1:] == (8, 7, 5, 3)
    assert jpeg_frame(imagecodecs.jpegls_encode(random_image(5, 7)))[1:] == (8, 7, 5, 1)
    for data in (b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\0\2", encode(random_image(4, 4))):
        assert jpeg_frame(data) is None


@pytest.mark.parametrize("size", [(160, 120), (1500, 1400)])
def test_a_lossless_jpeg_is_looked_at_whole(size):
    """At an eighth of the size libjpeg writes past the end of the array, and the process dies."""
    image = random_image(*size)
    data = imagecodecs.jpeg8_encode(image, lossless=True)
    assert not jpeg_frame(data).scalable and jpeg_damage(data) == ""
    assert (decode(data, "a.jpg") == image).all()
