"""Texts and profiles of a PNG, however long, change neither its pixels nor whether it is read."""

import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from cohort.decoders.decoded import TURNED
from cohort.decoding import decode, decode_raw
from cohort.png_chunks import without_texts
from tests.cohort.made_images import encode, random_image

MEGABYTES = 3 * 2**20


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def noise(size):
    return np.random.default_rng(0).integers(1, 256, size, dtype=np.uint8).tobytes()


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"iCCP", b"icc\0\0" + zlib.compress(noise(MEGABYTES))),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(noise(MEGABYTES))),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(MEGABYTES))),
        chunk(b"tEXt", b"Comment\0" + noise(MEGABYTES)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * MEGABYTES),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(noise(MEGABYTES))) * 30,
    ],
)
@pytest.mark.parametrize("place", [33, -12])
def test_a_png_with_megabytes_beside_its_pixels_is_read(extra, place):
    pixels = random_image(8, 12)
    data = encode(pixels)
    np.testing.assert_array_equal(decode(data[:place] + extra + data[place:], "a.png"), pixels)


def test_a_text_that_says_which_side_is_up_is_heard():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    raw = exif.tobytes()
    body = b"\nexif\n%8d\n" % len(raw) + raw.hex().encode() + b"\n"
    text = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(body))
    data = encode(random_image(8, 12))
    assert decode_raw(data[:33] + text + data[33:], "a.png").notes == (TURNED,)


def test_a_png_without_texts_and_every_other_file_stay_as_they_are():
    for data in (encode(random_image(4, 4)), encode(random_image(4, 4), "JPEG"), b"", b"\x89PNG\r\n\x1a\n\0"):
        assert without_texts(data) is data


def test_a_chunk_that_claims_to_be_longer_than_the_file_ends_it():
    data = encode(random_image(4, 4))
    cut = data[:33] + struct.pack(">I", 2**31) + b"tEXt" + b"Comment\0abcd"
    assert without_texts(cut) == data[:33]
