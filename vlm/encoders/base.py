"""What every encoder is: a frozen image tower with its transform, and a text tower where it has one.

Shape legend: B images of a batch, H height, W width, C channels (1 gray or 3 RGB), D features, P prompts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cohort.errors import InputError
from cohort.geometry import Geometry
from vlm.encoder_names import shown
from vlm.feature_kinds import FeatureKind, side_by_side
from vlm.image_views import ImageViews
from vlm.towers.base import Tower


class ImageTower(nn.Module):
    """From 8-bit pixels to features: normalisation and image tower on one device."""

    def __init__(
        self,
        visual: nn.Module,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        *,
        inner: Tower | None = None,
        kinds: Sequence[str] = (),
    ) -> None:
        """
        Args:
            visual: the image model as its library builds it.
            mean: as `Encoder.mean`.
            std: as `Encoder.std`.
            inner: of `visual`, which gives the features of `kinds`; without it they are its own output.
            kinds: of features, as `vlm.towers.base.Tower.features` has them.
        """
        super().__init__()
        self.visual, self.inner, self.kinds = visual, inner, tuple(kinds)
        self.register_buffer("mean_C11", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std_C11", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images_BHWC: torch.Tensor) -> torch.Tensor:
        """uint8 (B, H, W, 1 or 3) -> float32 (B, D). Gray is repeated into the three channels."""
        return self.of_normalised(self.normalised(images_BHWC))

    def normalised(self, images_BHWC: torch.Tensor) -> torch.Tensor:
        """float32 (B, 3, H, W) on the tower's device."""
        x_BCHW = images_BHWC.to(self.mean_C11.device, non_blocking=True).permute(0, 3, 1, 2)
        # The operations of torchvision's ToTensor and Normalize, in their order.
        return ((x_BCHW.float() / 255 - self.mean_C11) / self.std_C11).contiguous()

    def of_normalised(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """float32 (B, D)."""
        if self.inner is None:
            return self.visual(x_BCHW).float()
        found = self.inner.features(x_BCHW, self.kinds)
        return torch.cat([block_BD for blocks in found.values() for block_BD in blocks], dim=1).float()


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoder:
    """A frozen image tower and its transform. This class alone is one without weights and without text;
    kinds that have them say so in their own."""

    name: str
    """As given, aliases included: `load_encoder(name)` gives this encoder again."""

    blocks: Mapping[str, tuple[int, ...]]
    """Kind of features -> the widths of its blocks, in the order in which they lie side by side in a row; see
    `vlm.feature_kinds`. Projected features are not normalised."""

    geometry: Geometry
    """How an image of any size becomes the square that the tower takes."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Per channel, of pixel values in 0..1: x becomes (x - mean) / std."""

    fingerprint: str
    """sha256 over weights (name, dtype, shape, bytes), architecture, transform and kind of features."""

    tower: ImageTower
    """Pixels to features, parameters frozen."""

    image_views: ImageViews = field(default_factory=ImageViews)
    """Views of an image; a row holds the features of one view after the other."""

    @property
    def kinds(self) -> dict[str, FeatureKind]:
        """The kinds of features in a row of `image_features`, of its first view."""
        return side_by_side(self.blocks)

    @property
    def features(self) -> tuple[str, ...]:
        """The single kinds among them."""
        return tuple(self.blocks)

    @property
    def width(self) -> int:
        """Number of features in a row, of all kinds and views."""
        return sum(map(sum, self.blocks.values())) * self.image_views.count

    @property
    def device(self) -> torch.device:
        return self.tower.mean_C11.device

    @property
    def backbone(self) -> nn.Module | None:
        """The image model as its library builds it, whose parameters `tower` reads; None without weights."""
        return None

    @property
    def text_refusal(self) -> str:
        """Why there are no text features in the space of the image features, in one line; empty where there
        are. Reports repeat it, so that it says nothing of where the encoder lies."""
        return f"encoder {shown(self.name)} has no text tower; zero-shot needs a CLIP model"

    @property
    def logit_scale(self) -> float | None:
        """The learnt factor between cosines and contrastive logits: exp(t) in Radford et al., "Learning
        Transferable Visual Models From Natural Language Supervision", 2021. None without a text tower."""
        return None

    def to(self, device: str | torch.device) -> Encoder:
        """Move the towers to `device`, in place; returns the encoder."""
        self.tower.to(device)
        return self

    @torch.inference_mode()
    def image_features(self, images_BHWC: torch.Tensor | np.ndarray) -> torch.Tensor:
        """float32 (B, width) on the encoder's device, not normalised.

        `images_BHWC` is uint8 (B, size, size, 1 or 3), as `cohort.geometry.apply_geometry` gives images for
        `geometry`; anything else is a ValueError.
        """
        if isinstance(images_BHWC, np.ndarray):
            images_BHWC = torch.tensor(images_BHWC)  # a copy: memory-mapped images are read-only
        size, shape = self.geometry.size, tuple(images_BHWC.shape)
        if images_BHWC.dtype != torch.uint8 or shape[1:] not in ((size, size, 1), (size, size, 3)):
            raise ValueError(
                f"images_BHWC must be uint8 (images, {size}, {size}, 1 or 3), not {images_BHWC.dtype} {shape}"
            )
        return torch.cat([self.tower(view_BHWC) for view_BHWC in self.image_views.of(images_BHWC)], dim=1)

    def seen_in(self, views: ImageViews) -> Encoder:
        """The same encoder on these views; InputError where its tower takes one size and another is asked
        for."""
        if views == self.image_views:
            return self
        inner = self.tower.inner
        if views.resolution is not None and not (inner and inner.resizable(views.resolution)):
            raise InputError(
                f"image_views.resolution: encoder {self.name} takes {self.geometry.size} x "
                f"{self.geometry.size} pixels only; leave it out, or choose a convolutional encoder"
            )
        described = json.dumps([self.fingerprint, views.to_dict()], sort_keys=True)
        return replace(self, image_views=views, fingerprint=hashlib.sha256(described.encode()).hexdigest())

    def text_features(self, prompts: Sequence[str]) -> torch.Tensor:
        """float32 (P, width) on the encoder's device, not normalised; InputError where `text_refusal`
        says why there are none."""
        raise InputError(self.text_refusal)

    def with_backbone(self, backbone: nn.Module, tower: ImageTower) -> Encoder:
        """An encoder of the same architecture and transform with other weights of its image side, as
        fine-tuning leaves them; the text tower is shared.

        `tower` must read the parameters of `backbone`. The result has a fingerprint of its own; its name
        says what it came from and loads nothing. TypeError without weights.
        """
        raise TypeError(f"encoder {self.name} has no weights")

    def save(self, folder: Path) -> None:
        """Write a folder that `load_encoder("local-dir:FOLDER")` loads, as safetensors.

        InputError without weights.
        """
        raise InputError(f"encoder {self.name} has no weights to save; its name is all it needs")


def fingerprint(
    weights: Mapping[str, torch.Tensor],
    architecture: Mapping[str, Any],
    geometry: Geometry,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    blocks: Mapping[str, tuple[int, ...]],
) -> str:
    """`Encoder.fingerprint`; `architecture` is plain JSON values."""
    transform = {"geometry": geometry.to_dict(), "mean": mean, "std": std}
    header = {"architecture": architecture, "transform": transform, "features": list(blocks.items())}
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
