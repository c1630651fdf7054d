"""open_clip's ResNet, whose attention pools and projects at once.

Shape legend: B images of a batch, C channels, H height, W width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from vlm.feature_kinds import DEEP, PROJECTED
from vlm.towers.base import ATTENTION, CHANNELS_FIRST, Layout, Tower

_STAGES = ("layer1", "layer2", "layer3", "layer4")


class ModifiedResNetTower(Tower):
    layout = Layout(CHANNELS_FIRST)
    pool = ATTENTION

    @classmethod
    def fits(cls, visual: nn.Module) -> bool:
        return isinstance(visual, ModifiedResNet)

    def parts(self) -> dict[str, nn.Module]:
        return {name: self.visual.get_submodule(name) for name in _STAGES}

    def _features(self, x_BCHW: Tensor, kinds: Sequence[str]) -> dict[str, list[Tensor]]:
        means = []
        for stage in (self.visual.stem, *self.parts().values()):
            x_BCHW = stage(x_BCHW)
            means.append(x_BCHW.mean(dim=(2, 3)))
        return {DEEP: means} | ({PROJECTED: [self.visual.attnpool(x_BCHW)]} if PROJECTED in kinds else {})

    def blocks(self) -> tuple[dict[str, int], int]:
        stages = list(self.parts().values())
        first = [1 + sum(len(stage) for stage in stages[:i]) for i in range(5)]

        def number(name: str) -> int:
            if match := re.match(r"layer(\d)\.(\d+)\.", name):
                return first[int(match[1]) - 1] + int(match[2])
            return first[-1] if name.startswith("attnpool") else 0

        return {name: number(name) for name, _ in self.visual.named_parameters()}, first[-1]


TOWER = ModifiedResNetTower
