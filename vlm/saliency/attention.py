"""What methods that read the attention of transformers have in common.

Shape legend: B images, E heads, T tokens, h and w cells of a map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cohort.errors import InputError
from vlm.saliency.target import ZeroGradient
from vlm.towers.base import Layout, Tower
from vlm.towers.tokens import TokenTower


def token_tower(tower: Tower, method: str) -> TokenTower:
    """The tower itself; InputError for one without attention over the whole image."""
    if not isinstance(tower, TokenTower):
        raise InputError(f"{method} is of the attention of transformers, and this tower has none")
    return tower


def over_patches(row_BT: Tensor, layout: Layout, method: str) -> Tensor:
    """(B, h, w) of a number a token, those before the patches left out; InputError where the patches are no
    square."""
    return layout.spatial(row_BT[:, :, None], method)[:, 0]


def refuse_zero(gradients: Sequence[Tensor | None], method: str, label: str) -> None:
    """ZeroGradient where a label's score depends on no attention."""
    if not any(one is not None and torch.any(one) for one in gradients):
        raise ZeroGradient(
            f"{method}: the gradient of {label} is zero throughout, so that a map would be nothing "
            "drawn large"
        )
