"""Models of timm in stages whose outputs have channels, height and width, as those of convolutional networks.

Deep features are the mean over all positions of each stage.

Shape legend: B images of a batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from cohort.errors import InputError
from vlm.feature_kinds import DEEP, PROJECTED
from vlm.towers.base import ATTENTION, CHANNELS_FIRST, MAX, MEAN, Layer, Layout
from vlm.towers.timm_trunk import TimmTower


class TimmCnn(TimmTower):
    layout = Layout(CHANNELS_FIRST)

    @classmethod
    def fits(cls, visual: nn.Module) -> bool:
        return isinstance(visual, TimmModel) or hasattr(visual, "forward_head")

    @property
    def pool(self) -> str:
        if self.projects and hasattr(self.visual.head, "pool"):
            return ATTENTION
        return MAX if getattr(self.trunk, "global_pool", None) == "max" else MEAN

    def parts(self) -> dict[str, nn.Module]:
        return {entry["module"]: self.trunk.get_submodule(entry["module"]) for entry in self._stages()}

    def layers(self) -> dict[str, Layer]:
        parts = self.parts()
        return {
            name: Layer(name, parts[name], self.layout, entry["num_chs"])
            for entry in self._stages()
            for name in [entry["module"]]
        }

    def _stages(self) -> list[dict[str, Any]]:
        info = getattr(self.trunk, "feature_info", None)
        if not info:
            raise InputError("this tower has no layers that are known to lie over the image")
        return info.info if hasattr(info, "info") else info

    def _features(self, x_BCHW: Tensor, kinds: Sequence[str]) -> dict[str, list[Tensor]]:
        if not all(hasattr(self.trunk, part) for part in ("forward_intermediates", "forward_head")):
            return {PROJECTED: [self.visual(x_BCHW)]} if self.projects else {}
        # Channels first, however the trunk keeps them.
        last, outputs = self.trunk.forward_intermediates(x_BCHW)
        return self._pooled(last, kinds) | {DEEP: [output_BCHW.mean(dim=(2, 3)) for output_BCHW in outputs]}


TOWER = TimmCnn
