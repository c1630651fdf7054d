"""Vision transformers of timm: those whose blocks give tokens, some of them before the patches.

Shape legend: B images of a batch, C channels, H height, W width, D features, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vlm.feature_kinds import DEEP
from vlm.towers.base import CLASS, MAP, MAX, MEAN, TOKENS, Layout
from vlm.towers.timm_trunk import TimmTower, trunk_of
from vlm.towers.tokens import TokenTower

_POOLS = {"token": CLASS, "map": MAP, "max": MAX}


class TimmVit(TimmTower, TokenTower):
    @classmethod
    def fits(cls, visual: nn.Module) -> bool:
        trunk = trunk_of(visual)
        return hasattr(trunk, "blocks") and hasattr(trunk, "num_prefix_tokens")

    @property
    def layout(self) -> Layout:
        return Layout(TOKENS, prefix=self.trunk.num_prefix_tokens)

    @property
    def pool(self) -> str:
        return _POOLS.get(self.trunk.global_pool, MEAN)

    @property
    def pools_prefix(self) -> bool:
        return getattr(self.trunk, "pool_include_prefix", False)

    def parts(self) -> dict[str, nn.Module]:
        return {f"blocks.{number}": block for number, block in enumerate(self.trunk.blocks)}

    def _block_layers(self, block: nn.Module) -> tuple[nn.Module, nn.Module]:
        return block.norm1, block.attn.proj

    def _features(self, x_BCHW: Tensor, kinds: Sequence[str]) -> dict[str, list[Tensor]]:
        prefix = self.layout.prefix
        last, outputs = self.trunk.forward_intermediates(
            x_BCHW,
            indices=len(self.deep_blocks),
            norm=True,
            output_fmt="NLC",
            return_prefix_tokens=prefix > 0,
        )
        if prefix:
            outputs = [torch.cat([prefix_BTD, patches_BTD], dim=1) for patches_BTD, prefix_BTD in outputs]
        deep = [part for tokens_BTD in outputs for part in self._class_and_mean(tokens_BTD)]
        return self._pooled(last, kinds) | {DEEP: deep}

    @contextmanager
    def attention(self) -> Iterator[list[Tensor]]:
        found: list[Tensor] = []
        attentions = [block.attn for block in self.parts().values()]
        fused = [(one, one.fused_attn) for one in attentions if hasattr(one, "fused_attn")]
        handles = []
        try:
            for attention in attentions:
                attention.fused_attn = False
                handles.append(attention.attn_drop.register_forward_hook(lambda m, i, out: found.append(out)))
            yield found
        finally:
            for handle in handles:
                handle.remove()
            for attention, before in fused:
                attention.fused_attn = before


TOWER = TimmVit
