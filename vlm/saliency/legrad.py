"""LeGrad of vision transformers (Bousselham et al., ICCV 2025): how sensitive a label's score is to what each
block attends to.

The score that the head gives to the mean token of a block, through all that stands behind the blocks (norm,
pooling, projection), is derived by that block's own attention; positive parts, averaged over heads and over
the tokens that attend, summed over blocks. Taken are the blocks that deep features come from, the last
four.

Shape legend: B images, C labels, E heads, T tokens, D channels, h and w cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from vlm.saliency.attention import over_patches, refuse_zero, token_tower
from vlm.saliency.target import BATCH, LabelLogits

LEGRAD = "legrad"


def legrad(model: LabelLogits, x_BCHW: Tensor, columns: Sequence[int]) -> np.ndarray:
    """float32 (B, C, h, w); arguments and errors as of `vlm.saliency.relevance.attention_relevance`."""
    tower = token_tower(model.tower, LEGRAD)
    blocks = list(tower.parts().values())
    parts = []
    for start in range(0, len(x_BCHW), BATCH):
        pixels = x_BCHW[start : start + BATCH].detach()
        outputs: list[Tensor] = []
        with torch.enable_grad(), tower.attention() as attentions:
            handles = [
                block.register_forward_hook(lambda m, i, output, into=outputs: into.append(output))
                for block in blocks
            ]
            try:
                model(pixels.clone().requires_grad_(True))  # the tower is frozen
            finally:
                for handle in handles:
                    handle.remove()
        attended = list(attentions)
        gradients_CL: list[list[Tensor | None]] = [[] for _ in columns]
        for number in tower.deep_blocks:
            with torch.enable_grad(), _stopped(blocks, number, outputs[number]):
                scores = model(pixels)
            for gradients, column in zip(gradients_CL, columns, strict=True):
                (gradient,) = torch.autograd.grad(
                    scores[:, column].sum(), attended[number], retain_graph=True, allow_unused=True
                )
                gradients.append(gradient)
        each = []
        for gradients, column in zip(gradients_CL, columns, strict=True):
            refuse_zero(gradients, LEGRAD, model.labels[column])
            row_BT = sum(one.clamp_min(0).mean(dim=(1, 2)) for one in gradients if one is not None)
            each.append(over_patches(row_BT, tower.layout, LEGRAD))
        parts.append(torch.stack(each, dim=1))
    return torch.cat(parts).float().cpu().numpy()


@contextmanager
def _stopped(blocks: Sequence[nn.Module], number: int, output_BTD: Tensor) -> Iterator[None]:
    """While this lasts the tower stops at one block: its mean token is what all tokens are, and later blocks
    pass it on. Earlier ones compute nothing, for nothing asks for them."""
    mean_BTD = output_BTD.mean(dim=1, keepdim=True).expand_as(output_BTD)
    try:
        for place, block in enumerate(blocks):
            if place == number:
                block.forward = lambda x_BTD, *_args, **_more: mean_BTD
            else:
                block.forward = lambda x_BTD, *_args, **_more: x_BTD
        yield
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)
