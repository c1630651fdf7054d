"""A linear head in training, on the features of a tower that is trained with it.

Shape legend: B images of a batch, D features, C labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.linear_head import LinearHead


class Head(nn.Module):
    """A `LinearHead` in training: weight and bias move, its normalisation of the features stays.

    A head that was trained on normalised features goes on with them, so that its learning rate means what
    it meant there.
    """

    def __init__(self, head: LinearHead) -> None:
        super().__init__()
        self.weight_DC = nn.Parameter(torch.tensor(head.weight_DC))
        self.bias_C = nn.Parameter(torch.tensor(head.bias_C))
        self.register_buffer("mean_D", torch.tensor(head.mean_D))
        self.register_buffer("scale_D", torch.tensor(head.scale_D))
        self.l2 = head.l2

    @classmethod
    def fresh(cls, features: int, labels: int, key: Sequence[int]) -> Head:
        """Xavier-uniform (Glorot and Bengio, AISTATS 2010, eq. 16) and bias 0, on features as they are."""
        bound = math.sqrt(6 / (features + labels))
        weight_CD = np.random.default_rng(key).uniform(-bound, bound, (labels, features))
        return cls(LinearHead.plain(weight_CD.T))

    def forward(self, features_BD: Tensor) -> Tensor:
        """float32 logits (B, C)."""
        if self.l2:
            features_BD = F.normalize(features_BD, dim=1)
        return (features_BD - self.mean_D) / self.scale_D @ self.weight_DC + self.bias_C

    def linear_head(self, weight_DC: Tensor, bias_C: Tensor) -> LinearHead:
        """The head with these weights, as it is exported."""
        arrays = (weight_DC, bias_C, self.mean_D, self.scale_D)
        weight_DC, bias_C, mean_D, scale_D = (tensor.detach().cpu().numpy().copy() for tensor in arrays)
        return LinearHead(weight_DC=weight_DC, bias_C=bias_C, mean_D=mean_D, scale_D=scale_D, l2=self.l2)
