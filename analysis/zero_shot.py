"""Zero-shot: an image's features against the text features of the labels, without any training.

Shape legend: N images, D features, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlm.encoders import Encoder
from vlm.prompts import text_prototypes


def zero_shot_scores(
    encoder: Encoder, features_ND: np.ndarray, labels: Sequence[str], style: str, modality: str
) -> np.ndarray:
    """How well each image agrees with each label's prompts.

    name      raw image feature . text feature of the bare label (arXiv 2506.14136).
    ensemble  logit scale x cosine with the mean direction of several sentences (Radford et al. 2021).
    pair      logit scale x (cosine with the finding - cosine with its absence): the logit of the softmax over
              the two (Tiu et al. 2022).

    Args:
        encoder: with a text tower.
        features_ND: float32, the encoder's projected image features.
        labels: as in the cohort.
        style: one of `vlm.prompts.STYLES`.
        modality: of the images, as the prompts call it.

    Returns:
        float64 (N, C).

    Raises:
        InputError: the encoder has no text tower in the features' space, or the style or modality is unknown.
    """
    present_CD, absent_CD = text_prototypes(encoder, labels, style, modality)
    if style == "name":
        return features_ND.astype(np.float64) @ present_CD.T.astype(np.float64)
    unit_ND = features_ND / np.maximum(np.linalg.norm(features_ND, axis=1, keepdims=True), 1e-12)
    direction_CD = present_CD if absent_CD is None else present_CD - absent_CD
    return encoder.logit_scale * (unit_ND @ direction_CD.T).astype(np.float64)
