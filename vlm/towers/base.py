"""What deep features, saliency and fine-tuning ask of an image model, whichever library built it.

Shape legend: B images of a batch, C channels, H height, W width, D features, T tokens, h and w cells of a
map.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cohort.errors import InputError
from vlm.feature_kinds import DEEP, POOLED, PROJECTED, SINGLE

ORDER = (POOLED, PROJECTED, DEEP)
"""In which kinds of features lie side by side: `deep` directly after what it can be joined with."""
TOKENS, CHANNELS_FIRST, CHANNELS_LAST = "tokens", "channels first", "channels last"
CLASS, MEAN, MAX, MAP, ATTENTION = "class", "mean", "max", "map", "attention"
"""How a tower pools: its class token, the mean or the largest value over positions, timm's attention of one
learnt query, CLIP's attention pooling."""
LORA_KINDS = {
    "attention": ("attn", "attention", "self_attn"),
    "mlp": ("mlp",),
    "convolutions": (),
}
"""Kind of layer that low-rank additions can be asked for -> names of the modules that hold such layers;
convolutions are known by their class."""


@dataclass(frozen=True)
class Layout:
    """How the output of a layer lies over the image."""

    axes: str
    """TOKENS (B, T, D), CHANNELS_FIRST (B, D, h, w) or CHANNELS_LAST (B, h, w, D)."""
    prefix: int = 0
    """Tokens before the patches: class token and registers."""

    def spatial(self, output: Tensor, where: str, channels: int | None = None) -> Tensor:
        """(B, D, h, w); InputError, with `where`, for an output that does not lie so.

        Args:
            channels: D, where it is known.
        """
        shape = tuple(getattr(output, "shape", ()))
        axis = 1 if self.axes == CHANNELS_FIRST else -1
        if len(shape) != (3 if self.axes == TOKENS else 4) or channels not in (None, shape[axis]):
            said = " x ".join(map(str, shape)) or type(output).__name__
            wanted = f" of {channels}" if channels else ""
            raise InputError(f"{where}: an output of {said} is not {self.axes}{wanted}, and has no map")
        if self.axes == CHANNELS_LAST:
            return output.permute(0, 3, 1, 2)
        if self.axes == TOKENS:
            return output[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid(shape[1], where))
        return output

    def grid(self, tokens: int, where: str) -> tuple[int, int]:
        """(h, w) of the patches among so many tokens; InputError, with `where`, where they are no square."""
        patches = tokens - self.prefix
        side = round(max(patches, 0) ** 0.5)
        if side * side != patches:
            raise InputError(f"{where}: {patches} patches are no square")
        return side, side


@dataclass(frozen=True, eq=False)
class Layer:
    """One place in a tower that a map can be taken at."""

    name: str
    module: nn.Module
    layout: Layout
    channels: int | None = None
    """Of its output, where the library says it."""

    def spatial(self, output: Tensor) -> Tensor:
        """(B, D, h, w) of what the module gives; InputError where it does not lie over the image."""
        return self.layout.spatial(output, f"layer {self.name}", self.channels)


class Tower(ABC):
    """An image model of one class of a library. It holds the model and no state of its own, so that a copy of
    both that is made in one call stays a pair."""

    layout: Layout
    """Of what `parts` give."""
    pool: str
    """CLASS, MEAN, MAX, MAP or ATTENTION."""
    projects = True
    """Whether the model's own output is `projected` features."""

    def __init__(self, visual: nn.Module) -> None:
        self.visual = visual

    @classmethod
    @abstractmethod
    def fits(cls, visual: nn.Module) -> bool:
        """Whether this is the class of a model's tower."""

    # ---- features ----

    def features(self, x_BCHW: Tensor, kinds: Sequence[str] = SINGLE) -> dict[str, list[Tensor]]:
        """Kind -> its blocks, each (B, D), of those of `kinds` that the tower has, in the order `ORDER`, from
        one pass. What only another kind needs is left alone: fine-tuning moves nothing that its features do
        not show."""
        if tuple(kinds) == (PROJECTED,) and self.projects:
            output = self.visual(x_BCHW)
            # CoCa's image tower returns (pooled, tokens).
            return {PROJECTED: [output[0] if isinstance(output, tuple) else output]}
        found = self._features(x_BCHW, kinds)
        return {kind: found[kind] for kind in ORDER if kind in kinds and kind in found}

    @abstractmethod
    def _features(self, x_BCHW: Tensor, kinds: Sequence[str]) -> dict[str, list[Tensor]]:
        """As `features`, in any order and with any others that cost nothing."""

    @torch.inference_mode()
    def widths(self, size: int) -> dict[str, tuple[int, ...]]:
        """Kind -> the widths of its blocks, of all kinds that the tower has; `size` is the side of its images
        in pixels."""
        found = self.features(self._blank(size))
        return {kind: tuple(block_BD.shape[1] for block_BD in blocks) for kind, blocks in found.items()}

    @torch.inference_mode()
    def resizable(self, size: int) -> bool:
        """Whether it takes images of this side in pixels. It is tried: it depends on embeddings of positions,
        windows, strides and settings of each class."""
        try:
            self.visual(self._blank(size))
        except (RuntimeError, ValueError, AssertionError):
            return False
        return True

    def _blank(self, size: int) -> Tensor:
        parameter = next(self.visual.parameters())
        return torch.zeros(1, 3, size, size, device=parameter.device, dtype=parameter.dtype)

    # ---- looking inside ----

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """Name -> block of a transformer or stage of another network, in the order of the pass; InputError
        where none are known."""

    def layers(self) -> dict[str, Layer]:
        """Name -> layer that a map can be taken at, the last the default."""
        return {name: Layer(name, part, self.layout) for name, part in self.parts().items()}

    def deep_layers(self) -> list[str]:
        """Names of the layers that deep features come from."""
        return list(self.layers())

    # ---- fine-tuning ----

    @abstractmethod
    def blocks(self) -> tuple[dict[str, int], int]:
        """Parameter name in the model -> number of its block, and the number of the projection: 0 the stem
        (patches, positions, first norm), 1..n the blocks, the last with the final norm, n + 1 the projection.
        That is open_clip's own numbering where it locks a tower, and timm's where it decays learning rates.
        InputError where the library does not say."""

    def lora_targets(self) -> dict[str, frozenset[str]]:
        """Name in the model -> its kinds, out of `LORA_KINDS`, of each linear layer and ungrouped convolution
        in the blocks: those that a low-rank addition fits."""
        numbers, top = self.blocks()
        targets = {}
        for name, module in self.visual.named_modules():
            if not isinstance(module, nn.Linear | nn.Conv2d) or getattr(module, "groups", 1) != 1:
                continue
            if 0 < numbers.get(f"{name}.weight", 0) < top:
                within = set(name.split("."))
                kinds = {kind for kind, holders in LORA_KINDS.items() if within & set(holders)}
                if isinstance(module, nn.Conv2d):
                    kinds.add("convolutions")
                targets[name] = frozenset(kinds)
        return targets

    def open_for_lora(self) -> None:  # noqa: B027 (most call layers as they are)
        """Make every product of the blocks a call of a layer, in place; the parameters stay the same."""

    def close_after_lora(self) -> None:  # noqa: B027
        """Undo `open_for_lora`: every layer is again of the class that the library builds."""
