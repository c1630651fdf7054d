"""TIFF files that Pillow would read otherwise than they are meant: stacks, slides, tiles of any size."""

from __future__ import annotations

import numpy as np
from PIL import Image, TiffTags

from cohort.decoders.decoded import unreadable
from cohort.decoders.formats import SLIDE_REMEDY
from cohort.limits import MOST_PIXELS_AT_ONCE

_TAGS = {tag.name: number for number, tag in TiffTags.TAGS_V2.items()}
_WIDTH, _LENGTH = _TAGS["TileWidth"], _TAGS["TileLength"]
_NDPI = 65420
"""Tag of Hamamatsu's slides."""
_REDUCED = 1
"""Bit of NewSubfileType: a smaller copy of another page."""
_MOST_PAGES = 64
"""That are looked at; a stack is refused at its second."""


def check_tiff(image: Image.Image, name: str) -> None:
    """InputError for a whole-slide image, several pages of equal rank, signed or floating-point values, and
    tiles larger than an image may be. Leaves the image at its first page."""
    tags = image.tag_v2
    description = str(tags.get(_TAGS["ImageDescription"], ""))
    if description.startswith("Aperio") or _NDPI in tags or "<scn" in description[:300]:
        raise unreadable(name, f"a whole-slide image; {SLIDE_REMEDY}")
    if image.mode == "F" or 2 in np.atleast_1d(tags.get(_TAGS["SampleFormat"], 1)) or image.mode == "I":
        raise unreadable(
            name, "a TIFF of signed, 32-bit or floating-point values; convert it to 16 bits without sign"
        )
    tile = int(tags.get(_WIDTH, 0)) * int(tags.get(_LENGTH, 0))
    if tile > MOST_PIXELS_AT_ONCE:
        raise unreadable(name, f"a TIFF with tiles of {tile:,} pixels; write it anew")
    for page in range(1, _MOST_PAGES):
        try:
            image.seek(page)
        except EOFError:
            break
        if not int(image.tag_v2.get(_TAGS["NewSubfileType"], 0)) & _REDUCED:
            raise unreadable(name, "a TIFF of several pages; write each page to a file of its own")
    image.seek(0)


def black_is_zero(image: Image.Image, pixels_HW: np.ndarray) -> np.ndarray:
    """16-bit gray of a TIFF as 0 is black: Pillow leaves `WhiteIsZero` as it is stored."""
    tags = image.tag_v2
    if tags.get(_TAGS["PhotometricInterpretation"]) != 0:
        return pixels_HW
    bits = int(np.atleast_1d(tags.get(_TAGS["BitsPerSample"], 16))[0])
    return np.uint16(2**bits - 1) - pixels_HW
