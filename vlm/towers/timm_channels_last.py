"""Models of timm in stages whose outputs have their channels last, as Swin and its like."""

from __future__ import annotations

from torch import nn

from vlm.towers.base import CHANNELS_LAST, Layout
from vlm.towers.timm_cnn import TimmCnn
from vlm.towers.timm_trunk import trunk_of


class TimmChannelsLast(TimmCnn):
    layout = Layout(CHANNELS_LAST)

    @classmethod
    def fits(cls, visual: nn.Module) -> bool:
        return super().fits(visual) and getattr(trunk_of(visual), "output_fmt", None) == "NHWC"


TOWER = TimmChannelsLast
