"""The attention weights of a vision transformer's blocks, as parts of the graph.

Shape legend: B images, E heads, T tokens, D channels, h and w cells of a map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from cohort.errors import InputError
from vlm.saliency.target import ZeroGradient


@contextmanager
def recorded(blocks: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """The attention weights (B, E, T, T) of each block's forward pass, in their order.

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


def over_patches(row_BT: Tensor, prefix: int, method: str) -> Tensor:
    """(B, h, w) of a number a token, those before the patches left out; InputError where the patches are no
    square."""
    patches_BT = row_BT[:, prefix:]
    side = round(patches_BT.shape[1] ** 0.5)
    if side * side != patches_BT.shape[1]:
        raise InputError(f"{method}: {patches_BT.shape[1]} patches are no square")
    return patches_BT.reshape(-1, side, side)


def refuse_zero(gradients: Sequence[Tensor | None], method: str, label: str) -> None:
    """ZeroGradient where a label's score depends on no attention."""
    if not any(one is not None and torch.any(one) for one in gradients):
        raise ZeroGradient(
            f"{method}: the gradient of {label} is zero throughout, so that a map would be nothing "
            "drawn large"
        )
