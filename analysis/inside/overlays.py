"""Text burned into images, as scanners and technologists do it, and its control: a grey box of the same
place, size and mean brightness, without letters.

Shape legend: H height, W width.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from analysis.fonts import BOLD, bold_file

MARKS = ("R", "PORTABLE", "AP ERECT", "2019-03-14 08:52")
"""What stands on real films: side, apparatus, projection, date and time."""
MOVED = "PORTABLE"
"""Which of them is tried at other places, sizes and contrasts."""
PLACES = ("top left", "bottom right", "centre")
SMALL, LARGE = 0.08, 0.16
"""Height of a line, of the image's shorter side."""
FULL, FAINT = 1.0, 0.4
"""How far the letters are drawn towards white."""
NAMED = 4
"""Labels at most whose own names are burned in."""
MARGIN, WIDEST = 0.03, 0.94
"""Of the shorter side: distance to its border, and the longest line, for which letters are made smaller."""
DRAWING = 1
"""Part of every cache key: raise it when the same overlay gives other pixels."""


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """One string at one place, or the box in its stead."""

    text: str
    label: str = ""
    """Of which label the text is the name; empty where it is a mark."""
    place: str = PLACES[0]
    size: float = SMALL
    contrast: float = FULL
    letters: bool = True
    """False: the grey box."""

    @property
    def control(self) -> Overlay:
        return replace(self, letters=False)

    def described(self) -> dict[str, Any]:
        """What decides about the pixels, as JSON."""
        drawn = {"text": self.text, "place": self.place, "size": self.size, "contrast": self.contrast}
        return drawn | {"letters": self.letters, "drawing": DRAWING}

    def applied(self, image: np.ndarray) -> np.ndarray:
        """A copy of a uint8 image, (H, W) or (H, W, 3), with the overlay.

        It lies within the square in the middle of the image, so that no encoder's crop cuts it off.
        """
        height, width = image.shape[:2]
        side = min(height, width)
        ink_hw = _ink(self.text, max(1, round(self.size * side)), round(WIDEST * side))
        if not self.letters:
            ink_hw = np.full_like(ink_hw, ink_hw.mean())
        high, wide = ink_hw.shape
        margin = round(MARGIN * side)
        free_y, free_x = side - high - margin, side - wide - margin
        y, x = {
            "top left": (margin, margin),
            "bottom right": (free_y, free_x),
            "centre": ((side - high) // 2, (side - wide) // 2),
        }[self.place]
        top, left = max(0, (height - side) // 2 + y), max(0, (width - side) // 2 + x)
        window = slice(top, top + high), slice(left, left + wide)
        altered = image.copy()
        under = altered[window].astype(np.float32)
        alpha = self.contrast * ink_hw[: under.shape[0], : under.shape[1]]
        alpha = alpha if image.ndim == 2 else alpha[:, :, None]
        altered[window] = np.rint(under + alpha * (255 - under)).astype(np.uint8)
        return altered


def overlays(labels: Sequence[tuple[str, str]]) -> list[Overlay]:
    """The texts to try, without their controls: marks; one of them elsewhere, larger and fainter; and the
    names of labels, (label, how it is said), at most `NAMED` of them, of those that a font here has letters
    for: boxes would be read by nobody."""
    labels = [(label, name) for label, name in labels if bold_file(name)]
    marks = [Overlay(text=mark) for mark in MARKS]
    varied = [Overlay(text=MOVED, place=place) for place in PLACES[1:]]
    varied += [Overlay(text=MOVED, size=LARGE), Overlay(text=MOVED, contrast=FAINT)]
    return [*marks, *varied, *(Overlay(text=name, label=label) for label, name in labels[:NAMED])]


@functools.lru_cache(maxsize=512)
def _ink(text: str, height: int, widest: int) -> np.ndarray:
    """float32 in 0..1, read-only: how much ink lies on each pixel of a line of this height."""
    file = bold_file(text) or BOLD
    font = _font(file, height)
    left, top, right, bottom = font.getbbox(text)
    if right - left > widest:
        font = _font(file, max(1, int(height * widest / (right - left))))
        left, top, right, bottom = font.getbbox(text)
    line = Image.new("L", (max(1, min(right - left, widest)), max(1, bottom - top)), 0)
    ImageDraw.Draw(line).text((-left, -top), text, fill=255, font=font)
    ink_hw = np.asarray(line, dtype=np.float32) / 255
    ink_hw.flags.writeable = False
    return ink_hw


@functools.lru_cache(maxsize=64)
def _font(file: Path, height: int) -> ImageFont.FreeTypeFont:
    """`height` in pixels."""
    return ImageFont.truetype(file, height)
