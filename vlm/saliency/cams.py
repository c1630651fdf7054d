"""Class activation maps by pytorch-grad-cam, which computes them; said here are target and layer, and that a
map without a gradient is none. The library scales each image's map to 0..1, which turns nothing into a
picture: here maps stay as they are.

Shape legend: B images, C labels, D channels, h and w cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pytorch_grad_cam import EigenCAM, GradCAM, LayerCAM
from torch import Tensor
from torch.nn.functional import interpolate

from cohort.errors import InputError
from vlm.saliency.layers import Layer
from vlm.saliency.target import LabelLogits


class ZeroGradient(InputError):
    """A label's score does not depend on what a map would be made of."""


CAMS = {"gradcam": GradCAM, "layercam": LayerCAM, "eigencam": EigenCAM}
BATCH = 32


def cam(
    method: str, model: LabelLogits, layers: Sequence[Layer], x_BCHW: Tensor, columns: Sequence[int]
) -> np.ndarray:
    """float32 (B, C, h, w), not negative; of several layers the sum of their maps on the finest grid.

    Args:
        columns: of the model's scores, one a label.

    Raises:
        ZeroGradient: the label's gradient at a layer is zero throughout, as behind the last attention of a
            tower that pools its class token.
    """
    parts = []
    for start in range(0, len(x_BCHW), BATCH):
        batch = x_BCHW[start : start + BATCH]
        parts.append(
            np.stack([_of_label(method, model, layers, batch, column) for column in columns], axis=1)
        )
    return np.concatenate(parts)


def _of_label(
    method: str, model: LabelLogits, layers: Sequence[Layer], x_BCHW: Tensor, column: int
) -> np.ndarray:
    """(B, h, w), of all layers from one pass."""
    library = CAMS[method](model, [layer.module for layer in layers], reshape_transform=layers[0].spatial)
    hooks = library.activations_and_grads
    try:
        with torch.enable_grad():
            # The tower is frozen: without this no gradient reaches a layer.
            scores = hooks(x_BCHW.detach().requires_grad_(True))
            scores[:, column].sum().backward()
        activations = [one.float().numpy() for one in hooks.activations]
        gradients = [one.float().numpy() for one in hooks.gradients]
        if library.uses_gradients and (
            len(gradients) < len(layers) or not all(one.any() for one in gradients)
        ):
            names = ", ".join(layer.name for layer in layers)
            raise ZeroGradient(
                f"layer {names}: the gradient of {model.labels[column]} is zero throughout, so that a map "
                "would be nothing drawn large; behind the last attention only the class token counts: take a "
                "norm1"
            )
        gradients = gradients or [None] * len(layers)
        maps = [
            np.maximum(library.get_cam_image(x_BCHW, layer.module, None, one, gradient, False), 0)
            for layer, one, gradient in zip(layers, activations, gradients, strict=True)
        ]
    finally:
        hooks.release()
    return _summed(maps).astype(np.float32)


def _summed(maps: Sequence[np.ndarray]) -> np.ndarray:
    size = max(one.shape[1:] for one in maps)
    resized = [
        one
        if one.shape[1:] == size
        else interpolate(torch.from_numpy(one)[:, None], size, mode="bilinear")[:, 0].numpy()
        for one in maps
    ]
    return np.sum(resized, axis=0)
