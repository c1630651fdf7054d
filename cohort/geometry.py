"""How an image of any size becomes the square an encoder takes, as open_clip does it.

Shape legend: H height, W width.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from cohort.errors import InputError

RESIZE_MODES = ("shortest", "squash", "longest")
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
        if self.size < 1:
            raise InputError(f"size of a geometry must be at least 1 pixel, got {self.size}")
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


def apply_geometry(image: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Resize, crop and pad as open_clip's evaluation transform does before `ToTensor`, bit for bit.

    `image` is uint8, (H, W) or (H, W, 3); so is the result, with H = W = `geometry.size`, unless
    `geometry.channels` says otherwise.
    """
    size, (height, width) = geometry.size, image.shape[:2]
    if geometry.resize_mode == "squash":
        new_height, new_width = size, size
    elif geometry.resize_mode == "shortest":
        # torchvision.transforms.functional.resize with one number: the longer side is cut off, not rounded.
        long = int(size * max(height, width) / min(height, width))
        new_height, new_width = (long, size) if height >= width else (size, long)
    else:
        # open_clip.transform.ResizeKeepRatio: rounded.
        ratio = max(height / size, width / size)
        new_height, new_width = max(1, round(height / ratio)), max(1, round(width / ratio))

    if (new_height, new_width) != (height, width):
        resized = Image.fromarray(image).resize(
            (new_width, new_height), INTERPOLATIONS[geometry.interpolation]
        )
        image = np.asarray(resized)

    if geometry.resize_mode == "shortest":
        top, left = round((new_height - size) / 2.0), round((new_width - size) / 2.0)
        image = image[top : top + size, left : left + size]
    elif geometry.resize_mode == "longest":
        before_after = [((size - side) // 2, (size - side + 1) // 2) for side in (new_height, new_width)]
        image = np.pad(image, before_after + [(0, 0)] * (image.ndim - 2), constant_values=geometry.fill)

    if geometry.channels == 1 and image.ndim == 3:
        image = np.asarray(Image.fromarray(image).convert("L"))
    elif geometry.channels == 3 and image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    return image
