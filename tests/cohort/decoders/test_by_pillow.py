"""BMP, GIF, WebP, CMYK and Adobe's inverted JPEG, palettes, profiles: pixel by pixel as Pillow, and said."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from cohort.decoders.decoded import FIRST_FRAME, OVER_BLACK, PROFILE
from cohort.decoding import decode, decode_raw
from cohort.errors import InputError
from tests.cohort.made_images import encode, random_image

RGB = random_image(24, 20, 3)


@pytest.mark.parametrize("file_format", ["BMP", "GIF", "WebP"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_a_still_is_what_pillow_reads(file_format, mode):
    options = {"lossless": True} if file_format == "WebP" else {}
    image = Image.fromarray(RGB).convert(mode)
    if file_format == "WebP":
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    pixels, notes = decode_raw(buffer.getvalue(), "a")
    expected = np.asarray(Image.open(buffer).convert("RGB"))
    if pixels.ndim == 2:
        expected = expected[:, :, 0]
    np.testing.assert_array_equal(pixels, expected)
    assert notes == ()


@pytest.mark.parametrize("file_format", ["GIF", "WebP"])
def test_of_an_animation_the_first_frame_is_read_and_that_is_said(file_format):
    frames = [Image.fromarray(np.full((20, 20, 3), gray, np.uint8)) for gray in (10, 200)]
    buffer = io.BytesIO()
    options = {"lossless": True} if file_format == "WebP" else {}
    frames[0].save(buffer, file_format, save_all=True, append_images=frames[1:], **options)
    pixels, notes = decode_raw(buffer.getvalue(), "a")
    assert (pixels == 10).all() and notes == (FIRST_FRAME,)


def test_cmyk_is_converted_as_pillow_does_and_adobe_s_inversion_undone():
    data = encode(RGB, "JPEG", mode="CMYK", quality=95)
    assert b"Adobe" in data, "which stores 255 for no ink"
    np.testing.assert_array_equal(decode(data, "a"), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert np.abs(decode(data, "a").astype(int) - RGB).mean() < 40, "not the negative"


def test_a_transparent_colour_of_a_palette_is_black():
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode="P")
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    for file_format in ("PNG", "GIF"):
        buffer = io.BytesIO()
        image.save(buffer, file_format, transparency=1)
        pixels, notes = decode_raw(buffer.getvalue(), "a")
        assert pixels.tolist() == [[[200, 0, 0], [0, 0, 0], [0, 0, 200]]] and notes == (OVER_BLACK,)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WebP"])
def test_a_colour_profile_changes_no_pixel_and_is_said(file_format):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain, profiled = (encode(RGB, file_format, **kw) for kw in ({}, {"icc_profile": profile}))
    np.testing.assert_array_equal(decode(plain, "a"), decode(profiled, "a"))
    assert decode_raw(profiled, "a").notes == (PROFILE,) and decode_raw(plain, "a").notes == ()


@pytest.mark.parametrize("kind", [b"VP8X", b"VP8L", b"VP8 "])
def test_a_webp_that_states_a_giant_is_refused_before_it_is_opened(kind):
    body = {
        b"VP8X": bytes(8) + b"\xff\x3f\0\xff\x3f\0",
        b"VP8L": b"\x2f\xff\xff\xff\x0f" + bytes(9),
        b"VP8 ": bytes(6) + b"\xff\x3f\xff\x3f" + bytes(4),
    }[kind]
    data = b"RIFF" + (4 + 8 + len(body)).to_bytes(4, "little") + b"WEBP" + kind
    data += len(body).to_bytes(4, "little") + body
    if kind == b"VP8X":
        data = data[:20] + bytes(4) + data[28:]
    with pytest.raises(InputError, match=r"1638[34] x 1638[34] pixels, and more than"):
        decode_raw(data, "a")


@pytest.mark.parametrize("file_format", ["BMP", "GIF", "WebP"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(file_format, kept):
    data = encode(random_image(64, 64, 3), file_format)
    with pytest.raises(InputError, match=r"^a: unreadable image \("):
        decode_raw(data[: int(len(data) * kept)], "a")
