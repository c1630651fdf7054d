"""From the bytes of an image file to 8-bit pixels: one decoder an ending.

Shape legend: H height, W width.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from cohort.errors import InputError
from cohort.intensity import Intensity
from cohort.jpeg_damage import jpeg_damage
from cohort.limits import LONGEST_RATIO, MOST_PIXELS, MOST_PIXELS_AT_ONCE
from cohort.other_formats import HEAD, other_format
from cohort.png_chunks import without_texts

# Part of the key of every image store and of all embeddings: raise it when a decoder or
# `cohort.geometry.apply_geometry` gives other pixels for the same file.
DECODING = 3

# Blocks of Pillow's own size stay with the thread that freed them: hundreds of megabytes a core.
Image.core.set_block_size(2**26)

# `check_size_of_image` says it, before Pillow's warning of half as many pixels would be of use.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

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
    InputError, with `name`, for a file that is truncated, damaged, refused by `check_size_of_image`, or
    something else.
    """
    ending = PurePosixPath(name).suffix.lower()
    return DECODERS.get(ending, _png_or_jpeg)(data, name)


def check_size_of_image(width: int, height: int, name: str) -> None:
    """InputError for an image of more than `MOST_PIXELS` or longer than `LONGEST_RATIO`; every decoder asks
    before it decodes."""
    shape = f"{name}: unreadable image ({width} x {height} pixels"
    if width * height > MOST_PIXELS:
        raise InputError(f"{shape}, and more than {MOST_PIXELS:,} are not decoded; make it smaller)")
    if max(width, height) > LONGEST_RATIO * min(width, height):
        raise InputError(
            f"{shape}; the longer side may be at most {LONGEST_RATIO} times the shorter; cut it into pieces)"
        )


class _Room:
    """Pixels of which only so many are being worked on at a time, by all threads together."""

    def __init__(self, most: int) -> None:
        self._most, self._taken, self._changed = most, 0, threading.Condition()

    @contextmanager
    def __call__(self, pixels: int) -> Iterator[None]:
        with self._changed:
            # One that is larger than all the room works alone.
            self._changed.wait_for(lambda: self._taken == 0 or self._taken + pixels <= self._most)
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()


_room = _Room(MOST_PIXELS_AT_ONCE)


@contextmanager
def room_to_decode(data: bytes) -> Iterator[None]:
    """Waits until an image file may be decoded, and what was decoded be worked on, beside those of other
    threads: until no more than `MOST_PIXELS_AT_ONCE` are at once."""
    try:
        with _opened(without_texts(data)) as image:
            pixels = image.width * image.height
    except _DAMAGE:
        pixels = len(data)
    with _room(pixels):
        yield


def _png_or_jpeg(data: bytes, name: str) -> Decoded:
    """Pillow's pixels, whichever of the two the file is.

    - 16 bits a channel in colour or with transparency: the high byte of each channel.
    - Black and white: 0 and 255. Palette: looked up, gray where every colour that occurs is gray.
    - An alpha channel is dropped, as in `Image.convert("RGB")`; CMYK is converted to RGB.
    - Turned upright by EXIF's orientation, which open_clip leaves to its caller.
    """
    try:
        data = without_texts(data)
        with _opened(data) as image:
            check_size_of_image(*image.size, name)
            image.verify()  # a PNG's checksums, of which loading skips those of the pixels
        with _opened(data) as image:
            stored_as = str(image.tile[0].args) if image.tile else ""
            image.load()
            turn = _turn(image)
            pixels = _pixels(image if turn is None else image.transpose(turn))
        if damage := jpeg_damage(data):
            raise InputError(f"{name}: unreadable image ({damage}; get it again)")
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{name}: unreadable image (more than {MOST_PIXELS:,} pixels are not decoded; make it smaller)"
        ) from error
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


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # Pillow lets through what its parser stumbles over; a damaged block says nothing
        return None


def _pixels(image: Image.Image) -> np.ndarray:
    if image.mode == "P":
        image_HWC = _by_strips(image, "RGB")
        return image_HWC[:, :, 0] if (image_HWC == image_HWC[:, :, :1]).all() else image_HWC
    if image.mode in ("L", "RGB"):
        return _by_strips(image, image.mode)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _by_strips(image, image.mode).astype(np.uint16, copy=False)
    return _by_strips(image, "L" if image.mode in ("1", "LA", "La") else "RGB")


def _by_strips(image: Image.Image, mode: str) -> np.ndarray:
    """`np.asarray(image.convert(mode))`, which takes three times as much memory on the way, of some rows at a
    time."""
    rows, (width, height) = max(1, _STRIP // image.width), image.size
    array = None
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height))) if rows < height else image
        part = np.asarray(strip if strip.mode == mode else strip.convert(mode))
        if rows >= height:
            return part
        if array is None:
            array = np.empty((height, *part.shape[1:]), part.dtype)
        array[top : top + rows] = part
    return array


_STRIP = 2**22
"""Pixels."""


DECODERS: dict[str, Callable[[bytes, str], Decoded]] = {
    ".png": _png_or_jpeg,
    ".jpg": _png_or_jpeg,
    ".jpeg": _png_or_jpeg,
}
"""Ending -> from bytes and a name for messages to pixels, as `decode_raw` promises them."""

IMAGE_ENDINGS = tuple(DECODERS)
