"""Decoding: every kind of PNG, JPEG, TIFF, BMP, GIF and WebP file to the pixels that were written."""

import io
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from cohort import decoding
from cohort.decoders import by_pillow
from cohort.decoders.decoded import HIGH_BYTE, OVER_BLACK, TURNED
from cohort.decoding import decode, decode_raw
from cohort.errors import InputError
from cohort.intensity import Intensity
from cohort.limits import LONGEST_RATIO
from tests.cohort.made_images import encode, random_image


def test_8_bit_gray_and_rgb_png_decode_to_what_was_written():
    gray, rgb = random_image(5, 7), random_image(5, 7, 3)
    np.testing.assert_array_equal(decode(encode(gray), "a"), gray)
    np.testing.assert_array_equal(decode(encode(rgb), "a"), rgb)


def test_jpeg_decodes_as_pillow_does_gray_and_rgb():
    for image in (random_image(16, 24), random_image(16, 24, 3)):
        data = encode(image, "JPEG", quality=90)
        np.testing.assert_array_equal(decode(data, "a"), np.asarray(Image.open(io.BytesIO(data))))


def png(width, height, depth, colour_type, data):
    """A PNG that Pillow does not write; `data` are its rows, each after a filter byte."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_16_bit_gray_is_read_as_it_is_stored():
    image = np.array([[0, 1, 4095, 65535]], dtype=np.uint16)
    pixels, notes = decode_raw(encode(image), "a")
    assert pixels.dtype == np.uint16 and notes == ()
    np.testing.assert_array_equal(pixels, image)


def test_a_16_bit_file_by_hand():
    """2048 * 255 / 4095 = 127.53, 8 * 255 / 4095 = 0.498."""
    data = encode(np.array([[4095, 2048, 8, 0]], dtype=np.uint16))
    assert decode(data, "a", Intensity(0, 4095, "full")).tolist() == [[255, 128, 0, 0]]


def test_one_bright_pixel_changes_no_other_pixel_of_a_16_bit_image():
    """Scaled by its own brightest pixel, the second had been a quarter as bright as the first."""
    image = np.full((16, 16), 2031, dtype=np.uint16)
    marked = image.copy()
    marked[0, 0] = 5000
    plain, bright = (decode(encode(x), "a", Intensity(0, 4095, "full")) for x in (image, marked))
    assert (plain == 126).all() and (bright.reshape(-1)[1:] == 126).all() and bright[0, 0] == 255


def test_8_bit_images_know_no_intensity():
    gray, rgb = random_image(5, 7), random_image(5, 7, 3)
    for image in (gray, rgb):
        np.testing.assert_array_equal(decode(encode(image), "a", Intensity(100, 200, "full")), image)


def test_16_bit_gray_without_an_intensity_is_refused():
    with pytest.raises(InputError, match=r"^a\.png: has 16 bits, and nothing says which of its values"):
        decode(encode(np.zeros((4, 4), dtype=np.uint16)), "a.png")


def test_of_16_bits_in_colour_or_with_transparency_the_upper_8_are_read():
    gray_alpha = png(2, 1, 16, 4, b"\0" + struct.pack(">4H", 0x1234, 0xFFFF, 0xABCD, 0xFFFF))
    colour = png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 0x1234, 0xABCD, 0x0100))
    assert decode(gray_alpha, "a").tolist() == [[0x12, 0xAB]]
    assert decode(colour, "a").tolist() == [[[0x12, 0xAB, 0x01]]]
    assert HIGH_BYTE in decode_raw(gray_alpha, "a").notes and HIGH_BYTE in decode_raw(colour, "a").notes
    assert decode_raw(encode(random_image(4, 4, 3)), "a").notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("shape", [(16, 24), (16, 24, 3)])
def test_every_exif_orientation_comes_out_upright(orientation, file_format, shape):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encode(random_image(*shape), file_format, exif=exif)
    pixels, notes = decode_raw(data, "a")
    np.testing.assert_array_equal(pixels, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    assert (TURNED in notes) == (orientation != 1)


def test_exif_orientations_by_hand():
    """Stored as the rows 1 2 and 3 4: what CIPA DC-008 says stands at the top left, and what right of it."""
    stored = np.array([[1, 2], [3, 4]], dtype=np.uint8)
    upright = {1: [1, 2], 2: [2, 1], 3: [4, 3], 4: [3, 4], 5: [1, 3], 6: [3, 1], 7: [4, 2], 8: [2, 4]}
    for orientation, first_row in upright.items():
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        assert decode(encode(stored, exif=exif), "a")[0].tolist() == first_row


def test_16_bit_gray_is_turned_too():
    image = np.array([[1, 2], [3, 4]], dtype=np.uint16)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    assert decode_raw(encode(image, exif=exif), "a").pixels.tolist() == [[3, 1], [4, 2]]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("block", [b"Exif\0\0", b"Exif\0\0junk", b"Exif\0\0II*\0\xff\xff\xff\x7f"])
def test_a_damaged_exif_block_turns_nothing(block):
    data = encode(random_image(16, 24), "JPEG")
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(block)) + block + data[2:]
    pixels, notes = decode_raw(data, "a")
    assert pixels.shape == (16, 24) and notes == ()


def test_files_that_would_take_much_memory_are_refused_in_one_line():
    for width, height in [(60_000, 60_000), (30_000, 6_000), (LONGEST_RATIO + 1, 1), (1, 60_000)]:
        rows = (width + 8) // 8 * height if width * height < 10**6 else 10
        with pytest.raises(InputError, match=r"^a\.png: unreadable image \(") as error:
            decode(png(width, height, 1, 0, bytes(rows)), "a.png")
        assert "\n" not in str(error.value)
    assert decode(png(LONGEST_RATIO, 1, 1, 0, bytes(14)), "a.png").shape == (1, LONGEST_RATIO)


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


def test_transparent_pixels_are_laid_over_black_and_said():
    rgba = random_image(6, 6, 4)
    pixels, notes = decode_raw(encode(rgba), "a")
    over = Image.new("RGBA", (6, 6), (0, 0, 0, 255))
    over.alpha_composite(Image.fromarray(rgba))
    assert np.abs(pixels.astype(int) - np.asarray(over)[:, :, :3]).max() <= 1 and notes == (OVER_BLACK,)
    gray_alpha = Image.merge("LA", [Image.fromarray(rgba[:, :, c]) for c in (0, 3)])
    buffer = io.BytesIO()
    gray_alpha.save(buffer, "PNG")
    assert np.abs(decode(buffer.getvalue(), "a").astype(int) - pixels[:, :, 0]).max() <= 1
    rgba[:, :, 3] = 255
    np.testing.assert_array_equal(decode(encode(rgba), "a"), rgba[:, :, :3])
    assert decode_raw(encode(rgba), "a").notes == ()


def test_a_cmyk_jpeg_becomes_rgb():
    assert decode(encode(random_image(16, 16, 3), "JPEG", mode="CMYK"), "a").shape == (16, 16, 3)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused_by_name_in_one_line(file_format, kept):
    data = encode(random_image(64, 64), file_format)
    with pytest.raises(InputError, match=r"^scan\.png: unreadable image \(") as error:
        decode(data[: int(len(data) * kept)], "scan.png")
    assert "\n" not in str(error.value)


def test_no_damaged_byte_of_a_png_changes_a_pixel():
    """A flipped bit in a compressed stream may decode to other pixels of the right number."""
    image = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    data = encode(image)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1
        try:
            pixels = decode(bytes(damaged), "a")
        except InputError:
            continue
        np.testing.assert_array_equal(pixels, image)


def test_what_is_no_image_is_refused():
    for data in (b"", b"hello", b"BMI of patients", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(InputError, match=r"^scan: unreadable image \("):
            decode(data, "scan")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "BMP", "GIF", "WebP", "TIFF"])
@pytest.mark.parametrize("name", ["a.png", "a.dcm", "a"])
def test_the_content_chooses_the_decoder_whatever_the_ending(file_format, name):
    data = encode(random_image(8, 9, 3), file_format)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode(data, name), expected)


def test_a_png_may_be_called_jpg_and_may_have_no_ending():
    for name in ("a.png", "a.jpg", "a", "a.dcm.png"):
        np.testing.assert_array_equal(decode(encode(random_image(3, 4)), name), random_image(3, 4))


def test_only_so_many_pixels_are_worked_on_at_once_and_a_larger_image_alone(monkeypatch):
    monkeypatch.setattr(decoding, "_room", decoding._Room(1000))
    at_once, most, alone = [], [], []

    def work(i):
        large = i % 5 == 0
        with decoding.room_to_decode(encode(random_image(40, 40) if large else random_image(10, 30))):
            at_once.append(1600 if large else 300)
            time.sleep(0.002)
            most.append(sum(at_once))
            alone.append(not large or len(at_once) == 1)
            at_once.remove(1600 if large else 300)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(60)))
    assert all(alone) and max(total for total in most if total != 1600) <= 1000
    with pytest.raises(ZeroDivisionError), decoding.room_to_decode(b"no image"):
        1 / 0  # noqa: B018
    with decoding.room_to_decode(encode(random_image(40, 40))):
        pass  # what failed has given its room back


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK", "I;16"])
def test_an_image_that_is_converted_by_strips_is_the_same(monkeypatch, mode):
    if mode == "I;16":
        data = encode(np.random.default_rng(0).integers(0, 2**16, (37, 11)).astype(np.uint16))
    else:
        data = encode(random_image(37, 11, 3), "JPEG" if mode == "CMYK" else "PNG", mode=mode)
    whole = decode_raw(data, "a").pixels
    for pixels in (1, 50, 11 * 36, 11 * 37):
        monkeypatch.setattr(by_pillow, "_STRIP", pixels)
        by_strips = decode_raw(data, "a").pixels
        assert by_strips.dtype == whole.dtype
        np.testing.assert_array_equal(by_strips, whole)
