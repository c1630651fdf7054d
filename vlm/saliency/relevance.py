"""Attention-gradient relevance of vision transformers (Chefer, Gur, Wolf, ICCV 2021).

Of each block the attention, weighed by its gradient, positive parts only, averaged over heads; R = I, and
block after block R <- R + mean(clamp(gradient * attention, min 0)) R. What is read is the row of the class
token, or where a tower has none the mean of all rows, over the patches.

Shape legend: B images, C labels, E heads, T tokens, h and w cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vlm.saliency.attention import over_patches, recorded, refuse_zero
from vlm.saliency.layers import attended_blocks
from vlm.saliency.target import BATCH, LabelLogits

RELEVANCE = "relevance"


def attention_relevance(model: LabelLogits, x_BCHW: Tensor, columns: Sequence[int]) -> np.ndarray:
    """float32 (B, C, h, w), from the first block on; InputError where the tower has no attention,
    ZeroGradient where a label's score does not depend on it.

    Args:
        columns: of the model's scores, one a label.
    """
    blocks, prefix = attended_blocks(model.visual, RELEVANCE)
    parts = []
    for start in range(0, len(x_BCHW), BATCH):
        with torch.enable_grad(), recorded(blocks) as attentions:
            # The tower is frozen: without this nothing has a gradient.
            scores = model(x_BCHW[start : start + BATCH].detach().requires_grad_(True))
        each = []
        for column in columns:
            gradients = torch.autograd.grad(
                scores[:, column].sum(), attentions, retain_graph=True, allow_unused=True
            )
            refuse_zero(gradients, RELEVANCE, model.labels[column])
            each.append(over_patches(_row(attentions, gradients, prefix), prefix, RELEVANCE))
        parts.append(torch.stack(each, dim=1))
    return torch.cat(parts).float().cpu().numpy()


def _row(attentions: Sequence[Tensor], gradients: Sequence[Tensor | None], prefix: int) -> Tensor:
    """(B, T); a block on which the score does not depend has no gradient."""
    tokens = attentions[0].shape[-1]
    relevance_BTT = torch.eye(tokens, device=attentions[0].device).expand(len(attentions[0]), -1, -1)
    for attention_BETT, gradient_BETT in zip(attentions, gradients, strict=True):
        if gradient_BETT is not None:
            weighed_BTT = (attention_BETT.detach() * gradient_BETT).clamp_min(0).mean(dim=1)
            relevance_BTT = relevance_BTT + weighed_BTT @ relevance_BTT
    return relevance_BTT[:, 0] if prefix else relevance_BTT.mean(dim=1)
