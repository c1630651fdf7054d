"""Class activation maps by pytorch-grad-cam, which computes them; said here are target and layer, and that a
map without a gradient is none.

Of the library its maps alone are taken. Its own pass over the model runs backward through the whole tower
anew for each label, and scales each image's map to 0..1, which turns nothing into a picture: here one
forward pass serves all labels, gradients are asked for down to the layer only, and maps stay as they are.

Shape legend: B images, C labels, D channels, h and w cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from pytorch_grad_cam import EigenCAM, GradCAM, LayerCAM
from torch import Tensor
from torch.nn.functional import interpolate

from vlm.saliency.target import BATCH, LabelLogits, ZeroGradient
from vlm.towers.base import Layer

CAMS = {"gradcam": GradCAM, "layercam": LayerCAM, "eigencam": EigenCAM}


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
        maps, dead_C = _of_batch(method, model, layers, x_BCHW[start : start + BATCH], columns)
        if dead_C.any():
            names = ", ".join(layer.name for layer in layers)
            raise ZeroGradient(
                f"layer {names}: the gradient of {model.labels[columns[int(dead_C.argmax())]]} is zero "
                "throughout, so that a map would be nothing drawn large; behind the last attention only the "
                "class token counts: take a norm1"
            )
        parts.append(_summed(maps))
    return np.concatenate(parts)


def cam_by_layer(
    method: str, model: LabelLogits, layers: Sequence[Layer], x_BCHW: Tensor, columns: Sequence[int]
) -> list[np.ndarray]:
    """Of each layer float32 (B, C, h, w), not negative, from one pass; all zero of a label whose gradient
    there is zero throughout. Arguments as of `cam`."""
    parts = [
        _of_batch(method, model, layers, x_BCHW[start : start + BATCH], columns)[0]
        for start in range(0, len(x_BCHW), BATCH)
    ]
    return [np.concatenate(own) for own in zip(*parts, strict=True)]


def _of_batch(
    method: str, model: LabelLogits, layers: Sequence[Layer], x_BCHW: Tensor, columns: Sequence[int]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Each layer's maps (B, C, h, w), and of each label, bool (C,), whether a layer's gradient is zero."""
    library = CAMS[method](model, [])  # without hooks of its own
    with torch.enable_grad(), _outputs(layers) as outputs:
        # The tower is frozen: without this no gradient reaches a layer.
        scores = model(x_BCHW.detach().requires_grad_(True))
    activations = [_array(layer, output) for layer, output in zip(layers, outputs, strict=True)]
    maps: list[list[np.ndarray]] = [[] for _ in layers]
    dead_C = np.zeros(len(columns), dtype=bool)
    for c, column in enumerate(columns):
        gradients: Sequence[Tensor | None] = [None] * len(layers)
        if library.uses_gradients:
            gradients = torch.autograd.grad(
                scores[:, column].sum(), outputs, retain_graph=True, allow_unused=True
            )
        for own, layer, activation, gradient in zip(maps, layers, activations, gradients, strict=True):
            array = None if gradient is None else _array(layer, gradient)
            if library.uses_gradients and (array is None or not array.any()):
                dead_C[c] = True
                own.append(np.zeros((len(activation), *activation.shape[2:]), np.float32))
                continue
            map_Bhw = library.get_cam_image(x_BCHW, layer.module, None, activation, array, False)
            own.append(np.maximum(map_Bhw, 0).astype(np.float32))
    return [np.stack(own, axis=1) for own in maps], dead_C


@contextmanager
def _outputs(layers: Sequence[Layer]) -> Iterator[list[Tensor]]:
    """What each layer gives in a forward pass, in the order of the layers, as parts of the graph."""
    found: list[Tensor | None] = [None] * len(layers)

    def note(place: int):
        def hook(_module, _inputs, output: Tensor) -> None:
            found[place] = output

        return hook

    handles = [layer.module.register_forward_hook(note(place)) for place, layer in enumerate(layers)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _array(layer: Layer, output: Tensor) -> np.ndarray:
    """float32 (B, D, h, w); numpy has no bfloat16."""
    return layer.spatial(output.detach()).float().cpu().numpy()


def _summed(maps: Sequence[np.ndarray]) -> np.ndarray:
    """(B, C, h, w), on the finest grid."""
    size = max(one.shape[2:] for one in maps)
    resized = [
        one if one.shape[2:] == size else interpolate(torch.from_numpy(one), size, mode="bilinear").numpy()
        for one in maps
    ]
    return np.sum(resized, axis=0)
