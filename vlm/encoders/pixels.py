"""An encoder that has learnt nothing: the image itself at a few pixels a side, gray or in colour.

    pixels            32 x 32 in the channels of the cohort, see `vlm.encoder_names.name_for`
    pixels:16x16x3    side, side, channels; a side of `SIDES`, 1 (gray) or 3 channels (RGB)

Every side is cut from the same 32 x 32 pixels, so that a cohort is decoded once for all of them.

Shape legend: B images of a batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import avg_pool2d

from cohort.errors import InputError
from cohort.geometry import Geometry
from vlm.encoder_names import HubAccess
from vlm.encoders.base import Encoder, ImageTower, fingerprint
from vlm.feature_kinds import PROJECTED

SIDES = (8, 16, 32)
SIDE = SIDES[-1]  # a ridge on 1,024 pixels of nih_cxr64 does no worse than on all 4,096


class Pixels(nn.Module):
    """Values in 0..1, channel by channel and row by row; a side below 32 takes the means of squares."""

    def __init__(self, side: int, channels: int) -> None:
        super().__init__()
        self.side, self.channels = side, channels

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return avg_pool2d(x_BCHW[:, : self.channels], SIDE // self.side).flatten(1)


def name_of(side: int, channels: int) -> str:
    """The encoder's name; gray at 32 pixels a side is plain `pixels`."""
    return "pixels" if (side, channels) == (SIDE, 1) else f"pixels:{side}x{side}x{channels}"


NAMES = {name_of(side, channels): (side, channels) for channels in (1, 3) for side in SIDES}


def load(name: str, features: tuple[str, ...] | None, hub: HubAccess) -> Encoder:
    """One of `NAMES`, on the CPU; InputError for other features than projected, and for another name."""
    if name not in NAMES:
        raise InputError(f"unknown encoder {name!r}; pixels come as {', '.join(NAMES)}")
    if other := [kind for kind in features or () if kind != PROJECTED]:
        raise InputError(f"encoder {name} has no {other[0]} features, having no layers; use {PROJECTED}")
    side, channels = NAMES[name]
    geometry = Geometry(size=SIDE, resize_mode="squash", channels=channels)
    blocks = {PROJECTED: (side**2 * channels,)}
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return Encoder(
        name=name,
        blocks=blocks,
        geometry=geometry,
        mean=mean,
        std=std,
        fingerprint=fingerprint({}, {"pixels": side}, geometry, mean, std, blocks),
        tower=ImageTower(Pixels(side, channels), mean, std).eval(),
    )
