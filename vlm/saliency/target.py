"""A predictor as one differentiable function of pixels: its tower and its heads, in the numbers of `scores`.

Shape legend: B images, C labels, D features, H height, W width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from cohort.errors import InputError
from vlm.encoders.layers import KindsTower
from vlm.feature_kinds import DEEP
from vlm.predictor import Predictor
from vlm.torch_head import TorchHead

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
        self.deep = predictor.encoder.kinds.get(DEEP)

    @property
    def visual(self) -> nn.Module:
        """The image model as its library builds it."""
        tower = self.image_tower.visual
        return tower.visual if isinstance(tower, KindsTower) else tower

    @property
    def reads_deep(self) -> bool:
        """Whether a head has weights on outputs of earlier layers."""
        if self.deep is None:
            return False
        for head in self.heads:
            first = max(self.deep.columns.start - head.columns.start, 0)
            stop = max(self.deep.columns.stop - head.columns.start, 0)
            if head.weight_DC[first:stop].abs().sum() > 0:
                return True
        return False

    def pixels(self, images_BHWC: np.ndarray) -> Tensor:
        """Normalised, on the model's device; uint8 images of 1 or 3 channels."""
        return self.image_tower.normalised(torch.tensor(np.array(images_BHWC)))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        features_BF = self.image_tower.of_normalised(x_BCHW)
        return torch.stack([head(features_BF) for head in self.heads]).mean(dim=0)
