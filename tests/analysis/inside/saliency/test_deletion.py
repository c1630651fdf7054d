"""Deletion and insertion of a model that reads one corner."""

import numpy as np
import pytest

from analysis.inside.saliency.deletion import STEPS, area, curves
from scoring.decision_rule import DecisionRule
from scoring.predictions import Origin
from vlm.encoders import load_encoder
from vlm.linear_head import LinearHead
from vlm.predictor import Predictor


@pytest.fixture
def corner():
    """Its logit is how bright the upper left corner is."""
    encoder = load_encoder("pixels:8x8x1")
    weight_DC = np.zeros((64, 1))
    weight_DC[0] = 40.0
    head = LinearHead.plain(weight_DC, np.array([-20.0]))
    return Predictor(
        name="corner",
        labels=("A",),
        encoder=encoder,
        heads=(head,),
        rule=DecisionRule.fixed(1),
        origin=Origin(note=""),
    )


def test_what_decides_is_gone_first_or_last(corner):
    size = corner.encoder.geometry.size
    image_HWC = np.zeros((size, size, 1), np.uint8)
    image_HWC[: size // 8, : size // 8] = 255
    right, wrong = np.zeros((8, 8)), np.ones((8, 8))
    right[0, 0] = 1
    wrong[0, 0] = 0
    deleted, inserted = curves(corner, np.stack([image_HWC] * 2), ["A", "A"], [right, wrong])
    assert deleted.shape == inserted.shape == (2, STEPS + 1)
    whole = corner.probabilities(corner.encoder.image_features(image_HWC[None]).numpy())[0, 0]
    np.testing.assert_allclose(deleted[:, 0], whole)  # nothing is blurred yet
    np.testing.assert_allclose(inserted[:, -1], whole)  # everything is shown
    np.testing.assert_allclose(deleted[:, -1], inserted[:, 0])
    removed, shown = area(deleted), area(inserted)
    assert removed[0] < removed[1] and shown[0] > shown[1]


def test_the_area_is_that_of_trapezia():
    assert area(np.array([[1.0, 0.5, 0.0], [1, 1, 1]])).tolist() == [0.5, 1.0]
