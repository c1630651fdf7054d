"""Deletion and insertion (Petsiuk, Das, Saenko, BMVC 2018): how a label's probability falls as what a map
points at is blurred away, and how it rises as that alone is shown.

A supplement: it asks the model about itself and no person, and blurred images are none that it was trained
on.

Shape legend: N images, S steps, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from vlm.predictor import Predictor

STEPS = 8
"""Equal shares of the pixels."""
BLUR = 1 / 12
"""Standard deviation of what replaces a pixel, in sides of the image."""


def curves(
    predictor: Predictor, images_NHWC: np.ndarray, labels: Sequence[str], maps: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """float64 (N, S + 1), (N, S + 1): the label's probability with the first 0, 1/S, ... of the pixels, those
    where its map is largest first, blurred; and with all others blurred.

    Args:
        images_NHWC: uint8, as `Encoder.image_features` takes them.
        labels: one an image.
        maps: (h, w) each, over the square.
    """
    deleted, inserted = [], []
    for image_HWC, label, map_hw in zip(images_NHWC, labels, maps, strict=True):
        height, width = image_HWC.shape[:2]
        blurred_HWC = gaussian_filter(image_HWC.astype(np.float32), (BLUR * height, BLUR * width, 0))
        blurred_HWC = np.rint(blurred_HWC).astype(np.uint8)
        resized = Image.fromarray(map_hw.astype(np.float32)).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        rank_HW = np.empty(height * width, dtype=int)
        rank_HW[np.argsort(-np.asarray(resized), axis=None, kind="stable")] = np.arange(height * width)
        first = np.linspace(0, height * width, STEPS + 1)[:, None, None, None]
        chosen_SHW1 = rank_HW.reshape(1, height, width, 1) < first
        both = np.concatenate(
            [
                np.where(chosen_SHW1, blurred_HWC, image_HWC),
                np.where(chosen_SHW1, image_HWC, blurred_HWC),
            ]
        )
        features = predictor.encoder.image_features(both).cpu().numpy()
        probability = predictor.probabilities(features)[:, predictor.labels.index(label)]
        deleted.append(probability[: STEPS + 1])
        inserted.append(probability[STEPS + 1 :])
    return np.stack(deleted), np.stack(inserted)


def area(curve_NS: np.ndarray) -> np.ndarray:
    """float64 (N,) in [0, 1]: under each curve, by trapezia."""
    return np.trapezoid(curve_NS, dx=1 / (curve_NS.shape[1] - 1), axis=1)
