"""The floor, an encoder that has learnt nothing: the image itself at 32 x 32 gray pixels.

Shape legend: B images of a batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import nn

from cohort.errors import InputError
from cohort.geometry import Geometry
from vlm.encoders.base import Encoder, Features, ImageTower, fingerprint

SIZE = 32  # a ridge on 1,024 pixels of nih_cxr64 does no worse than on all 4,096


class Pixels(nn.Module):
    """Gray values in 0..1, row by row."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW[:, 0].flatten(1)


def load(name: str, features: Features) -> Encoder:
    """The encoder `pixels`, on the CPU; InputError for pooled features, and for a longer name."""
    if name != "pixels":
        raise InputError(f"unknown encoder {name!r}; did you mean 'pixels'?")
    if features != "projected":
        raise InputError("encoder pixels has no features before a projection; use projected features")
    geometry = Geometry(size=SIZE, resize_mode="squash", channels=1)
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return Encoder(
        name=name,
        features=features,
        width=SIZE**2,
        geometry=geometry,
        mean=mean,
        std=std,
        fingerprint=fingerprint({}, {"pixels": SIZE}, geometry, mean, std, features),
        tower=ImageTower(Pixels(), mean, std).eval(),
    )
