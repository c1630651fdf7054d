"""PNG, JPEG, TIFF, BMP, GIF and WebP, by Pillow.

Shape legend: H height, W width, C channels.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable

import numpy as np
from PIL import ExifTags, Image

from cohort.decoders.decoded import (
    FIRST_FRAME,
    HIGH_BYTE,
    OVER_BLACK,
    PROFILE,
    TURNED,
    Decoded,
    check_size_of_image,
    gray_if_colourless,
    unreadable,
)
from cohort.decoders.tiff import black_is_zero, check_tiff
from cohort.errors import InputError
from cohort.jpeg_damage import jpeg_damage
from cohort.limits import MOST_PIXELS
from cohort.png_chunks import without_texts

# Blocks of Pillow's own size stay with the thread that freed them: hundreds of megabytes a core.
Image.core.set_block_size(2**26)

# `check_size_of_image` says it, before Pillow's warning of half as many pixels would be of use.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

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

_STRIP = 2**22
"""Pixels that are converted at a time."""


def size(data: bytes) -> int:
    """How many pixels the header says; whatever Pillow raises where it cannot be read."""
    width, height = _webp_size(data)
    if not width:
        with _opened(without_texts(data)) as image:
            width, height = image.size
    return width * height


def decode(data: bytes, name: str, voi: str = "") -> Decoded:
    """Pillow's pixels; `voi` means nothing here.

    - 16 bits per channel in colour or with transparency: the high byte of each channel.
    - Black and white: 0 and 255. Palette: looked up, gray where every colour that occurs is gray.
    - Transparent pixels are laid over black. CMYK, Adobe's inverted too, is converted to RGB without a
      profile. Colour profiles are not applied.
    - Turned upright by EXIF's orientation, which open_clip leaves to its caller.
    - Of an animation the first frame. A TIFF of several pages is refused unless the others are thumbnails.
    """
    profile = b"iCCP" in data[:4096]  # read before it is cut out
    try:
        data = without_texts(data)
        if any(webp := _webp_size(data)):
            check_size_of_image(*webp, name)
        with _opened(data) as image:
            check_size_of_image(*image.size, name)
            if image.format == "TIFF":
                check_tiff(image, name)
            image.verify()  # a PNG's checksums, of which loading skips those of the pixels
        with _opened(data) as image:
            stored_as = str(image.tile[0].args) if image.tile else ""
            animated = image.format in ("GIF", "WEBP") and image.is_animated
            turned = _turn(image) is not None
            image.load()
            profile = profile or bool(image.info.get("icc_profile"))
            turn = _turn(image)  # none any more where Pillow has turned a TIFF while it loaded it
            pixels, transparent = _pixels(image if turn is None else image.transpose(turn))
            if image.format == "TIFF" and pixels.dtype == np.uint16:
                pixels = black_is_zero(image, pixels)
        if damage := jpeg_damage(data):
            raise unreadable(name, f"{damage}; get it again")
    except (InputError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise unreadable(
            name, f"more than {MOST_PIXELS:,} pixels are not decoded; make it smaller"
        ) from error
    except Exception as error:  # of many kinds, by format and kind of damage
        raise unreadable(name, error) from error
    high_byte = ";16B" in stored_as and pixels.dtype == np.uint8
    if high_byte and stored_as.startswith("LA"):
        pixels = pixels[:, :, 0]  # Pillow makes 16-bit gray with transparency RGBA
    found = {
        TURNED: turned,
        HIGH_BYTE: high_byte,
        OVER_BLACK: transparent,
        PROFILE: profile and pixels.ndim == 3,
        FIRST_FRAME: animated,
    }
    return Decoded(pixels, tuple(note for note, applies in found.items() if applies))


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"))


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height that a WebP file states (RFC 9649), which Pillow makes room for when it opens one;
    (0, 0) of any other file."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return 0, 0
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # Pillow lets through what its parser stumbles over; a damaged block says nothing
        return None


def _pixels(image: Image.Image) -> tuple[np.ndarray, bool]:
    """The pixels over black, and whether any of them is transparent."""
    if image.has_transparency_data and not image.mode.startswith("I"):
        return _over_black(image)
    if image.mode == "P":
        return gray_if_colourless(_by_strips(image, "RGB")), False
    if image.mode in ("L", "RGB"):
        return _by_strips(image, image.mode), False
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _by_strips(image, image.mode).astype(np.uint16, copy=False), False
    return _by_strips(image, "L" if image.mode == "1" else "RGB"), False


def _over_black(image: Image.Image) -> tuple[np.ndarray, bool]:
    gray, transparent = image.mode in ("L", "LA", "1"), False

    def over_black(part_HWC: np.ndarray) -> np.ndarray:
        nonlocal transparent
        colour, alpha = part_HWC[:, :, :-1], part_HWC[:, :, -1:]
        if (alpha != 255).any():
            transparent = True
            colour = ((colour.astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)
        return np.ascontiguousarray(colour[:, :, 0] if gray else colour)

    pixels = _by_strips(image, "LA" if gray else "RGBA", over_black)
    return gray_if_colourless(pixels) if image.mode in ("P", "PA") else pixels, transparent


def _by_strips(
    image: Image.Image, mode: str, after: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> np.ndarray:
    """`after(np.asarray(image.convert(mode)))`, which takes three times as much memory on the way, of some
    rows at a time."""
    rows, (width, height) = max(1, _STRIP // image.width), image.size
    array = None
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height))) if rows < height else image
        part = after(np.asarray(strip if strip.mode == mode else strip.convert(mode)))
        if rows >= height:
            return part
        if array is None:
            array = np.empty((height, *part.shape[1:]), part.dtype)
        array[top : top + rows] = part
    return array
