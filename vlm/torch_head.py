"""A `LinearHead` as a torch module: in training, and where gradients go through it.

Shape legend: B images of a batch, F columns of an encoder's features, D of them that a head reads, C labels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.linear_head import SMALLEST_NORM, LinearHead


class TorchHead(nn.Module):
    """`LinearHead` in torch: weight and bias are parameters, its normalisation of the features stays.

    A head that was trained on normalised features goes on with them, so that its learning rate means what
    it meant there.
    """

    def __init__(self, head: LinearHead) -> None:
        super().__init__()
        self.weight_DC = nn.Parameter(torch.tensor(head.weight_DC))
        self.bias_C = nn.Parameter(torch.tensor(head.bias_C))
        self.register_buffer("mean_D", torch.tensor(head.mean_D))
        self.register_buffer("scale_D", torch.tensor(head.scale_D))
        self.columns, self.l2 = head.columns, head.l2

    def forward(self, features_BF: Tensor) -> Tensor:
        """float32 logits (B, C) of an encoder's raw features, as `LinearHead.logits` has them."""
        x_BD = features_BF[:, self.columns]
        if self.l2:
            x_BD = F.normalize(x_BD, dim=1, eps=SMALLEST_NORM)
        return ((x_BD - self.mean_D) / self.scale_D) @ self.weight_DC + self.bias_C

    def weighs(self, start: int, stop: int, labels: slice) -> bool:
        """Whether any of these columns of an encoder's features has a weight for any of these labels."""
        first, last = (max(column - self.columns.start, 0) for column in (start, stop))
        return bool(self.weight_DC[first:last, labels].any())

    def linear_head(self, weight_DC: Tensor, bias_C: Tensor) -> LinearHead:
        """The head with these weights, as it is exported."""
        arrays = (weight_DC, bias_C, self.mean_D, self.scale_D)
        weight_DC, bias_C, mean_D, scale_D = (tensor.detach().cpu().numpy().copy() for tensor in arrays)
        return LinearHead(
            weight_DC=weight_DC,
            bias_C=bias_C,
            mean_D=mean_D,
            scale_D=scale_D,
            l2=self.l2,
            first=self.columns.start,
        )
