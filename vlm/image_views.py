"""Views of one image: as it is, mirrored, a little moved, or larger. A head is trained on each as a further
row of the same image, and says of an image the mean of what it says of its views.

Off by default. A mirrored radiograph shows a heart on the wrong side and a wrong laterality marker, which a
head must not learn to ignore where dextrocardia or sides matter; of skin, say, nothing speaks against it.

Shape legend: B images, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import interpolate

MOVED = 0.04
"""Of the side, by which a shift moves an image at most in each direction."""
SCALED = 0.06
"""By which it makes it larger or smaller at most."""


@dataclass(frozen=True)
class ImageViews:
    """Which views there are beside the image itself."""

    flip: bool = False
    """Mirrored left to right."""
    shifts: int = 0
    """How many times moved and scaled a little, each its own way, the same for all images."""
    resolution: int | None = None
    """Side in pixels of a larger or smaller view; only for towers that take any size."""

    @property
    def count(self) -> int:
        """All views, the image itself included."""
        return 1 + self.flip + self.shifts + (self.resolution is not None)

    def of(self, images_BHWC: Tensor) -> Iterator[Tensor]:
        """Each view, uint8; the images themselves first."""
        yield images_BHWC
        if self.flip:
            yield images_BHWC.flip(2)
        if self.shifts:
            yield from self._shifted(images_BHWC)
        if self.resolution is not None:
            x_BCHW = images_BHWC.permute(0, 3, 1, 2).float()
            size = (self.resolution, self.resolution)
            x_BCHW = interpolate(x_BCHW, size, mode="bicubic", antialias=True, align_corners=False)
            yield x_BCHW.round().clamp(0, 255).to(images_BHWC.dtype).permute(0, 2, 3, 1)

    def _shifted(self, images_BHWC: Tensor) -> Iterator[Tensor]:
        # Imported here, since every worker imports this file and it takes 170 MB and more than a second.
        from torchvision.transforms.v2.functional import InterpolationMode, affine

        side = images_BHWC.shape[1]
        for number in range(self.shifts):
            right, down, larger = np.random.default_rng([0, number]).uniform(-1, 1, 3)
            x_BCHW = affine(
                images_BHWC.permute(0, 3, 1, 2),
                angle=0.0,
                translate=[round(right * MOVED * side), round(down * MOVED * side)],
                scale=1 + float(larger) * SCALED,
                shear=[0.0, 0.0],
                interpolation=InterpolationMode.BILINEAR,
            )
            yield x_BCHW.permute(0, 2, 3, 1)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
