"""open_clip's own vision transformer.

Shape legend: B images of a batch, C channels, H height (in attention: heads), W width, D features, T tokens,
S features of a head of attention.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from cohort.errors import InputError
from vlm.feature_kinds import DEEP, POOLED, PROJECTED
from vlm.towers.base import ATTENTION, CLASS, MEAN, TOKENS, Layout
from vlm.towers.tokens import TokenTower

_STEM = ("conv1", "class_embedding", "positional_embedding", "ln_pre")


class OpenClipVit(TokenTower):
    layout = Layout(TOKENS, prefix=1)

    @classmethod
    def fits(cls, visual: nn.Module) -> bool:
        return isinstance(visual, VisionTransformer)

    @property
    def pool(self) -> str:
        if self.visual.attn_pool is not None:
            return ATTENTION
        return MEAN if self.visual.pool_type == "avg" else CLASS

    @property
    def pools_prefix(self) -> bool:
        return self.pool == ATTENTION

    def parts(self) -> dict[str, nn.Module]:
        return {f"blocks.{number}": block for number, block in enumerate(self.visual.transformer.resblocks)}

    def _block_layers(self, block: nn.Module) -> tuple[nn.Module, nn.Module]:
        # Attention is one function, its projection included; `ls_1` passes on what it gives.
        return block.ln_1, block.ls_1

    def _features(self, x_BCHW: Tensor, kinds: Sequence[str]) -> dict[str, list[Tensor]]:
        visual = self.visual
        x_BTD, outputs = visual.transformer.forward_intermediates(
            visual._embeds(x_BCHW), indices=len(self.deep_blocks)
        )
        pooled_BD, _tokens = visual._pool(x_BTD)
        found = {}
        if visual.proj is None:
            found[PROJECTED] = [pooled_BD]
        else:
            found[POOLED] = [pooled_BD]
            if PROJECTED in kinds:
                found[PROJECTED] = [pooled_BD @ visual.proj]
        # Behind an attention pooling the final norm is one of pooled features.
        norm = visual.ln_post if visual.attn_pool is None else nn.Identity()
        found[DEEP] = [part for tokens_BTD in outputs for part in self._class_and_mean(norm(tokens_BTD))]
        return found

    @contextmanager
    def attention(self) -> Iterator[list[Tensor]]:
        found: list[Tensor] = []
        attentions = [block.attn for block in self.parts().values()]
        if strange := [one for one in attentions if not isinstance(one, nn.MultiheadAttention)]:
            raise InputError(f"the weights of open_clip's {type(strange[0]).__name__} are not to be had")
        try:
            for attention in attentions:
                attention.forward = _open_attention(attention, found)
            yield found
        finally:
            for attention in attentions:
                attention.__dict__.pop("forward", None)

    def blocks(self) -> tuple[dict[str, int], int]:
        blocks = len(self.visual.transformer.resblocks)

        def number(name: str) -> int:
            if match := re.match(r"transformer\.resblocks\.(\d+)\.", name):
                return int(match[1]) + 1
            return 0 if name.startswith(_STEM) else blocks if name.startswith("ln_post") else blocks + 1

        return {name: number(name) for name, _ in self.visual.named_parameters()}, blocks + 1

    def open_for_lora(self) -> None:
        for block in self.visual.modules():
            if isinstance(block, ResidualAttentionBlock) and block.attn.batch_first:
                block.attn = SplitAttention(block.attn)

    def close_after_lora(self) -> None:
        for block in list(self.visual.modules()):
            if isinstance(getattr(block, "attn", None), SplitAttention):
                block.attn = block.attn.original[0]


def _open_attention(attention: nn.MultiheadAttention, found: list[Tensor]):
    """The forward pass of `attention` on one input, written out, its weights noted."""

    def forward(query_BTD: Tensor, *_args, attn_mask: Tensor | None = None, **_more) -> tuple[Tensor, None]:
        images, tokens, width = query_BTD.shape
        heads = attention.num_heads
        qkv = F.linear(query_BTD, attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = qkv.reshape(images, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        products = q @ k.transpose(-2, -1) * (width // heads) ** -0.5
        weights = (products if attn_mask is None else products + attn_mask).softmax(dim=-1)
        found.append(weights)
        return attention.out_proj((weights @ v).transpose(1, 2).reshape(images, tokens, width)), None

    return forward


class SplitAttention(nn.Module):
    """The self-attention of `nn.MultiheadAttention` with its two products as linear layers of their own.

    `nn.MultiheadAttention` calls no layer: it hands its weights to one function. `peft` (0.21) then ignores
    an addition to `out_proj` without a word; targeted as a whole, it adds the product of the additions to
    the frozen weights before each forward pass and subtracts it afterwards, so that these drift by rounding
    as training goes on, and leaves dropout out. Here the additions are ordinary ones.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.qkv = _linear(attention.in_proj_weight, attention.in_proj_bias)
        self.proj = _linear(attention.out_proj.weight, attention.out_proj.bias)
        self.original = (attention,)  # in a tuple: not a submodule; it holds the same parameters

    def forward(self, x_BTD: Tensor, *_keys_and_values: Tensor, attn_mask=None, **_) -> tuple[Tensor, None]:
        """As open_clip's blocks call attention: query, key and value are one tensor (B, T, D)."""
        q_BHTS, k_BHTS, v_BHTS = self.qkv(x_BTD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x_BHTS = F.scaled_dot_product_attention(q_BHTS, k_BHTS, v_BHTS, attn_mask=attn_mask)
        return self.proj(x_BHTS.transpose(1, 2).flatten(2)), None


def _linear(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    """A linear layer that holds these very parameters."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight, layer.bias = weight, bias
    return layer


TOWER = OpenClipVit
