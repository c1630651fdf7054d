"""How an image of any size becomes the square an encoder takes, as open_clip does it.

Shape legend: H height, W width.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from cohort.errors import InputError
from cohort.limits import LARGEST_GEOMETRY

RESIZE_MODES = ("shortest", "squash", "longest")
RESIZED_WHOLE = 10
"""How many times as long as its shorter side an image may be to be resized as a whole under `shortest`, as
open_clip does it. Of a longer one only what the square shows is resized."""
INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Geometry:
    """How an image of any size becomes the square an encoder takes; the fields of open_clip's
    preprocessing."""

    size: int
    """Side of the square in pixels."""

    resize_mode: str = "shortest"
    """`shortest`: the shorter side is resized to `size` and the centre cropped out; `squash`: both sides are
    resized to `size`; `longest`: the longer side is resized to `size` and the rest padded with `fill`."""

    interpolation: str = "bicubic"
    """`bicubic` or `bilinear`, both antialiased."""

    fill: int = 0
    """Gray value of the padding, 0..255."""

    channels: int | None = None
    """1: to gray (ITU-R 601), 3: gray repeated three times, None: as the source."""

    def __post_init__(self) -> None:
        if not 1 <= self.size <= LARGEST_GEOMETRY:
            raise InputError(
                f"size of a geometry must lie in 1..{LARGEST_GEOMETRY} pixels, got {self.size}; "
                "choose another encoder"
            )
        if self.resize_mode not in RESIZE_MODES:
            raise InputError(
                f"resize_mode must be one of {', '.join(RESIZE_MODES)}, got {self.resize_mode!r}"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(
                f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {self.interpolation!r}"
            )
        if not 0 <= self.fill <= 255:
            raise InputError(f"fill of a geometry must lie in 0..255, got {self.fill}")
        if self.channels not in (1, 3, None):
            raise InputError(f"channels of a geometry must be 1, 3 or None, got {self.channels}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def placement(height: int, width: int, geometry: Geometry) -> tuple[int, int, int, int]:
    """Height and width that an image is resized to, and the row and column of the resized image that come
    first in the square: negative where it is padded."""
    size = geometry.size
    if geometry.resize_mode == "squash":
        return size, size, 0, 0
    if geometry.resize_mode == "shortest":
        # torchvision.transforms.functional.resize with one number: the longer side is cut off, not rounded.
        long = int(size * max(height, width) / min(height, width))
        new_height, new_width = (long, size) if height >= width else (size, long)
        return new_height, new_width, round((new_height - size) / 2.0), round((new_width - size) / 2.0)
    # open_clip.transform.ResizeKeepRatio: rounded.
    ratio = max(height / size, width / size)
    new_height, new_width = max(1, round(height / ratio)), max(1, round(width / ratio))
    return new_height, new_width, -((size - new_height) // 2), -((size - new_width) // 2)


def apply_geometry(image: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Resize, crop and pad as open_clip's evaluation transform does before `ToTensor`, bit for bit; under
    `shortest` for images up to `RESIZED_WHOLE`. Of a longer one the square differs by what Pillow rounds
    between its two passes, whose order follows the sizes.

    `image` is uint8, (H, W) or (H, W, 3); so is the result, with H = W = `geometry.size`, unless
    `geometry.channels` says otherwise.
    """
    size, (height, width) = geometry.size, image.shape[:2]
    new_height, new_width, top, left = placement(height, width, geometry)
    interpolation = INTERPOLATIONS[geometry.interpolation]
    shortest = geometry.resize_mode == "shortest"
    if shortest and max(height, width) > RESIZED_WHOLE * min(height, width):
        # The square in the source's own coordinates: the rest would only be resized to be cut off.
        rows, columns = height / new_height, width / new_width
        box = (left * columns, top * rows, (left + size) * columns, (top + size) * rows)
        inside = (*box[:2], min(box[2], width), min(box[3], height))
        image = np.asarray(Image.fromarray(image).resize((size, size), interpolation, inside))
    else:
        if (new_height, new_width) != (height, width):
            image = np.asarray(Image.fromarray(image).resize((new_width, new_height), interpolation))
        if shortest:
            image = image[top : top + size, left : left + size]

    if geometry.resize_mode == "longest":
        before_after = [(-top, size - new_height + top), (-left, size - new_width + left)]
        image = np.pad(image, before_after + [(0, 0)] * (image.ndim - 2), constant_values=geometry.fill)

    if geometry.channels == 1 and image.ndim == 3:
        image = np.asarray(Image.fromarray(image).convert("L"))
    elif geometry.channels == 3 and image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    return image


def map_to_image(map_hw: np.ndarray, height: int, width: int, geometry: Geometry) -> np.ndarray:
    """The way back: a map over the square, of any resolution, over the image that the square was made of.

    Args:
        map_hw: float, its cells cover the square evenly.

    Returns:
        float32 (H, W), bilinear between the cells' centres; NaN where the square does not show the image.
    """
    new_height, new_width, top, left = placement(height, width, geometry)
    rows_Hh, seen_H = _interpolation(height, new_height, top, geometry.size, map_hw.shape[0])
    columns_Ww, seen_W = _interpolation(width, new_width, left, geometry.size, map_hw.shape[1])
    image_HW = (rows_Hh @ map_hw.astype(np.float32) @ columns_Ww.T).astype(np.float32)
    image_HW[~seen_H] = np.nan
    image_HW[:, ~seen_W] = np.nan
    return image_HW


def _interpolation(
    length: int, resized: int, first: int, size: int, cells: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of each pixel of a side the weights of the map's cells, (length, cells), and whether the square shows
    its centre."""
    square = ((np.arange(length) + 0.5) * resized / length - first) / size
    place = np.clip(square * cells - 0.5, 0, cells - 1)
    below = np.minimum(np.floor(place).astype(int), max(cells - 2, 0))
    weights = np.zeros((length, cells), dtype=np.float32)
    share = (place - below).astype(np.float32)
    at = np.arange(length)
    weights[at, below] = 1 - share
    weights[at, np.minimum(below + 1, cells - 1)] += share
    return weights, (square >= 0) & (square < 1)
