"""Image models as their libraries build them, behind one protocol; each class of a library is a file here.

Nothing outside this package and `vlm.encoders` knows which library an image model is of.
"""

from __future__ import annotations

from importlib import import_module

from torch import nn

from cohort.errors import InputError
from vlm.towers.base import Tower

__all__ = ["Tower", "tower_of"]

FILES = ("open_clip_vit", "modified_resnet", "timm_vit", "timm_channels_last", "timm_cnn")
"""In the order in which they are asked, the more general last: each has `TOWER`, whose `fits` says whether it
is of a model. Imported when a model is loaded: open_clip alone takes seconds."""


def tower_of(visual: nn.Module) -> Tower:
    """The tower of an image model; InputError for a class that is none of `FILES`."""
    for file in FILES:
        kind: type[Tower] = import_module(f"vlm.towers.{file}").TOWER
        if kind.fits(visual):
            return kind(visual)
    raise InputError(
        f"image models of the class {type(visual).__name__} are not known; take open_clip's "
        "VisionTransformer or ModifiedResNet, or a model of timm"
    )
