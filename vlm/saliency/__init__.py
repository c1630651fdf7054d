"""Where a predictor looks: one map per label, over the square that its encoder sees.

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
from vlm.saliency.legrad import LEGRAD, legrad
from vlm.saliency.relevance import RELEVANCE, attention_relevance
from vlm.saliency.shifts import over_shifts
from vlm.saliency.target import LabelLogits

EIGENCAM = "eigencam"
OF_ATTENTION = {RELEVANCE: attention_relevance, LEGRAD: legrad}
METHODS = (*CAMS, *OF_ATTENTION)
"""`gradcam` (Selvaraju et al., ICCV 2017), `layercam` (Jiang et al., IEEE TIP 2021), `eigencam` (Muhammad and
Yeasin, IJCNN 2020, which does not ask for the label), and of transformers attention-gradient `relevance`
(Chefer et al., ICCV 2021) and `legrad` (Bousselham et al., ICCV 2025)."""
MOST_SHIFTS = 16


def saliency_maps(
    predictor: Predictor,
    images_BHWC: np.ndarray,
    labels: Sequence[str],
    *,
    method: str = "layercam",
    layer: str = "",
    shifts: int = 1,
) -> np.ndarray:
    """float32 (B, C, h, w), not negative, not scaled: maps of different images and labels can be compared.

    Args:
        images_BHWC: uint8, as `Encoder.image_features` takes them.
        labels: of the predictor's.
        method: one of `METHODS`.
        layer: of `named_layers`; by default the last block's first norm, of heads that read deep features
            that of each block they may read, summed; of a convolutional network the last stage; of EigenCAM
            always the last. Those of attention are of several blocks together and take none.
        shifts: 1, or positions a side over which the image is moved within a cell of the map, as
            `vlm.saliency.shifts` does it; the map then has the square's own pixels.

    Raises:
        InputError: an encoder without weights, an unknown method, layer or label, a method of attention where
            there is none, and, as ZeroGradient, a map whose gradient is zero throughout.
    """
    encoder = predictor.encoder
    check_encoder(encoder)
    if method not in METHODS:
        raise InputError(f"--method must be one of {', '.join(METHODS)}, got {method!r}")
    if strange := [label for label in labels if label not in predictor.labels]:
        raise InputError(f"no label {strange[0]!r}; the predictor has {', '.join(predictor.labels)}")
    if not 1 <= shifts <= MOST_SHIFTS:
        raise InputError(f"--shifts must lie in 1..{MOST_SHIFTS}, got {shifts}")
    if method in OF_ATTENTION and layer:
        raise InputError(
            f"--layer: {method} is of several blocks together; leave it out, or take another --method"
        )
    columns = [predictor.labels.index(label) for label in labels]
    model = LabelLogits(predictor).to(encoder.device).eval()

    def maps_of(some_BHWC: np.ndarray) -> np.ndarray:
        x_BCHW = model.pixels(some_BHWC)
        if method in OF_ATTENTION:
            return OF_ATTENTION[method](model, x_BCHW, columns)
        layers = named_layers(model, layer)
        if method == EIGENCAM:  # it knows no head, and so not which blocks they read
            layers = layers[-1:]
        return cam(method, model, layers, x_BCHW, columns)

    return maps_of(images_BHWC) if shifts == 1 else over_shifts(maps_of, images_BHWC, shifts)


def check_encoder(encoder: Encoder) -> None:
    """InputError for an encoder in which there is nothing to look into."""
    if encoder.backbone is None:
        raise InputError(f"encoder {encoder.name} has no layers to look into; every pixel is its own feature")
    if encoder.image_views.count > 1:
        raise InputError("saliency is of one view of an image, and this predictor was trained on several")
