"""A predictor as one differentiable function of pixels: its tower and its heads, in the numbers of `scores`.

Shape legend: B images, C labels, D features, H height, W width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from cohort.errors import InputError
from vlm.feature_kinds import DEEP
from vlm.predictor import Predictor
from vlm.torch_head import TorchHead
from vlm.towers.base import Tower
from vlm.towers.tokens import Read

BATCH = 8
"""Images that are looked at together. The graph of 8 images of 224 px under EfficientNet-Lite0 keeps 0.6 GB,
that of 32 keeps 2.5 GB, which took twice the processor time an image (one thread of a Xeon)."""


class ZeroGradient(InputError):
    """A label's score does not depend on what a map would be made of."""


class LabelLogits(nn.Module):
    """From normalised pixels (B, 3, H, W) to scores (B, C), float32, as `Predictor.scores` has them."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.labels = predictor.labels
        self.image_tower = predictor.encoder.tower
        self.heads = nn.ModuleList(TorchHead(head).requires_grad_(False) for head in predictor.heads)
        self.kinds = [predictor.encoder.kinds[name] for name in predictor.encoder.features]

    @property
    def tower(self) -> Tower:
        """What is looked into."""
        return self.image_tower.inner

    @property
    def reads_deep(self) -> bool:
        """Whether a head has weights on outputs of earlier layers."""
        return any(kind == DEEP for kind, _ in self._read_blocks(slice(None)))

    def reads(self, column: int) -> list[Read]:
        """The tokens that a label's score is made of, of a TokenTower; those of a block of features that no
        head has weights on are left out."""
        return [self.tower.reads(kind)[place] for kind, place in self._read_blocks(slice(column, column + 1))]

    def _read_blocks(self, columns: slice) -> list[tuple[str, int]]:
        """Kind and place of the blocks of features that heads have weights on, for some of the labels."""
        found = []
        for kind in self.kinds:
            start = kind.first
            for place, width in enumerate(kind.blocks):
                if any(head.weighs(start, start + width, columns) for head in self.heads):
                    found.append((kind.name, place))
                start += width
        return found

    def pixels(self, images_BHWC: np.ndarray) -> Tensor:
        """Normalised, on the model's device; uint8 images of 1 or 3 channels."""
        return self.image_tower.normalised(torch.tensor(np.array(images_BHWC)))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        features_BF = self.image_tower.of_normalised(x_BCHW)
        return torch.stack([head(features_BF) for head in self.heads]).mean(dim=0)
