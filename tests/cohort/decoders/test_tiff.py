"""TIFF: the pixels that tifffile reads, and what is refused rather than read otherwise than it is meant."""

import io

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from cohort.decoders.decoded import TURNED
from cohort.decoding import decode_raw
from cohort.errors import InputError
from tests.cohort.made_images import encode, random_image


def tiff(image, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **options)
    return buffer.getvalue()


GRAY, RGB = random_image(70, 50), random_image(70, 50, 3)
DEEP = np.random.default_rng(0).integers(0, 2**16, (70, 50)).astype(np.uint16)


@pytest.mark.parametrize("image", [GRAY, RGB, DEEP], ids=["gray", "RGB", "16 bits"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
@pytest.mark.parametrize("layout", [{}, {"tile": (32, 16)}, {"rowsperstrip": 7}, {"byteorder": ">"}])
def test_the_pixels_are_those_that_tifffile_reads(image, compression, layout):
    data = tiff(image, compression=compression, **layout)
    pixels = decode_raw(data, "a.tif").pixels
    np.testing.assert_array_equal(pixels, tifffile.imread(io.BytesIO(data)))
    assert pixels.dtype == image.dtype


def test_a_predictor_planes_and_bigtiff_change_no_pixel():
    predicted = tiff(DEEP, compression="lzw", predictor=True)
    np.testing.assert_array_equal(decode_raw(predicted, "a").pixels, DEEP)
    planes = tiff(RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", bigtiff=True)
    np.testing.assert_array_equal(decode_raw(planes, "a").pixels, RGB)


@pytest.mark.parametrize("image", [GRAY, DEEP], ids=["8 bits", "16 bits"])
def test_white_is_zero_is_turned_round(image):
    pixels = decode_raw(tiff(image, photometric="miniswhite"), "a").pixels
    np.testing.assert_array_equal(pixels, np.iinfo(image.dtype).max - image)


def test_an_orientation_is_applied_once():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = encode(GRAY, "TIFF", exif=exif)
    pixels, notes = decode_raw(data, "a")
    np.testing.assert_array_equal(pixels, np.rot90(GRAY, -1))
    assert notes == (TURNED,)


REFUSED = {
    "of several pages": lambda: tiff(np.stack([GRAY, GRAY])),
    "of signed, 32-bit or floating-point": lambda: tiff(GRAY.astype(np.float32)),
    "signed, 32-bit or floating-point values; convert": lambda: tiff(GRAY.astype(np.int16)),
    "a whole-slide image; cut it into tiles": lambda: tiff(RGB, description="Aperio Image Library v1"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_stacks_slides_and_other_numbers_are_refused(message):
    with pytest.raises(InputError, match=rf"^a\.tif: unreadable image \(.*{message}"):
        decode_raw(REFUSED[message](), "a.tif")


def test_a_thumbnail_beside_the_image_is_no_second_page():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        file.write(GRAY)
        file.write(GRAY[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(decode_raw(buffer.getvalue(), "a").pixels, GRAY)


@pytest.mark.parametrize("name", ["a.svs", "b.NDPI", "c.mrxs", "d.scn", "e.czi"])
def test_slides_are_refused_by_their_ending_with_what_to_do(name):
    with pytest.raises(InputError, match=r"a whole-slide image \(\w+\); cut it into tiles"):
        decode_raw(b"anything", name)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_a_truncated_tiff_is_refused(kept, compression):
    data = encode(RGB, "TIFF", compression=compression)
    with pytest.raises(InputError, match=r"^a: unreadable image \("):
        decode_raw(data[: int(len(data) * kept)], "a")
