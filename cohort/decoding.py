"""From the bytes of an image file to 8-bit pixels: one decoder an ending.

Shape legend: H height, W width.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from cohort.errors import InputError

# Part of every image store's key: raise it when a decoder or `cohort.geometry.apply_geometry` gives other
# pixels for the same file.
DECODING = 1

# What Pillow raises for damaged files, by format and kind of damage.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)

# Bit depths that detectors and exporters use; see `_png_or_jpeg`.
_BIT_DEPTHS = (8, 10, 12, 14, 16)


def decode(data: bytes, name: str) -> np.ndarray:
    """Decode an image file to uint8, (H, W) where the source is gray and (H, W, 3) where it is in colour.

    The ending of `name` chooses the decoder, PNG and JPEG's where it is none of `IMAGE_ENDINGS`. Raises
    InputError, with `name`, for a file that is truncated, damaged, or something else.
    """
    ending = PurePosixPath(name).suffix.lower()
    return DECODERS.get(ending, _png_or_jpeg)(data, name)


def _png_or_jpeg(data: bytes, name: str) -> np.ndarray:
    """Pillow's pixels, whichever of the two the file is.

    - 16-bit gray: the range from 0 to the full scale of the smallest of 8, 10, 12, 14 and 16 bits that
      holds the image's brightest pixel is mapped linearly to 0..255 and rounded. Exporters write 12-bit
      detectors into 16-bit files with and without stretching them; either comes out in the same brightness,
      and apart from this choice of depth no pixel depends on another.
    - 16-bit RGB: the high byte of each channel.
    - Black and white: 0 and 255. Palette: looked up, gray where every colour that occurs is gray.
    - An alpha channel is dropped, as in `Image.convert("RGB")`; CMYK is converted to RGB.
    - EXIF orientation is not applied, as in open_clip.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            image.load()
            if image.mode == "P":
                image_HWC = np.asarray(image.convert("RGB"))
                return image_HWC[:, :, 0] if (image_HWC == image_HWC[:, :, :1]).all() else image_HWC
            if image.mode in ("L", "RGB"):
                return np.asarray(image)
            if image.mode == "I" or image.mode.startswith("I;16"):
                return _to_8_bit(np.asarray(image))
            return np.asarray(image.convert("L" if image.mode in ("1", "LA", "La") else "RGB"))
    except _DAMAGE as error:
        reason = "not a PNG or JPEG file" if isinstance(error, Image.UnidentifiedImageError) else error
        raise InputError(f"{name}: unreadable image ({' '.join(str(reason).split())})") from error


def _to_8_bit(image_HW: np.ndarray) -> np.ndarray:
    bits = next(b for b in _BIT_DEPTHS if image_HW.max() < 2**b or b == 16)
    scale = 2**bits - 1
    return ((image_HW.astype(np.uint32) * 255 + scale // 2) // scale).astype(np.uint8)


DECODERS: dict[str, Callable[[bytes, str], np.ndarray]] = {
    ".png": _png_or_jpeg,
    ".jpg": _png_or_jpeg,
    ".jpeg": _png_or_jpeg,
}
"""Ending -> from bytes and a name for messages to pixels, as `decode` promises them."""

IMAGE_ENDINGS = tuple(DECODERS)
