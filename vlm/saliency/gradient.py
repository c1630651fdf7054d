"""The plain gradient of a label's score in the pixels (Simonyan et al., ICLR Workshop 2014): a baseline for
methods that look into layers.

Shape legend: B images, C labels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vlm.saliency.target import BATCH, LabelLogits


def input_gradient(model: LabelLogits, x_BCHW: Tensor, columns: Sequence[int]) -> np.ndarray:
    """float32 (B, C, H, W): the largest absolute value over the channels; arguments as of
    `vlm.saliency.cams`."""
    parts = []
    for start in range(0, len(x_BCHW), BATCH):
        with torch.enable_grad():
            pixels = x_BCHW[start : start + BATCH].detach().requires_grad_(True)
            scores = model(pixels)
            each = [
                torch.autograd.grad(scores[:, column].sum(), pixels, retain_graph=True)[0].abs().amax(dim=1)
                for column in columns
            ]
        parts.append(torch.stack(each, dim=1))
    return torch.cat(parts).float().cpu().numpy()
