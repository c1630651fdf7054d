"""Logistic regression on raw pixels: colour, and the size that is chosen with its strength."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from cohort.geometry import apply_geometry
from tests.trainables.single_split import probe_data
from trainables.baselines.base import BaselineInputs
from trainables.baselines.logistic import STRENGTHS
from trainables.baselines.pixels import fit
from vlm.encoders import load_encoder


def painted(targets_N, rng):
    """uint8 (N, 48, 48, 3): noise whose hue leans towards red where positive, by shifts that gray cancels."""
    red = 20 * (2 * targets_N[:, None, None] - 1) + rng.normal(0, 20, (len(targets_N), 48, 48))
    level = rng.normal(120, 10, red.shape)
    rgb = np.stack([level + red, level - red * 0.299 / 0.587, level], axis=-1)
    return rgb.clip(0, 255).astype(np.uint8)


def pixels_of(images_NHWC, targets_N, channels):
    """The baseline on 60 training and 60 validation images, and the features of every size."""

    def features(encoder, precision):
        squares = [apply_geometry(image, encoder.geometry) for image in images_NHWC]
        return encoder.image_features(np.stack(squares).reshape(len(squares), 32, 32, -1)).numpy()

    sides = np.split(targets_N[:, None].astype(float), 2)
    data = probe_data(
        np.zeros((60, 1)),
        sides[0],
        np.zeros((60, 1)),
        sides[1],
        val_patients_N=np.arange(60),
        val_folds_N=np.arange(60) % 5,
        labels=("melanoma",),
    )
    (baseline,) = fit(
        BaselineInputs(
            cohort=SimpleNamespace(channels=channels),
            data=data,
            encoder=None,
            features=features,
            objective="macro_ap",
        )
    )
    return baseline.candidate(data).predictor, features


def test_raw_pixels_see_the_hue_that_gray_does_not_show():
    rng = np.random.default_rng(0)
    targets_N = rng.permutation(np.arange(120) % 2)
    images_NHWC = painted(targets_N, rng)
    seen, _ = pixels_of(images_NHWC, targets_N, channels=3)
    blind, _ = pixels_of(images_NHWC, targets_N, channels=1)
    assert seen.origin.objective > 0.95 > 0.75 > blind.origin.objective
    assert seen.encoder.geometry.channels == 3 and blind.encoder.geometry.channels == 1


def test_the_size_of_raw_pixels_is_chosen_with_c_on_validation_and_said():
    """The label is a pattern of single pixels, which the means of squares do not show; then the two halves of
    an image in noise, which they show best. Size and C are those that scikit-learn alone would choose."""
    rng = np.random.default_rng(0)
    targets_N = rng.permutation(np.arange(120) % 2)
    checks = np.indices((32, 32)).sum(0) % 2 * 2 - 1
    halves = np.indices((32, 32))[0] // 16 * 2 - 1
    for pattern, noise, small in ((checks * 8, 20, False), (halves * 4, 60, True)):
        noisy = 120 + targets_N[:, None, None] * pattern + rng.normal(0, noise, (120, 32, 32))
        found, features = pixels_of(noisy.clip(0, 255).astype(np.uint8), targets_N, channels=1)
        values = {}
        for name in ("pixels:8x8x1", "pixels:16x16x1", "pixels"):
            encoder = load_encoder(name)
            train_ND, val_ND = np.split(features(encoder, "fp32"), 2)
            for strength in STRENGTHS:
                scale = np.sqrt(train_ND.var(0).mean())
                model = LogisticRegression(C=strength, max_iter=500)
                model.fit((train_ND - train_ND.mean(0)) / scale, targets_N[:60])
                scores_N = model.decision_function((val_ND - train_ND.mean(0)) / scale)
                values[name, strength] = average_precision_score(targets_N[60:], scores_N)
        assert found.origin.objective == pytest.approx(max(values.values()), abs=1e-3)
        strength = found.origin.params["C"]
        assert values[found.encoder.name, strength] == pytest.approx(max(values.values()), abs=1e-3)
        side = int(found.encoder.width**0.5)
        assert (side < 32) == small
        assert found.origin.note == (
            f"logistic regression on {side} x {side} gray pixels, C = {strength:g}, size and C chosen on "
            "validation"
        )
