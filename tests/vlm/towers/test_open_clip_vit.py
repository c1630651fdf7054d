"""Shape legend: B images, T tokens, D features."""

import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch import nn

from cohort.errors import InputError
from vlm.towers import tower_of
from vlm.towers.open_clip_vit import SplitAttention


def test_split_attention_equals_torchs_own():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(24, 3, batch_first=True)
    nn.init.normal_(attention.in_proj_bias)
    x_BTD = torch.randn(2, 5, 24)
    mask_TT = torch.full((5, 5), -torch.inf).triu(1)
    split = SplitAttention(attention)
    for mask in (None, mask_TT):
        expected_BTD = attention(x_BTD, x_BTD, x_BTD, need_weights=False, attn_mask=mask)[0]
        torch.testing.assert_close(
            split(x_BTD, x_BTD, x_BTD, need_weights=False, attn_mask=mask)[0], expected_BTD
        )


def test_attention_that_shows_no_weights_is_refused():
    visual = VisionTransformer(32, 8, width=24, layers=1, heads=3, mlp_ratio=2.0, block_type="custom")
    with pytest.raises(InputError, match="open_clip's Attention"), tower_of(visual).attention():
        pass
