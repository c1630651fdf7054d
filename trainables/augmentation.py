"""Distortion of training radiographs, on the device and in batches.

What varies between two exposures of one patient varies here: how the patient stood (a small rotation, shift
and scale, drawn together and applied by one resampling) and how the detector and its software rendered it
(gamma, contrast, brightness). Nothing is cut out and nothing is invented.

Never flipped upside down: no radiograph is. Not mirrored unless asked for: the heart lies left, most of
what is read off its outline and off the hila depends on the side, and the marker that says which side is
which would be mirrored with it; a mirrored frontal is a picture of situs inversus, which is seen once in
ten thousand people.

Shape legend: B images of a batch, H height, W width, C channels (1 gray, 3 RGB).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far an image may be distorted: each quantity is drawn uniformly on both sides of no change."""

    rotation: float = 0.0
    """Degrees, about the image's centre."""
    shift: float = 0.0
    """Share of the image's side, along each axis."""
    scale: float = 0.0
    """log2 of the magnification."""
    gamma: float = 0.0
    """log2 of the exponent of gray values in 0..1."""
    contrast: float = 0.0
    """log2 of the factor on the distance to the image's mean."""
    brightness: float = 0.0
    """Share of the full range, added."""
    horizontal_flip: bool = False
    """Mirror every other image; see the module for why not."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{field.name} must be finite and at least 0, not {value}")

    def scaled(self, strength: float) -> Augmentation:
        """Every range times `strength`, in 0..1; `horizontal_flip` stays as it is."""
        ranges = {
            field.name: getattr(self, field.name) * strength
            for field in fields(self)
            if field.name != "horizontal_flip"
        }
        return Augmentation(**ranges, horizontal_flip=self.horizontal_flip)

    def mirrored(self) -> Augmentation:
        """The same with `horizontal_flip`."""
        return replace(self, horizontal_flip=True)

    @property
    def changes_nothing(self) -> bool:
        return not any(getattr(self, field.name) for field in fields(self))


STRONGEST = Augmentation(rotation=10, shift=0.05, scale=0.15, gamma=0.4, contrast=0.4, brightness=0.1)
"""Where a frontal is still one that could have been taken: strength 1 of the search space."""


@dataclass(frozen=True, eq=False)
class Draw:
    """One distortion for each image of a batch."""

    affine_B23: Tensor
    """float32: from a place in the new image to the place in the old one that is shown there; both in
    -1..1."""
    gamma_B: Tensor
    contrast_B: Tensor
    brightness_B: Tensor

    def __getitem__(self, images: slice) -> Draw:
        """The distortions of some images of the batch."""
        return Draw(
            self.affine_B23[images], self.gamma_B[images], self.contrast_B[images], self.brightness_B[images]
        )

    def to(self, device: torch.device | str) -> Draw:
        tensors = (self.affine_B23, self.gamma_B, self.contrast_B, self.brightness_B)
        return Draw(*(tensor.to(device, non_blocking=True) for tensor in tensors))


def draw(augmentation: Augmentation, batch: int, generator: torch.Generator) -> Draw:
    """Draws `batch` distortions on the CPU, so that a seed gives the same ones whatever trains.

    Args:
        augmentation: the ranges.
        batch: how many images.
        generator: a CPU generator; it advances by the same amount whatever the ranges.
    """
    unit_B8 = 2 * torch.rand(batch, 8, generator=generator) - 1
    rotation_B = unit_B8[:, 0] * math.radians(augmentation.rotation)
    # Places run from -1 to 1: a shift by one side is 2.
    shift_B2 = unit_B8[:, 1:3] * 2 * augmentation.shift
    zoom_B = 2 ** (unit_B8[:, 3] * augmentation.scale)
    mirror_B = torch.where((unit_B8[:, 4] < 0) & augmentation.horizontal_flip, -1.0, 1.0)
    cos_B, sin_B = rotation_B.cos() / zoom_B, rotation_B.sin() / zoom_B
    affine_B23 = torch.stack(
        [
            torch.stack([cos_B * mirror_B, -sin_B, shift_B2[:, 0]], dim=1),
            torch.stack([sin_B * mirror_B, cos_B, shift_B2[:, 1]], dim=1),
        ],
        dim=1,
    )
    return Draw(
        affine_B23,
        2 ** (unit_B8[:, 5] * augmentation.gamma),
        2 ** (unit_B8[:, 6] * augmentation.contrast),
        unit_B8[:, 7] * augmentation.brightness,
    )


def distort(images_BHWC: Tensor, drawn: Draw) -> Tensor:
    """Applies one distortion to each image.

    Args:
        images_BHWC: uint8, square.
        drawn: as many distortions, on the same device.

    Returns:
        float32 (B, H, W, C) in 0..255, not rounded; what lies outside the old image is black.
    """
    x_BCHW = images_BHWC.permute(0, 3, 1, 2).float() / 255
    place_BHW2 = F.affine_grid(drawn.affine_B23, list(x_BCHW.shape), align_corners=False)
    x_BCHW = F.grid_sample(x_BCHW, place_BHW2, mode="bilinear", padding_mode="zeros", align_corners=False)
    gamma_B111, contrast_B111, brightness_B111 = (
        value_B[:, None, None, None] for value_B in (drawn.gamma_B, drawn.contrast_B, drawn.brightness_B)
    )
    # Rounding may leave a black pixel a hair below 0, of which there is no power.
    x_BCHW = x_BCHW.clamp(0, 1) ** gamma_B111
    mean_B111 = x_BCHW.mean((1, 2, 3), keepdim=True)
    x_BCHW = ((x_BCHW - mean_B111) * contrast_B111 + mean_B111 + brightness_B111).clamp(0, 1)
    return (x_BCHW * 255).permute(0, 2, 3, 1)
