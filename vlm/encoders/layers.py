"""Several kinds of features in one forward pass of an image tower, side by side: see `vlm.feature_kinds`.

What of the deep layers is taken is that of DINOv2's linear protocol (Oquab et al., TMLR 2024): the class
token, through the tower's final norm as there, and beside it the mean patch token, of each of the last
blocks; of a convolutional network the mean over all positions of each stage.

Shape legend: B images of a batch, C channels, H height, W width, D features, T tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from vlm.feature_kinds import DEEP, POOLED, PROJECTED, SINGLE

ORDER = (POOLED, PROJECTED, DEEP)
"""In which kinds lie side by side: `deep` directly after what it can be joined with."""
BLOCKS = 4
"""Last blocks of a transformer that deep features are taken from, or all where it has fewer."""


class KindsTower(nn.Module, ABC):
    """A tower whose features are the kinds that are asked for, side by side in the order `ORDER`."""

    def __init__(self, visual: nn.Module, kinds: Sequence[str] = SINGLE) -> None:
        super().__init__()
        self.visual = visual
        self.kinds = tuple(kinds)

    @abstractmethod
    def blocks(self, x_BCHW: Tensor) -> dict[str, list[Tensor]]:
        """Kind -> its blocks, each (B, D): of the kinds that were asked for those that the tower has. What
        only another kind needs is left alone: fine-tuning moves nothing that its features do not show."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, D): the kinds that were asked for."""
        found = self.blocks(x_BCHW)
        return torch.cat(
            [block_BD for kind in ORDER if kind in self.kinds for block_BD in found.get(kind, [])], dim=1
        )


class TransformerKinds(KindsTower):
    """open_clip's own vision transformer."""

    def blocks(self, x_BCHW: Tensor) -> dict[str, list[Tensor]]:
        visual = self.visual
        last = min(BLOCKS, len(visual.transformer.resblocks))
        x_BTD, outputs = visual.transformer.forward_intermediates(visual._embeds(x_BCHW), indices=last)
        pooled_BD, _tokens = visual._pool(x_BTD)
        found = {}
        if visual.proj is None:
            found[PROJECTED] = [pooled_BD]
        else:
            found[POOLED] = [pooled_BD]
            if PROJECTED in self.kinds:
                found[PROJECTED] = [pooled_BD @ visual.proj]
        # Behind an attention pooling the final norm is one of pooled features.
        norm = visual.ln_post if visual.attn_pool is None else nn.Identity()
        found[DEEP] = [part for tokens_BTD in outputs for part in _class_and_mean(norm(tokens_BTD), prefix=1)]
        return found


class ResNetKinds(KindsTower):
    """open_clip's ResNet, whose attention pools and projects at once."""

    def blocks(self, x_BCHW: Tensor) -> dict[str, list[Tensor]]:
        visual, stages = self.visual, []
        for stage in (visual.stem, visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            x_BCHW = stage(x_BCHW)
            stages.append(x_BCHW.mean(dim=(2, 3)))
        return {DEEP: stages} | ({PROJECTED: [visual.attnpool(x_BCHW)]} if PROJECTED in self.kinds else {})


class TimmKinds(KindsTower):
    """A timm model, and open_clip's projection behind it where there is one."""

    def __init__(self, visual: nn.Module, kinds: Sequence[str] = SINGLE) -> None:
        super().__init__(visual, kinds)
        self.trunk = visual.trunk if isinstance(visual, TimmModel) else visual
        self.prefix = getattr(self.trunk, "num_prefix_tokens", None)

    def blocks(self, x_BCHW: Tensor) -> dict[str, list[Tensor]]:
        trunk, found = self.trunk, {}
        if self.prefix is None:
            last, outputs = trunk.forward_intermediates(x_BCHW)
            deep = [output_BCHW.mean(dim=(2, 3)) for output_BCHW in outputs]
        else:
            take = min(BLOCKS, len(trunk.blocks))
            last, outputs = trunk.forward_intermediates(
                x_BCHW, indices=take, norm=True, output_fmt="NLC", return_prefix_tokens=self.prefix > 0
            )
            if self.prefix:
                outputs = [torch.cat([prefix_BTD, patches_BTD], dim=1) for patches_BTD, prefix_BTD in outputs]
            deep = [part for tokens in outputs for part in _class_and_mean(tokens, prefix=self.prefix)]
        behind = isinstance(self.visual, TimmModel)
        if not behind or self._projects_after_pooling():
            found[POOLED] = [trunk.forward_head(last, pre_logits=True)]
        if behind and PROJECTED in self.kinds:
            found[PROJECTED] = [self.visual.head(trunk.forward_head(last))]
        return found | {DEEP: deep}

    def _projects_after_pooling(self) -> bool:
        """Whether the projection is open_clip's, after the trunk, or the trunk's own classifier."""
        visual = self.visual
        return not hasattr(visual.head, "pool") and (len(visual.head) > 0 or visual.trunk.num_classes > 0)


def _class_and_mean(tokens_BTD: Tensor, prefix: int) -> list[Tensor]:
    """The first token, the class token where there is one, and the mean of those after the prefix; without a
    prefix the mean alone."""
    mean_BD = tokens_BTD[:, prefix:].mean(dim=1)
    return [tokens_BTD[:, 0], mean_BD] if prefix else [mean_BD]


def kinds_tower(visual: nn.Module, kinds: Sequence[str] = SINGLE) -> KindsTower | None:
    """The tower of these kinds; None where nothing but the tower's own output is to be had."""
    if isinstance(visual, VisionTransformer):
        return TransformerKinds(visual, kinds)
    if isinstance(visual, ModifiedResNet):
        return ResNetKinds(visual, kinds)
    trunk = visual.trunk if isinstance(visual, TimmModel) else visual
    if hasattr(trunk, "forward_intermediates") and hasattr(trunk, "forward_head"):
        return TimmKinds(visual, kinds)
    return None


@torch.inference_mode()
def block_widths(tower: KindsTower, size: int) -> dict[str, tuple[int, ...]]:
    """Kind -> the widths of its blocks, of all kinds that the tower has, in the order in which they lie side
    by side; `size` is the side of its images in pixels."""
    parameter = next(tower.parameters())
    found = tower.blocks(torch.zeros(1, 3, size, size, device=parameter.device, dtype=parameter.dtype))
    return {kind: tuple(block_BD.shape[1] for block_BD in found[kind]) for kind in ORDER if kind in found}
