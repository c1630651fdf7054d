"""Attention-gradient relevance of vision transformers (Chefer, Gur, Wolf, ICCV 2021).

Of each block the attention, weighed by its gradient, positive parts only, averaged over heads; R = I, and
block after block R <- R + mean(clamp(gradient * attention, min 0)) R. What is read is the row of the class
token, or where a tower has none the mean of all rows, over the patches.

Shape legend: B images, C labels, E heads, T tokens, D channels, h and w cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from cohort.errors import InputError
from vlm.saliency.cams import BATCH, ZeroGradient
from vlm.saliency.layers import transformer_blocks
from vlm.saliency.target import LabelLogits


def attention_relevance(model: LabelLogits, x_BCHW: Tensor, columns: Sequence[int]) -> np.ndarray:
    """float32 (B, C, h, w), from the first block on; InputError where the tower has no attention,
    ZeroGradient where a label's score does not depend on it.

    Args:
        columns: of the model's scores, one a label.
    """
    found = transformer_blocks(model.visual)
    if found is None:
        raise InputError("relevance is of the attention of transformers, and this tower has none")
    blocks, prefix = found
    parts = []
    for start in range(0, len(x_BCHW), BATCH):
        with torch.enable_grad(), _recorded(blocks) as attentions:
            # The tower is frozen: without this nothing has a gradient.
            scores = model(x_BCHW[start : start + BATCH].detach().requires_grad_(True))
            each = []
            for column in columns:
                gradients = torch.autograd.grad(
                    scores[:, column].sum(), attentions, retain_graph=True, allow_unused=True
                )
                if not any(one is not None and one.any() for one in gradients):
                    raise ZeroGradient(
                        f"relevance: the gradient of {model.labels[column]} is zero throughout, so that a "
                        "map would be nothing drawn large"
                    )
                each.append(_of_label(attentions, gradients, prefix))
        parts.append(torch.stack(each, dim=1))
    return torch.cat(parts).float().cpu().numpy()


def _of_label(attentions: Sequence[Tensor], gradients: Sequence[Tensor | None], prefix: int) -> Tensor:
    """(B, h, w); a block on which the score does not depend has no gradient."""
    tokens = attentions[0].shape[-1]
    relevance_BTT = torch.eye(tokens, device=attentions[0].device).expand(len(attentions[0]), -1, -1)
    for attention_BETT, gradient_BETT in zip(attentions, gradients, strict=True):
        if gradient_BETT is not None:
            weighed_BTT = (attention_BETT.detach() * gradient_BETT).clamp_min(0).mean(dim=1)
            relevance_BTT = relevance_BTT + weighed_BTT @ relevance_BTT
    row_BT = relevance_BTT[:, 0] if prefix else relevance_BTT.mean(dim=1)
    patches_BT = row_BT[:, prefix:]
    side = round(patches_BT.shape[1] ** 0.5)
    if side * side != patches_BT.shape[1]:
        raise InputError(f"relevance: {patches_BT.shape[1]} patches are no square")
    return patches_BT.reshape(-1, side, side)


@contextmanager
def _recorded(blocks: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """The attention weights (B, E, T, T) of each block's forward pass, in their order, as parts of the graph.

    Fused attention never has them in memory, so that each block computes them in the open while this lasts.
    """
    found: list[Tensor] = []
    fused = [(block.attn, block.attn.fused_attn) for block in blocks if hasattr(block.attn, "fused_attn")]
    handles = []
    try:
        for block in blocks:
            attention = block.attn
            if isinstance(attention, nn.MultiheadAttention):
                attention.forward = _open_attention(attention, found)
            else:
                attention.fused_attn = False
                handles.append(
                    attention.attn_drop.register_forward_hook(lambda m, i, output: found.append(output))
                )
        yield found
    finally:
        for handle in handles:
            handle.remove()
        for attention, before in fused:
            attention.fused_attn = before
        for block in blocks:
            block.attn.__dict__.pop("forward", None)


def _open_attention(attention: nn.MultiheadAttention, found: list[Tensor]):
    """The forward pass of `attention` on one input, written out, its weights noted."""

    def forward(query_BTD: Tensor, *_args, attn_mask: Tensor | None = None, **_more) -> tuple[Tensor, None]:
        images, tokens, width = query_BTD.shape
        heads = attention.num_heads
        qkv = linear(query_BTD, attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = qkv.reshape(images, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        products = q @ k.transpose(-2, -1) * (width // heads) ** -0.5
        weights = (products if attn_mask is None else products + attn_mask).softmax(dim=-1)
        found.append(weights)
        return attention.out_proj((weights @ v).transpose(1, 2).reshape(images, tokens, width)), None

    return forward
