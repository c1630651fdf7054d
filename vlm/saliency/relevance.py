"""Attention-gradient relevance of vision transformers (Chefer, Gur, Wolf, ICCV 2021).

Of each block the attention, weighed by its gradient, positive parts only, averaged over heads; R = I, and
block after block R <- R + mean(clamp(gradient * attention, min 0)) R. What is read, over the patches, are the
rows of the tokens that the score is made of, after the block that they come from: that of the class token, or
the mean of those that a tower pools, and of heads on deep features both of each of their blocks, summed.

Shape legend: B images, C labels, E heads, T tokens, h and w cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vlm.saliency.attention import over_patches, refuse_zero, token_tower
from vlm.saliency.target import BATCH, LabelLogits
from vlm.towers.tokens import Read

RELEVANCE = "relevance"


def attention_relevance(model: LabelLogits, x_BCHW: Tensor, columns: Sequence[int]) -> np.ndarray:
    """float32 (B, C, h, w), from the first block on; InputError where the tower has no attention,
    ZeroGradient where a label's score does not depend on it.

    Args:
        columns: of the model's scores, one a label.
    """
    tower = token_tower(model.tower, RELEVANCE)
    parts = []
    for start in range(0, len(x_BCHW), BATCH):
        with torch.enable_grad(), tower.attention() as attentions:
            # The tower is frozen: without this nothing has a gradient.
            scores = model(x_BCHW[start : start + BATCH].detach().requires_grad_(True))
        each = []
        for column in columns:
            gradients = torch.autograd.grad(
                scores[:, column].sum(), attentions, retain_graph=True, allow_unused=True
            )
            refuse_zero(gradients, RELEVANCE, model.labels[column])
            row_BT = _row(attentions, gradients, model.reads(column))
            each.append(over_patches(row_BT, tower.layout, RELEVANCE))
        parts.append(torch.stack(each, dim=1))
    return torch.cat(parts).float().cpu().numpy()


def _row(attentions: Sequence[Tensor], gradients: Sequence[Tensor | None], reads: Sequence[Read]) -> Tensor:
    """(B, T): the rows that are read, summed, from the last block down, so that R need not be multiplied out.
    A block on which the score does not depend has no gradient."""
    row_BT = torch.zeros_like(attentions[0][:, 0, 0]).detach()
    for block in reversed(range(len(attentions))):
        for read in reads:
            if read.block == block:
                row_BT = row_BT + read.weights(row_BT)
        gradient_BETT = gradients[block]
        if gradient_BETT is not None:
            weighed_BTT = (attentions[block].detach() * gradient_BETT).clamp_min(0).mean(dim=1)
            row_BT = row_BT + (row_BT[:, None] @ weighed_BTT)[:, 0]
    return row_BT
