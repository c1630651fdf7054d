"""What all vision transformers have in common, whose blocks give one row of tokens an image.

What of the deep blocks is taken is that of DINOv2's linear protocol (Oquab et al., TMLR 2024): the class
token, through the tower's final norm as there, and beside it the mean patch token, of each of the last
blocks.

Shape legend: B images of a batch, E heads, T tokens, D features.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlm.feature_kinds import DEEP
from vlm.towers.base import CLASS, Layer, Tower

DEEP_BLOCKS = 4
"""Last blocks that deep features are taken from, or all where there are fewer."""


@dataclass(frozen=True)
class Read:
    """The tokens after one transformer block whose mean is a block of features."""

    block: int
    """Its number, from 0."""
    first: int
    stop: int | None = None

    def weights(self, like_BT: Tensor) -> Tensor:
        """(T,), summing to 1."""
        weights_T = torch.zeros_like(like_BT[0])
        weights_T[self.first : self.stop] = 1.0
        return weights_T / weights_T.sum()


class TokenTower(Tower):
    """A vision transformer, in whose blocks every token attends to every other; `layout` has tokens."""

    @abstractmethod
    def attention(self) -> AbstractContextManager[list[Tensor]]:
        """The attention weights (B, E, T, T) of each block, of each pass while this lasts, in their order and
        as parts of the graph. Fused attention never has them in memory, so that the blocks compute them in
        the open."""

    @abstractmethod
    def _block_layers(self, block: nn.Module) -> tuple[nn.Module, nn.Module]:
        """The first norm, and the module that passes on what attention gives, its projection included."""

    @property
    def pools_prefix(self) -> bool:
        """Whether pooling other than by the class token counts the tokens before the patches as well."""
        return False

    @property
    def deep_blocks(self) -> range:
        """Numbers, from 0, of the blocks that deep features are taken from."""
        blocks = len(self.parts())
        return range(max(0, blocks - DEEP_BLOCKS), blocks)

    def layers(self) -> dict[str, Layer]:
        """Of each block the output of its attention and its first norm."""
        layers = {}
        for name, block in self.parts().items():
            norm, attention = self._block_layers(block)
            for layer in (
                Layer(f"{name}.attn", attention, self.layout),
                Layer(f"{name}.norm1", norm, self.layout),
            ):
                layers[layer.name] = layer
        return layers

    def deep_layers(self) -> list[str]:
        return [f"blocks.{number}.norm1" for number in self.deep_blocks]

    def reads(self, kind: str) -> list[Read]:
        """Of each block of a kind of features, in their order, the tokens that it is made of."""
        prefix = self.layout.prefix
        if kind == DEEP:
            found = []
            for number in self.deep_blocks:  # in the order of `_class_and_mean`
                found += [Read(number, 0, 1)] if prefix else []
                found.append(Read(number, prefix))
            return found
        last = len(self.parts()) - 1
        if self.pool == CLASS:
            return [Read(last, 0, 1)]
        return [Read(last, 0 if self.pools_prefix else prefix)]

    def _class_and_mean(self, tokens_BTD: Tensor) -> list[Tensor]:
        """The first token, the class token where there is one, and the mean of those after the prefix;
        without a prefix the mean alone."""
        mean_BD = tokens_BTD[:, self.layout.prefix :].mean(dim=1)
        return [tokens_BTD[:, 0], mean_BD] if self.layout.prefix else [mean_BD]
