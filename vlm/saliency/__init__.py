"""Where a predictor looks: one map a label, over the square that its encoder sees.

Shape legend: B images, C labels, H height, W width, h and w cells of a map.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cohort.errors import InputError
from vlm.encoders import Encoder
from vlm.predictor import Predictor
from vlm.saliency.cams import CAMS, cam
from vlm.saliency.layers import named_layers
from vlm.saliency.relevance import attention_relevance
from vlm.saliency.target import LabelLogits

RELEVANCE = "relevance"
METHODS = (*CAMS, RELEVANCE)
"""`gradcam` (Selvaraju et al., ICCV 2017), `layercam` (Jiang et al., IEEE TIP 2021), `eigencam` (Muhammad and
Yeasin, IJCNN 2020, which does not ask for the label), and attention-gradient `relevance` (Chefer et al., ICCV
2021) of transformers."""


def saliency_maps(
    predictor: Predictor,
    images_BHWC: np.ndarray,
    labels: Sequence[str],
    *,
    method: str = "layercam",
    layer: str = "",
) -> np.ndarray:
    """float32 (B, C, h, w), not negative, not scaled: maps of different images and labels can be compared.

    Args:
        images_BHWC: uint8, as `Encoder.image_features` takes them.
        labels: of the predictor's.
        method: one of `METHODS`.
        layer: of `named_layers`; by default the last block's first norm, of heads that read deep features
            that of each block they may read, summed; of a convolutional network the last stage. Relevance
            is of all blocks together and takes none.

    Raises:
        InputError: an encoder without weights, an unknown method, layer or label, relevance of what has no
            attention, and, as ZeroGradient, a map whose gradient is zero throughout.
    """
    encoder = predictor.encoder
    check_encoder(encoder)
    if method not in METHODS:
        raise InputError(f"--method must be one of {', '.join(METHODS)}, got {method!r}")
    if strange := [label for label in labels if label not in predictor.labels]:
        raise InputError(f"no label {strange[0]!r}; the predictor has {', '.join(predictor.labels)}")
    columns = [predictor.labels.index(label) for label in labels]
    model = LabelLogits(predictor).to(encoder.device).eval()
    x_BCHW = model.pixels(images_BHWC)
    if method == RELEVANCE and layer:
        raise InputError(
            "--layer: relevance is of all blocks together; leave it out, or take another --method"
        )
    if method == RELEVANCE:
        return attention_relevance(model, x_BCHW, columns)
    return cam(method, model, named_layers(model, layer), x_BCHW, columns)


def check_encoder(encoder: Encoder) -> None:
    """InputError for an encoder in which there is nothing to look into."""
    if encoder.backbone is None:
        raise InputError(f"encoder {encoder.name} has no layers to look into; every pixel is its own feature")
    if encoder.views.count > 1:
        raise InputError("saliency is of one view of an image, and this predictor was trained on several")
