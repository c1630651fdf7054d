"""What every decoder gives, and what it checks before it decodes.

Shape legend: H height, W width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cohort.errors import InputError
from cohort.limits import LONGEST_RATIO, MOST_PIXELS

TURNED = "turned upright by their EXIF orientation"
HIGH_BYTE = "have 16 bits a channel in colour or with transparency: the upper 8 are read"
OVER_BLACK = "have transparent pixels: laid over black"
PROFILE = "have a colour profile, which is not applied"
FIRST_FRAME = "are animations, of which the first frame is read"
BURNED_IN = "state burned-in annotations (BurnedInAnnotation), which may name people or give labels away"
"""Notes on what was done to pixels, as a warning goes on after `12 images`."""


class Decoded(NamedTuple):
    """The pixels of a file, and what was done to them."""

    pixels: np.ndarray
    """uint8, (H, W) where the source is gray and (H, W, 3) where it is in colour; uint16 (H, W) where it is
    16-bit gray without a window of its own."""

    notes: tuple[str, ...] = ()
    """The notes above that apply to it."""


def check_size_of_image(width: int, height: int, name: str) -> None:
    """InputError for an image of no pixel, of more than `MOST_PIXELS` or longer than `LONGEST_RATIO`; every
    decoder asks before it decodes."""
    shape = f"{name}: unreadable image ({width} x {height} pixels"
    if width < 1 or height < 1:
        raise InputError(f"{shape}; get it again)")
    if width * height > MOST_PIXELS:
        raise InputError(f"{shape}, and more than {MOST_PIXELS:,} are not decoded; make it smaller)")
    if max(width, height) > LONGEST_RATIO * min(width, height):
        raise InputError(
            f"{shape}; the longer side may be at most {LONGEST_RATIO} times the shorter; cut it into pieces)"
        )


def unreadable(name: str, reason: object) -> InputError:
    """The error for a file that does not decode, in one line."""
    return InputError(f"{name}: unreadable image ({' '.join(str(reason).split())[:300]})")


def gray_if_colourless(image_HWC: np.ndarray) -> np.ndarray:
    """(H, W) of an image (H, W, 3) every pixel of which is gray, otherwise the image itself."""
    return image_HWC[:, :, 0] if (image_HWC == image_HWC[:, :, :1]).all() else image_HWC
