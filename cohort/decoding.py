"""From the bytes of an image file to 8-bit pixels: one decoder an ending.

Shape legend: H height, W width.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from cohort.errors import InputError
from cohort.intensity import Intensity
from cohort.other_formats import HEAD, other_format

# Part of the key of every image store and of all embeddings: raise it when a decoder or
# `cohort.geometry.apply_geometry` gives other pixels for the same file.
DECODING = 2

LONGEST_RATIO = 100
"""How many times as long as its shorter side an image's longer side may be. Where the shorter side is resized
to the encoder's, a strip of one pixel's width would become gigabytes before the centre is cut out of it."""

# What Pillow raises for damaged files, by format and kind of damage.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)

# EXIF's orientations (CIPA DC-008, tag 274) -> what makes the stored pixels upright, as in
# `ImageOps.exif_transpose`, which also writes the EXIF block anew and fails where another tag is damaged.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Decoded(NamedTuple):
    """The pixels of a file, and what was done to them."""

    pixels: np.ndarray
    """uint8, (H, W) where the source is gray and (H, W, 3) where it is in colour; uint16 (H, W) where it is
    16-bit gray."""

    turned: bool = False
    """Whether EXIF said that they were stored in another orientation."""

    high_byte: bool = False
    """Whether the source has 16 bits a channel in colour or with transparency: Pillow reads the upper 8."""


def decode(data: bytes, name: str, intensity: Intensity | None = None) -> np.ndarray:
    """Decode an image file to uint8, (H, W) where the source is gray and (H, W, 3) where it is in colour.

    `intensity` says which values of 16-bit gray are black and white; None is for images of 8 bits. Raises
    InputError, with `name`, like `decode_raw`, and for a 16-bit gray image without an intensity.
    """
    pixels = decode_raw(data, name).pixels
    if pixels.dtype == np.uint8:
        return pixels
    if intensity is None:
        raise InputError(
            f"{name}: has 16 bits, and nothing says which of its values are black and white, for the images "
            "of the cohort have 8; convert it to 8 bits as they were"
        )
    return intensity.to_8_bit(pixels)


def decode_raw(data: bytes, name: str) -> Decoded:
    """Decode an image file, 16-bit gray as it is stored.

    The ending of `name` chooses the decoder, PNG and JPEG's where it is none of `IMAGE_ENDINGS`. Raises
    InputError, with `name`, for a file that is truncated, damaged, larger than Pillow's limit of 179 million
    pixels, longer than `LONGEST_RATIO`, or something else.
    """
    ending = PurePosixPath(name).suffix.lower()
    decoded = DECODERS.get(ending, _png_or_jpeg)(data, name)
    height, width = decoded.pixels.shape[:2]
    if max(height, width) > LONGEST_RATIO * min(height, width):
        raise InputError(
            f"{name}: unreadable image ({width} x {height} pixels; the longer side may be at most "
            f"{LONGEST_RATIO} times the shorter)"
        )
    return decoded


def _png_or_jpeg(data: bytes, name: str) -> Decoded:
    """Pillow's pixels, whichever of the two the file is.

    - 16 bits a channel in colour or with transparency: the high byte of each channel.
    - Black and white: 0 and 255. Palette: looked up, gray where every colour that occurs is gray.
    - An alpha channel is dropped, as in `Image.convert("RGB")`; CMYK is converted to RGB.
    - Turned upright by EXIF's orientation, which open_clip leaves to its caller.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            image.verify()  # a PNG's checksums, of which loading skips those of the pixels
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            stored_as = str(image.tile[0].args) if image.tile else ""
            image.load()
            turn = _turn(image)
            pixels = _pixels(image if turn is None else image.transpose(turn))
    except Image.UnidentifiedImageError as error:
        other = other_format(data[:HEAD], name)
        only = f"{other}; only PNG and JPEG are readable yet, convert it"
        reason = only if other else "not a PNG or JPEG file"
        raise InputError(f"{name}: unreadable image ({reason})") from error
    except _DAMAGE as error:
        raise InputError(f"{name}: unreadable image ({' '.join(str(error).split())})") from error
    high_byte = ";16B" in stored_as and pixels.dtype == np.uint8
    if high_byte and stored_as.startswith("LA"):
        pixels = pixels[:, :, 0]  # Pillow makes 16-bit gray with transparency RGBA
    return Decoded(pixels, turn is not None, high_byte)


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # Pillow lets through what its parser stumbles over; a damaged block says nothing
        return None


def _pixels(image: Image.Image) -> np.ndarray:
    if image.mode == "P":
        image_HWC = np.asarray(image.convert("RGB"))
        return image_HWC[:, :, 0] if (image_HWC == image_HWC[:, :, :1]).all() else image_HWC
    if image.mode in ("L", "RGB"):
        return np.asarray(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    return np.asarray(image.convert("L" if image.mode in ("1", "LA", "La") else "RGB"))


DECODERS: dict[str, Callable[[bytes, str], Decoded]] = {
    ".png": _png_or_jpeg,
    ".jpg": _png_or_jpeg,
    ".jpeg": _png_or_jpeg,
}
"""Ending -> from bytes and a name for messages to pixels, as `decode_raw` promises them."""

IMAGE_ENDINGS = tuple(DECODERS)
