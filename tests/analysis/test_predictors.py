"""Zero-shot as linear heads, worked by hand on an encoder whose text features are known; raw pixels."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from analysis.predictors import PROMPTED, _prototype_head, pixel_floor, zero_shot
from cohort.errors import InputError
from cohort.geometry import apply_geometry
from tests.trainables.single_split import probe_data
from trainables.logistic import STRENGTHS
from vlm.encoders import load_encoder
from vlm.feature_kinds import side_by_side
from vlm.prompts import CHEST, Wording

CHEST_X_RAYS = Wording(modality=CHEST)


class TwoWords:
    """Prompts that deny point along the second axis, all others along the first; lengths differ."""

    logit_scale = 10.0
    kinds: ClassVar = side_by_side({"projected": (2,)})

    def text_features(self, prompts):
        rows = [[0.0, 5.0] if "no " in p or "without" in p else [2.0, 0.0] for p in prompts]
        return torch.tensor(rows)


class SpaceOfThree(TwoWords):
    """A third axis that no prompt speaks of, so that images of one length differ freely in the first two."""

    width = 3
    kinds: ClassVar = side_by_side({"projected": (3,)})

    def text_features(self, prompts):
        return torch.nn.functional.pad(super().text_features(prompts), (0, 1))


IMAGES_ND = np.array([[3.0, 4.0], [6.0, 8.0]], dtype=np.float32)  # of one direction, lengths 5 and 10


def scores_of(style):
    return _prototype_head(TwoWords(), ["Mass"], style, CHEST_X_RAYS).logits(IMAGES_ND)


def test_bare_names_give_raw_products():
    np.testing.assert_allclose(scores_of("name"), [[6.0], [12.0]])


def test_an_ensemble_gives_scaled_cosines_whatever_the_lengths():
    np.testing.assert_allclose(scores_of("ensemble"), [[6.0], [6.0]], rtol=1e-6)


def test_a_pair_gives_the_difference_of_presence_and_absence():
    np.testing.assert_allclose(scores_of("pair"), [[10 * (0.6 - 0.8)]] * 2, rtol=1e-5)


def test_an_unknown_style_is_refused():
    with pytest.raises(InputError, match="prompt style must be one of name, ensemble, pair, got 'poem'"):
        scores_of("poem")


@pytest.mark.parametrize(
    ("objective", "logits_of_the_first"),
    [("macro_auroc", 10 * 0.26), ("macro_f1", 10 * (0.26 - 0.60))],
)
def test_prompts_are_chosen_by_the_studys_objective(objective, logits_of_the_first):
    """By hand, in tens: 1 positive at (.26, .60), 2 at (.30, 0); 2 negatives at (.5, .5), 5 at (.1, .1).

    The ensemble scores x: positives beat 5 of 7 negatives, AUROC .714, best F1 6 / 8 = .75. The pair scores
    x - y: two of three positives beat all and one none, AUROC .667, best F1 4 / 5 = .80.
    """
    kinds = np.array([[0.26, 0.60], *[[0.30, 0.0]] * 2, *[[0.5, 0.5]] * 2, *[[0.1, 0.1]] * 5])
    third = np.sqrt(1 - (kinds**2).sum(1, keepdims=True))
    images_ND = np.tile(np.concatenate([kinds, third], axis=1), (10, 1))
    targets_NC = np.tile([[1.0]] * 3 + [[0.0]] * 7, (10, 1))
    images = np.arange(len(images_ND))
    data = probe_data(
        images_ND,
        targets_NC,
        images_ND,
        targets_NC,
        val_patients_N=images,
        val_folds_N=images // 10 % 5,
        labels=("Mass",),
    )
    _, prompted = zero_shot(data, SpaceOfThree(), CHEST_X_RAYS, objective)
    assert prompted.name == PROMPTED
    np.testing.assert_allclose(prompted.scores(images_ND[:1]), [[logits_of_the_first]], rtol=1e-5)


def painted(targets_N, rng):
    """uint8 (N, 48, 48, 3): noise whose hue leans towards red where positive, by shifts that gray cancels."""
    red = 20 * (2 * targets_N[:, None, None] - 1) + rng.normal(0, 20, (len(targets_N), 48, 48))
    level = rng.normal(120, 10, red.shape)
    rgb = np.stack([level + red, level - red * 0.299 / 0.587, level], axis=-1)
    return rgb.clip(0, 255).astype(np.uint8)


def pixel_floor_of(images_NHWC, targets_N, channels):
    """The floor on 60 training and 60 validation images, and the features of every size."""

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
    return pixel_floor(data, channels, features, "macro_ap").predictor, features


def test_raw_pixels_see_the_hue_that_gray_does_not_show():
    rng = np.random.default_rng(0)
    targets_N = rng.permutation(np.arange(120) % 2)
    images_NHWC = painted(targets_N, rng)
    seen, _ = pixel_floor_of(images_NHWC, targets_N, channels=3)
    blind, _ = pixel_floor_of(images_NHWC, targets_N, channels=1)
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
        floor, features = pixel_floor_of(noisy.clip(0, 255).astype(np.uint8), targets_N, channels=1)
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
        assert floor.origin.objective == pytest.approx(max(values.values()), abs=1e-3)
        strength = floor.origin.params["C"]
        assert values[floor.encoder.name, strength] == pytest.approx(max(values.values()), abs=1e-3)
        side = int(floor.encoder.width**0.5)
        assert (side < 32) == small
        assert floor.origin.note == (
            f"logistic regression on {side} x {side} gray pixels, C = {strength:g}, size and C chosen on "
            "validation"
        )


# Exclusive labels


def test_floors_of_exclusive_labels_decide_for_one_and_every_label_is_no_floor(of_classes):
    rows = {row.name: row for row in of_classes.evidence.rows}
    assert "all-positive" not in rows
    train_NC = of_classes.study.cohort.targets_NC(of_classes.study.cohort.indices("train"))
    positives_C = np.nansum(train_NC, axis=0)
    assert (rows["prevalence"].test_decisions_NC.argmax(1) == positives_C.argmax()).all()
    known = (~np.isnan(train_NC).any(1)).sum()
    np.testing.assert_allclose(rows["prevalence"].test_unit_NC[0], (positives_C + 0.5) / (known + 2))
    assert set(rows["random"].test_decisions_NC.argmax(1)) == {0, 1, 2, 3}
    for row in rows.values():
        assert row.rule.exclusive and (row.test_decisions_NC.sum(1) == 1).all()
        np.testing.assert_allclose(row.test_unit_NC.sum(1), 1)
