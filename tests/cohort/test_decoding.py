"""Decoding: every kind of PNG and JPEG file to the pixels that were written."""

import io

import numpy as np
import pytest
from PIL import Image

from cohort import decoding
from cohort.decoding import decode
from cohort.errors import InputError
from tests.cohort.made_images import encode, random_image


def test_8_bit_gray_and_rgb_png_decode_to_what_was_written():
    gray, rgb = random_image(5, 7), random_image(5, 7, 3)
    np.testing.assert_array_equal(decode(encode(gray), "a"), gray)
    np.testing.assert_array_equal(decode(encode(rgb), "a"), rgb)


def test_jpeg_decodes_as_pillow_does_gray_and_rgb():
    for image in (random_image(16, 24), random_image(16, 24, 3)):
        data = encode(image, "JPEG", quality=90)
        np.testing.assert_array_equal(decode(data, "a"), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize(
    ("brightest", "scale"),
    [(255, 255), (256, 1023), (1023, 1023), (1024, 4095), (4095, 4095), (65535, 65535)],
)
def test_16_bit_gray_is_scaled_from_the_smallest_depth_that_holds_it(brightest, scale):
    image = np.array([[0, 1, brightest // 2, brightest]], dtype=np.uint16)
    expected = np.floor(image * 255.0 / scale + 0.5)
    result = decode(encode(image), "a")
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected)


def test_a_16_bit_file_by_hand():
    """4095 makes it 12 bits; 2048 * 255 / 4095 = 127.53, 8 * 255 / 4095 = 0.498."""
    assert decode(encode(np.array([[4095, 2048, 8, 0]], dtype=np.uint16)), "a").tolist() == [[255, 128, 0, 0]]


def test_black_and_white_becomes_0_and_255():
    image = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    np.testing.assert_array_equal(decode(encode(image, mode="1"), "a"), image)


def test_a_gray_palette_becomes_gray_and_a_coloured_one_rgb():
    gray = random_image(8, 8) // 64 * 64
    paletted = Image.fromarray(gray).convert("RGB").quantize(4)
    buffer = io.BytesIO()
    paletted.save(buffer, "PNG")
    np.testing.assert_array_equal(decode(buffer.getvalue(), "a"), np.asarray(paletted.convert("L")))
    colour = Image.fromarray(random_image(8, 8, 3)).quantize(16)
    buffer = io.BytesIO()
    colour.save(buffer, "PNG")
    np.testing.assert_array_equal(decode(buffer.getvalue(), "a"), np.asarray(colour.convert("RGB")))


def test_an_alpha_channel_is_dropped():
    rgba = random_image(6, 6, 4)
    np.testing.assert_array_equal(decode(encode(rgba), "a"), rgba[:, :, :3])
    gray_alpha = Image.merge("LA", [Image.fromarray(rgba[:, :, c]) for c in (0, 3)])
    buffer = io.BytesIO()
    gray_alpha.save(buffer, "PNG")
    np.testing.assert_array_equal(decode(buffer.getvalue(), "a"), rgba[:, :, 0])


def test_a_cmyk_jpeg_becomes_rgb():
    assert decode(encode(random_image(16, 16, 3), "JPEG", mode="CMYK"), "a").shape == (16, 16, 3)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused_by_name_in_one_line(file_format, kept):
    data = encode(random_image(64, 64), file_format)
    with pytest.raises(InputError, match=r"^scan\.png: unreadable image \(") as error:
        decode(data[: int(len(data) * kept)], "scan.png")
    assert "\n" not in str(error.value)


def test_what_is_no_png_or_jpeg_is_refused():
    for data in (b"", b"hello", encode(random_image(4, 4), "BMP"), b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(InputError, match=r"^scan: unreadable image \("):
            decode(data, "scan")


def test_the_ending_chooses_the_decoder_whatever_its_case(monkeypatch):
    monkeypatch.setitem(decoding.DECODERS, ".npy", lambda data, name: np.load(io.BytesIO(data)))
    buffer = io.BytesIO()
    np.save(buffer, random_image(3, 4))
    for name in ("a.npy", "folder/a.NPY"):
        np.testing.assert_array_equal(decode(buffer.getvalue(), name), random_image(3, 4))
    with pytest.raises(InputError, match=r"^a\.png: unreadable image \("):
        decode(buffer.getvalue(), "a.png")


def test_a_png_may_be_called_jpg_and_may_have_no_ending():
    for name in ("a.png", "a.jpg", "a", "a.dcm.png"):
        np.testing.assert_array_equal(decode(encode(random_image(3, 4)), name), random_image(3, 4))
